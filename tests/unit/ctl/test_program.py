"""The command line of ctl."""

import pytest

from gproxy import cli
from gproxy.ctl.program import ACTIONS, parser


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("status", {"backend": None, "json": None}),
        ("drain app/b1 --wait --timeout 30s", {"backend": ("app", "b1"), "wait": True, "timeout": 30.0}),
        ("drain app/unix:/run/a.sock", {"backend": ("app", "unix:/run/a.sock"), "wait": False, "timeout": 300.0}),
        ("weight app/b1 5", {"weight": 5}),
        ("weight app/b1 default", {"weight": None}),
        ("eject app/b1 --for 500ms", {"seconds": 0.5}),
        ("eject app/b1", {"seconds": 60.0}),
        ("log", {"level": None}),
        ("log debug", {"level": "debug"}),
        ("reload --wait", {"wait": True, "timeout": 120.0}),
        ("decisions", {"last": 20}),
        ("health app", {"upstream": "app"}),
        ("--json status", {"json": True}),
        ("status --json", {"json": True}),
        ("-c a status", {"config": "a"}),
        ("status -c a", {"config": "a"}),
    ],
)
def test_what_is_asked(line, values):
    found = vars(parser().parse_args(line.split()))
    assert {name: found[name] for name in values} == values


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "required: COMMAND"),
        ("stop", "invalid choice: 'stop'"),
        ("drain", "required: UPSTREAM/BACKEND"),
        ("drain b1", "'b1' is not UPSTREAM/BACKEND, such as app/b1"),
        ("drain app/", "'app/' is not UPSTREAM/BACKEND"),
        ("weight app/b1 much", "'much' is neither a whole number nor default"),
        ("eject app/b1 --for soon", "must be a duration such as 5, 500ms, 5s"),
        ("log trace", "invalid choice: 'trace'"),
        ("decisions --last few", "invalid int value: 'few'"),
    ],
)
def test_what_is_wrong_is_said_with_status_2(line, why, capsys):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(line.split())
    assert why in capsys.readouterr().err


def test_each_command_has_a_help_of_its_own(capsys):
    for name in ACTIONS:
        with pytest.raises(SystemExit, match="0"):
            parser().parse_args([name, "--help"])
        assert f"usage: gproxy ctl {name} " in capsys.readouterr().out


def test_the_help_of_gproxy_names_the_subcommands(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli._balancer(["--help"])
    said = capsys.readouterr().out
    for name, command in cli.SUBCOMMANDS.items():
        assert f"gproxy {name:<7} {command.summary}" in said
