"""The pid file names who wrote it last, and goes with its owner alone."""

import os

import pytest

from gproxy.errors import PidFileError
from gproxy.pidfile import PidFile
from tests.support.child import in_child


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gproxy.pid"


def test_it_names_this_process(path):
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"


def test_everybody_may_read_it(path):
    PidFile(str(path)).write()
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("stale", ["1\n", "", "not a number", "9" * 100])
def test_what_it_said_before_stops_no_start(path, stale):
    path.write_text(stale)
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"


def test_who_has_the_old_file_open_reads_it_to_its_end(path):
    """It is replaced, not written over: nobody reads half a number."""
    path.write_text("1234567\n")
    with path.open() as reader:
        PidFile(str(path)).write()
        assert reader.read() == "1234567\n"


def test_nothing_is_left_beside_it(path):
    PidFile(str(path)).write()
    assert os.listdir(path.parent) == ["gproxy.pid"]


def test_nothing_is_left_beside_one_that_could_not_be_written(path, monkeypatch):
    def full(_old, _new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PidFileError, match="No space left on device"):
        PidFile(str(path)).write()
    assert os.listdir(path.parent) == []


def test_a_directory_that_is_not_there(path):
    with pytest.raises(PidFileError, match=r"cannot write the pid file /.*/no/gproxy.pid: No such file or directory"):
        PidFile(str(path.parent / "no" / "gproxy.pid")).write()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_not_a_regular_file_is_left_alone(path, make):
    make(path)
    with pytest.raises(PidFileError, match="exists and is not a regular file"):
        PidFile(str(path)).write()


def test_it_goes_with_its_owner(path):
    file = PidFile(str(path))
    file.write()
    file.remove()
    assert not path.exists()


def test_a_child_does_not_take_it_away(path):
    file = PidFile(str(path))
    file.write()
    in_child(file.remove)
    assert path.exists()


def test_the_file_of_the_next_master_stays(path):
    file = PidFile(str(path))
    file.write()
    in_child(PidFile(str(path)).write)
    file.remove()
    assert path.exists()


@pytest.mark.parametrize("text", ["", "what is this?"])
def test_a_file_that_says_something_else_stays(path, text):
    path.write_text(text)
    PidFile(str(path)).remove()
    assert path.exists()


def test_one_that_is_gone_already_is_no_error(path):
    PidFile(str(path)).remove()


def test_it_stays_where_it_is_when_we_go_elsewhere(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    file = PidFile("gproxy.pid")
    monkeypatch.chdir("/")
    file.write()
    assert path.exists()
