"""Dropping to a user, by children of a root process. These tests need root."""

import os
import pwd

import pytest

from gproxy.core.settings import Identity
from gproxy.errors import PrivilegeError
from gproxy.privileges import drop
from tests.support.child import in_child

ENTRY = pwd.getpwnam("daemon")
DAEMON = Identity(ENTRY.pw_uid, ENTRY.pw_gid, "daemon")
NAMELESS = Identity(54321, 54322, "54321")


def test_a_child_becomes_the_user_in_every_respect():
    def work():
        drop(DAEMON)
        return os.getresuid(), os.getresgid()

    assert in_child(work) == ((DAEMON.uid,) * 3, (DAEMON.gid,) * 3)


def test_it_has_the_user_s_groups_and_none_of_root_s():
    def work():
        os.setgroups([0, 4711])
        drop(DAEMON)
        return set(os.getgroups())

    assert in_child(work) == set(os.getgrouplist("daemon", DAEMON.gid))


def test_a_user_without_a_name_has_its_group_alone():
    def work():
        os.setgroups([0, 4711])
        drop(NAMELESS)
        return os.getresuid(), os.getgroups()

    assert in_child(work) == ((54321,) * 3, [54322])


@pytest.mark.parametrize("back", [lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])])
def test_there_is_no_way_back(back):
    def work():
        drop(DAEMON)
        back()

    with pytest.raises(PermissionError):
        in_child(work)


def test_who_is_the_user_already_stays_it():
    def work():
        drop(DAEMON)
        drop(DAEMON)
        return os.getresuid()

    assert in_child(work) == (DAEMON.uid,) * 3


def test_root_may_be_named_too():
    def work():
        drop(Identity(0, 0, "root"))
        return os.getresuid()

    assert in_child(work) == (0, 0, 0)


def test_who_is_not_root_cannot_become_another():
    def work():
        drop(NAMELESS)
        drop(DAEMON)

    with pytest.raises(
        PrivilegeError, match=r"cannot run as user daemon \(uid \d+, gid \d+\): Operation not permitted"
    ):
        in_child(work)


def test_a_way_back_to_root_is_an_error():
    def work():
        os.setuid = lambda _uid: None  # as if the process had kept the capability
        drop(DAEMON)

    with pytest.raises(PrivilegeError, match="it could become root again"):
        in_child(work)


def test_ids_that_did_not_change_are_an_error():
    def work():
        os.setresgid = lambda *_gids: None
        drop(DAEMON)

    with pytest.raises(PrivilegeError, match="the kernel left us other ids"):
        in_child(work)
