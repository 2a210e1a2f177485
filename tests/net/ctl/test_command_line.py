"""From words to a command: what is found, what flags mean, and what is said when there is nothing to find."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from tercet.net.ctl.command import Command
from tercet.net.ctl.context import Context, Settings
from tercet.net.ctl.etcdctl_table import ETCDCTL
from tercet.net.ctl.etcdutl_table import ETCDUTL
from tercet.net.ctl.find import UnknownCommand, all_flags, find, suggestions
from tercet.net.ctl.flagset import Flag, FlagError, parse_flags
from tercet.net.ctl.run import run_program
from tercet.net.ctl.tabwriter import align
from tercet.net.ctl.usage import help_text

FLAGS = {
    flag.name: flag
    for flag in (
        Flag("limit", "int", 0, "how many"),
        Flag("prefix", "bool", False, "all below", "p"),
        Flag("write-out", "string", "simple", "format", "w"),
        Flag("endpoints", "strings", ("a",), "where"),
        Flag("timeout", "duration", 5.0, "how long"),
    )
}


def run(capfd: pytest.CaptureFixture[str], *words: str, env: Mapping[str, str] = {}) -> tuple[int, str, str]:
    status = run_program(ETCDCTL, words, env)
    out, err = capfd.readouterr()
    return status, out, err


def test_flags_come_in_every_spelling_and_anywhere() -> None:
    words = ["a", "--limit=3", "-p", "b", "--write-out", "json", "--timeout=1m", "--", "-x"]
    parsed = parse_flags(FLAGS, words)
    assert parsed.arguments == ["a", "b", "-x"]
    assert parsed.given == {"limit": 3, "prefix": True, "write-out": "json", "timeout": 60.0}
    assert parsed.dash == 2
    assert parse_flags(FLAGS, ["-wjson"]).given == {"write-out": "json"}
    assert parse_flags(FLAGS, ["-pw=json"]).given == {"prefix": True, "write-out": "json"}
    assert parse_flags(FLAGS, ["--prefix=false"]).given == {"prefix": False}
    assert parse_flags(FLAGS, ["--endpoints=a,b", "--endpoints", "c"]).given == {"endpoints": ("a", "b", "c")}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-pz"], "unknown shorthand flag: 'z' in -z"),
        (["--=x"], "bad flag syntax: --=x"),
        (["--limit"], "flag needs an argument: --limit"),
        (["-w"], "flag needs an argument: 'w' in -w"),
        (
            ["--limit=x"],
            'invalid argument "x" for "--limit" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            ["--prefix=maybe"],
            'invalid argument "maybe" for "-p, --prefix" flag:'
            ' strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_wrong_flags_are_told_in_the_words_users_know(words: list[str], problem: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse_flags(FLAGS, words)
    assert str(caught.value) == problem


def test_a_command_is_found_behind_and_between_flags() -> None:
    path, rest = find(ETCDCTL, ["--endpoints", "x", "member", "-w", "json", "list", "y"])
    assert [command.name for command in path] == ["etcdctl", "member", "list"]
    assert rest == ["--endpoints", "x", "-w", "json", "y"]
    path, _ = find(ETCDCTL, ["snap", "rest", "file"])
    assert [command.name for command in path] == ["etcdctl", "snapshot", "restore"]
    path, _ = find(ETCDCTL, ["compact", "3"])
    assert path[-1].name == "compaction"


def test_an_unknown_flag_takes_the_next_word_with_it() -> None:
    with pytest.raises(UnknownCommand) as caught:
        find(ETCDCTL, ["--frob", "get", "x"])
    assert str(caught.value) == 'unknown command "x" for "etcdctl"\n\nDid you mean this?\n\ttxn\n'


def test_an_unknown_command_is_quoted() -> None:
    with pytest.raises(UnknownCommand) as caught:
        find(ETCDCTL, ["b\udcff\n"])
    assert str(caught.value) == 'unknown command "b\\xff\\n" for "etcdctl"'


def test_what_is_no_flag_takes_no_value_with_it() -> None:
    for words in (["-", "get", "x"], ["-=", "get", "x"], ["--a=b", "get", "x"]):
        path, rest = find(ETCDCTL, words)
        assert ([command.name for command in path], rest) == (["etcdctl", "get"], [words[0], "x"])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["--help"], True), (["-h"], True), (["--help=false"], False), (["-h", "--help=0"], False),
     (["-ph"], True), (["x", "--", "--help"], False)],
)  # fmt: skip
def test_help_is_asked_for_as_by_any_flag(words: list[str], wanted: bool) -> None:
    parsed = parse_flags(FLAGS, words)
    assert parsed.help is wanted
    assert "help" not in parsed.given


@pytest.mark.parametrize("words", [["--help", "--nope"], ["--help=x"], ["-hw"], ["--help", "--limit=x"]])
def test_wrong_flags_are_told_even_to_who_asks_for_help(words: list[str]) -> None:
    with pytest.raises(FlagError):
        parse_flags(FLAGS, words)


def test_suggestions_are_near_or_begin_alike() -> None:
    assert suggestions(ETCDCTL.root, "putt") == ["put", "auth"]
    assert suggestions(ETCDCTL.root, "frobnicate") == []
    assert "snapshot" in suggestions(ETCDCTL.root, "snap")


def test_an_unknown_command_is_told_twice_and_fails(capfd: pytest.CaptureFixture[str]) -> None:
    problem = 'Error: unknown command "frobnicate" for "etcdctl"\n'
    expected = f"{problem}Run 'etcdctl --help' for usage.\n{problem}"
    assert run(capfd, "frobnicate") == (1, "", expected)


def test_a_wrong_flag_shows_the_usage_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, "put", "k", "--nope")
    assert status == 1
    assert out.startswith("NAME:\n\tput - Puts the given key into the store\n\nUSAGE:\n\tetcdctl put ")
    assert err == "Error: unknown flag: --nope\n\nError: unknown flag: --nope\n"


@pytest.mark.parametrize("words", [["member"], ["member", "frob"], ["member", "--help"], ["help", "member"]])
def test_a_group_shows_its_commands(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, *words)
    assert (status, err) == (0, "")
    assert "COMMANDS:\n\tadd\tAdds a member into the cluster\n" in out
    assert "GLOBAL OPTIONS:\n" in out


def test_columns_are_as_wide_as_their_neighbours() -> None:
    assert align("a\tb\nlonger than\tc\n\nx\ty\n") == "a\t\tb\nlonger than\tc\n\nx\ty\n"
    assert align("12345678\tx\n") == "12345678\tx\n"
    assert align("\tindented\n") == "\tindented\n"


@pytest.mark.parametrize("program", [ETCDCTL, ETCDUTL], ids=["etcdctl", "etcdutl"])
def test_every_command_has_a_function_and_a_help_text(program: object) -> None:
    from importlib import import_module

    assert program in (ETCDCTL, ETCDUTL)
    chosen = ETCDCTL if program is ETCDCTL else ETCDUTL

    def walk(path: tuple[Command, ...]) -> None:
        text = help_text(chosen, path)
        assert text.startswith("NAME:\n\t")
        assert path[-1].short in text
        assert len(all_flags(chosen, path)) >= len(chosen.flags)
        if path[-1].run:
            module, _, function = path[-1].run.partition(":")
            assert callable(getattr(import_module(f"tercet.net.ctl.{module}"), function))
        else:
            assert path[-1].children
        for child in path[-1].children:
            walk((*path, child))

    walk((chosen.root,))


def test_hidden_flags_work_but_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert "count-only" not in help_text(ETCDCTL, ETCDCTL.path(("get",)))
    status, _, err = run(capfd, "get", "k", "--count-only", "--keys-only")
    assert status == 128
    assert err == "Error: `--keys-only` and `--count-only` cannot be set at the same time, choose one\n"


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        (["get"], 128, "get command needs one argument as key and an optional argument as range_end"),
        (["get", "a", "--order=UP"], 4, "bad sort order UP"),
        (["get", "a", "--consistency=x"], 4, 'unknown consistency flag "x"'),
        (["put", "a", "b", "--lease=zz"], 128,
         'bad lease ID (strconv.ParseInt: parsing "zz": invalid syntax), expecting ID in Hex'),
        (["del", "a", "b", "c"], 128,
         "del command needs one argument as key and an optional argument as range_end"),
        (["compaction", "abc"], 1, 'strconv.ParseInt: parsing "abc": invalid syntax'),
        (["lease", "grant", "abc"], 128, 'bad TTL (strconv.ParseInt: parsing "abc": invalid syntax)'),
        (["member", "add", "n", "http://x:1"], 128, "too many arguments, did you mean --peer-urls=http://x:1"),
        (["member", "add", "n4", "--peer-urls=127.0.0.1:1"], 1,
         'parse "127.0.0.1:1": first path segment in URL cannot contain colon'),
        (["member", "add", "n4", "--peer-urls=http://nope"], 1,
         'URL address does not have the form "host:port": http://nope'),
        (["move-leader", "zz"], 128, 'strconv.ParseUint: parsing "zz": invalid syntax'),
        (["role", "grant-permission", "r", "bogus", "k"], 128, "invalid permission type: bogus"),
        (["check", "perf", "--load=zz"], 4, "unknown load option zz"),
        (["watch", "a", "b", "--prefix"], 128, "`range_end` and `--prefix` are mutually exclusive"),
        (["elect", "a", "b", "c"], 128,
         "elect takes one election name argument and an optional proposal argument"),
        (["--cacert", "/no/such.pem", "get", "x"], 128, "open /no/such.pem: no such file or directory"),
        (["--cert", "/no/such.pem", "get", "x"], 128,
         "KeyFile and CertFile must both be present[key: , cert: /no/such.pem]"),
        (["get", "x", "-w", "yaml"], 4, "unsupported output format"),
        (["snapshot", "status", "/no/such.db"], 1, "stat /no/such.db: no such file or directory"),
    ],
)  # fmt: skip
def test_wrong_arguments_have_their_text_and_status(
    words: list[str], status: int, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(capfd, *words) == (status, "", f"Error: {problem}\n")


def test_a_flag_and_its_variable_contradict_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    env = {"ETCDCTL_ENDPOINTS": "127.0.0.1:1"}
    status, out, err = run(capfd, "--endpoints", "127.0.0.1:1", "get", "x", env=env)
    assert (status, out) == (1, "")
    assert err.endswith(
        ' C | pkg/flags: conflicting environment variable "ETCDCTL_ENDPOINTS" is shadowed by corresponding'
        " command-line flag (either unset environment variable or disable flag)\n"
    )


def test_an_unknown_variable_is_warned_of_and_a_known_one_is_used(capfd: pytest.CaptureFixture[str]) -> None:
    env = {"ETCDCTL_FOO": "1", "ETCDCTL_WRITE_OUT": "yaml", "ETCDCTL_API": "3"}
    status, _, err = run(capfd, "get", "x", env=env)
    assert status == 4
    warning, error = err.splitlines()
    assert warning.endswith(" W | pkg/flags: unrecognized environment variable ETCDCTL_FOO=1")
    assert error == "Error: unsupported output format"


def warned(text: str) -> str:
    return f" W | pkg/flags: unrecognized environment variable {text}"


@pytest.mark.parametrize(
    ("words", "env", "warnings"),
    [
        (("get", "x"), {"ETCDCTL_WATCH_KEY": "k"}, ["ETCDCTL_WATCH_KEY=k"]),
        (("watch", "x"), {"ETCDCTL_CLUSTER": "true"}, ["ETCDCTL_CLUSTER=true"]),
        (("endpoint", "status"), {"ETCDCTL_CLUSTER": "true"}, []),
        (("get", "x"), {"ETCDCTL_USER": ""}, ["ETCDCTL_USER="]),
        (("get", "x"), {"ETCDCTL_B": "1", "ETCDCTL_A": "2", "ETCDCTLX": "3"}, ["ETCDCTL_B=1", "ETCDCTL_A=2"]),
    ],
)
def test_variables_that_name_no_flag_of_the_command_are_warned_of(
    words: tuple[str, ...], env: dict[str, str], warnings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capfd, *words, "-w=yaml", env=env)
    *told, error = err.splitlines()
    assert (status, error) == (4, "Error: unsupported output format")
    assert len(told) == len(warnings)
    assert all(line.endswith(warned(text)) for line, text in zip(told, warnings, strict=True))


def test_a_flag_contradicts_its_variable_even_when_that_is_empty(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, "get", "x", "--user=a:b", env={"ETCDCTL_USER": ""})
    assert (status, out) == (1, "")
    assert 'conflicting environment variable "ETCDCTL_USER"' in err


def reached(*words: str, env: Mapping[str, str] = {}) -> Settings:
    """How a command line would reach the cluster."""
    path, rest = find(ETCDCTL, words)
    return Context(ETCDCTL, path, parse_flags(all_flags(ETCDCTL, path), rest), env, list(words)).settings()


@pytest.mark.parametrize(
    ("flag", "time", "answer"),
    [
        ("--keepalive-time=2s", 10.0, 6.0),  # etcd hangs up on who asks more often
        ("--keepalive-time=30s", 30.0, 6.0),
        ("--keepalive-time=0s", math.inf, 6.0),
        ("--keepalive-timeout=0s", 10.0, 20.0),
    ],
)
def test_a_silent_server_is_asked_for_signs_of_life_as_seldom_as_grpc_asks(
    flag: str, time: float, answer: float
) -> None:
    found = reached("get", "x", flag)
    assert (found.keepalive_time, found.keepalive_timeout) == (time, answer)


def test_what_is_no_boolean_in_a_variable_means_no() -> None:
    assert reached("get", "x").tls is None
    assert reached("get", "x", env={"ETCDCTL_INSECURE_TRANSPORT": "maybe"}).tls is not None
    assert reached("get", "x", env={"ETCDCTL_COMMAND_TIMEOUT": "maybe"}).command_timeout == 5.0


def test_other_versions_of_the_api_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "get", "x", env={"ETCDCTL_API": "2"}) == (1, "", "unsupported API version 2\n")


def test_completion_offers_commands_and_flags(capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capfd, "__complete", "member", "")
    offered = [line.split("\t")[0] for line in out.splitlines()]
    assert offered == ["add", "list", "promote", "remove", "update"]
    _, out, _ = run(capfd, "__complete", "get", "--pre")
    assert out == "--prefix\tGet keys with matching prefix\n"
    _, out, _ = run(capfd, "__complete", "sna")
    assert out.startswith("snapshot\t")
    assert run(capfd, "__complete", "nothing", "")[1] == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_a_completion_script_names_both_programs(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, "completion", shell)
    assert (status, err) == (0, "")
    assert "__complete" in out
    assert "etcdctl" in out
    assert "tercetctl" in out


def test_debug_tells_every_global_flag_but_no_password(capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--debug", "--user=joe:s3cret", "--endpoints=127.0.0.1:1", "--command-timeout=10ms", "get", "a")
    status, _, err = run(capfd, *words, env={"ETCDCTL_DIAL_TIMEOUT": "90s", "ETCDCTL_PASSWORD": "s3cret"})
    lines = err.splitlines()
    assert status != 0
    assert {"ETCDCTL_DIAL_TIMEOUT=1m30s", "ETCDCTL_KEEPALIVE_TIME=2s", "ETCDCTL_HEX=false"} <= set(lines)
    assert {"ETCDCTL_USER=joe", "ETCDCTL_ENDPOINTS=[127.0.0.1:1]", "ETCDCTL_DEBUG=true"} <= set(lines)
    assert "s3cret" not in err
