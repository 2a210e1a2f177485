"""The small languages: conditions of transactions, and what watches are told."""

from __future__ import annotations

import pytest

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.ctl.do_kv import key_range
from tercet.net.ctl.do_txn import read_compare
from tercet.net.ctl.failures import INVALID_INPUT, Failure
from tercet.net.ctl.watch_words import BadWatch, watch_words


@pytest.mark.parametrize(
    ("line", "target", "field", "wanted"),
    [
        (b'ver("k") = "2"', rpc.Compare.VERSION, "version", 2),
        (b'version("k") = "2"', rpc.Compare.VERSION, "version", 2),
        (b'c("k") = "-1"', rpc.Compare.CREATE, "create_revision", -1),
        (b'mod("k") = "7"', rpc.Compare.MOD, "mod_revision", 7),
        (b'value("k") = "x y"', rpc.Compare.VALUE, "value", b"x y"),
        (b'val("k") = "\\x00"', rpc.Compare.VALUE, "value", b"\0"),
        (b'lease("k") = "ff"', rpc.Compare.LEASE, "lease", 255),
        (b'value(`k`) = `a\\"`', rpc.Compare.VALUE, "value", b'a\\"'),
        (b'mod( "k")  =  "7" and more', rpc.Compare.MOD, "mod_revision", 7),
    ],
)
def test_a_condition_names_a_field_and_a_value(
    line: bytes, target: int, field: str, wanted: int | bytes
) -> None:
    compare = read_compare(line)
    assert compare.target == target
    assert compare.key == b"k"
    assert compare.WhichOneof("target_union") == field
    assert getattr(compare, field) == wanted


def test_every_relation_is_known() -> None:
    relations = [read_compare(f'mod("k") {sign} "1"'.encode()).result for sign in ("=", "!=", "<", ">")]
    assert relations == [rpc.Compare.EQUAL, rpc.Compare.NOT_EQUAL, rpc.Compare.LESS, rpc.Compare.GREATER]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"nothing", "malformed comparison: nothing"),
        (b"value(", 'malformed comparison: value(; got value("")  ""'),
        (b'value ("a") = "x"', 'malformed comparison: value ("a") = "x" (unknown target value )'),
        (b'value(`a`) = `x', 'malformed comparison: value(`a`) = `x; got value("a") = ""'),
        (b'value("a"', 'malformed comparison: value("a"; got value("a")  ""'),
        (b'c("a")<"5"', 'malformed comparison: c("a")<"5"; got c("a")  ""'),
        (b'foo("a") = "x"', 'malformed comparison: foo("a") = "x" (unknown target foo)'),
        (b'mod("a") = "x"', 'invalid txn compare request: mod("a") = "x"'),
        (b'mod("a") ~ "1"', 'malformed comparison: mod("a") ~ "1" (unknown result ~)'),
    ],
)
def test_a_malformed_condition_is_bad_input(line: bytes, problem: str) -> None:
    with pytest.raises(Failure) as caught:
        read_compare(line)
    assert (caught.value.status, caught.value.text) == (INVALID_INPUT, problem)


def test_a_prefix_or_an_open_end_makes_a_range() -> None:
    assert key_range(b"a", b"", True, False) == (b"a", b"b")
    assert key_range(b"a\xff", b"", True, False) == (b"a\xff", b"b")
    assert key_range(b"a", b"", False, True) == (b"a", b"\0")
    assert key_range(b"", b"", True, False) == (b"\0", b"\0")
    assert key_range(b"a", b"c", False, False) == (b"a", b"c")


def test_a_watch_takes_keys_from_words_or_the_environment() -> None:
    assert watch_words(["a", "b"], -1, {}).keys == (b"a", b"b")
    environment = {"ETCDCTL_WATCH_KEY": "k", "ETCDCTL_WATCH_RANGE_END": "m"}
    assert watch_words([], -1, environment).keys == (b"k", b"m")
    found = watch_words(["a", "echo", "hi"], 1, {})
    assert (found.keys, found.command) == ((b"a",), ("echo", "hi"))
    found = watch_words(["echo"], 0, {"ETCDCTL_WATCH_KEY": "k"})
    assert (found.keys, found.command) == ((b"k",), ("echo",))


@pytest.mark.parametrize(
    ("arguments", "dash", "environment", "problem"),
    [
        ([], -1, {}, "bad number of arguments"),
        (["a"], 1, {}, "bad number of arguments (found separator --, but no commands)"),
        (["a"], -1, {"ETCDCTL_WATCH_KEY": "k"},
         "bad number of arguments (found conflicting environment key)"),
        (["a"], -1, {"ETCDCTL_WATCH_RANGE_END": "z"},
         'ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END="z"'),
    ],
)  # fmt: skip
def test_a_watch_that_contradicts_itself_is_refused(
    arguments: list[str], dash: int, environment: dict[str, str], problem: str
) -> None:
    with pytest.raises(BadWatch) as caught:
        watch_words(arguments, dash, environment)
    assert str(caught.value) == problem


def test_a_watch_of_more_than_two_words_is_of_the_first_alone() -> None:
    words = watch_words(["a", "b", "c"], -1, {})
    request = words.request(prefix=True, revision=0, prev_kv=False, notify=False)
    assert request == rpc.WatchCreateRequest(key=b"a", range_end=b"b")


def test_a_watch_with_a_command_and_no_key_is_of_nothing() -> None:
    words = watch_words(["echo"], 0, {})
    with pytest.raises(BadWatch, match=r"^bad number of arguments$"):
        words.request(prefix=False, revision=0, prev_kv=False, notify=False)


def test_the_request_of_a_watch_has_its_flags() -> None:
    words = watch_words(["a"], -1, {})
    request = words.request(prefix=True, revision=7, prev_kv=True, notify=False)
    assert request == rpc.WatchCreateRequest(key=b"a", range_end=b"b", start_revision=7, prev_kv=True)
