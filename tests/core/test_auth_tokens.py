"""Simple tokens by a clock that the test moves."""

from __future__ import annotations

import pytest

from tercet.core.auth.tokens import CLEAR, Notice, SimpleTokens, digest_of, split_token


def _given(*names: str) -> SimpleTokens:
    tokens = SimpleTokens(10)
    tokens.take([Notice(name, digest_of("L" + name), 5) for name in names], 100)
    return tokens


def test_a_token_is_known_by_letters_and_index_together() -> None:
    tokens = _given("alice")
    assert tokens.use("Lalice", 5, 101) == "alice"
    assert tokens.use("Lalice", 6, 101) is None
    assert tokens.use("Lalicf", 5, 101) is None


def test_a_token_ends_some_time_after_its_last_use() -> None:
    tokens = _given("alice")
    assert tokens.use("Lalice", 5, 109.9) == "alice"
    assert tokens.use("Lalice", 5, 119.8) == "alice"
    assert tokens.use("Lalice", 5, 129.8) is None
    assert len(tokens) == 0


def test_sweeping_forgets_what_has_run_out_and_nothing_else() -> None:
    tokens = _given("alice", "bob")
    tokens.use("Lbob", 5, 105)
    tokens.sweep(110)
    assert len(tokens) == 1
    assert tokens.use("Lbob", 5, 110) == "bob"


def test_a_user_loses_all_tokens_and_others_none() -> None:
    tokens = _given("alice", "bob")
    tokens.take([Notice("alice", digest_of("second"), 9), Notice("alice")], 101)
    assert tokens.use("Lalice", 5, 102) is None
    assert tokens.use("second", 9, 102) is None
    assert tokens.use("Lbob", 5, 102) == "bob"
    tokens.take([CLEAR], 102)
    assert tokens.use("Lbob", 5, 102) is None


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("abc.12", ("abc", 12)), ("abc.0", ("abc", 0)), (".5", ("", 5)), ("abc", None), ("abc.", None),
        ("a.b.c", None), ("a.1.2", None), ("abc.-1", None), ("abc.+1", None), ("abc. 1", None),
        ("abc.١", None), ("abc.99999999999999999999999", None), ("", None),
        ("." + "7" * 20, None), ("abc." + "0" * 20, ("abc", 0)), ("abc." + "0" * 21, None),
        ("abc.18446744073709551615", ("abc", 2**64 - 1)), ("abc.18446744073709551616", None),
    ],
)  # fmt: skip
def test_a_simple_token_is_letters_a_point_and_an_index(
    token: str, parts: tuple[str, int] | None
) -> None:
    assert split_token(token) == parts


def test_what_members_keep_does_not_show_the_letters() -> None:
    assert b"secretletters" not in digest_of("secretletters")
    assert digest_of("a") != digest_of("b")
