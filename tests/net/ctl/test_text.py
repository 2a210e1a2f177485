"""Go's texts for numbers, durations, quoted words and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.net.ctl.argify import split_line, unquoted
from tercet.net.ctl.text import (
    duration_text,
    parse_bool,
    parse_duration,
    parse_int,
    parse_uint,
    quoted,
    size_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (5, "5s"), (1.5, "1.5s"), (90, "1m30s"), (3600, "1h0m0s"), (0.0015, "1.5ms"),
     (0.000315, "315µs"), (1e-9, "1ns"), (-2, "-2s"), (0.25, "250ms")],
)  # fmt: skip
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.integers(0, 10**13))
def test_a_written_duration_reads_back(nanoseconds: int) -> None:
    read = parse_duration(duration_text(nanoseconds / 1e9))
    assert read == pytest.approx(nanoseconds / 1e9, abs=2e-9)


@pytest.mark.parametrize(
    ("word", "problem"),
    [("abc", 'time: invalid duration "abc"'), ("1", 'time: missing unit in duration "1"'),
     ("1.2.3s", 'time: missing unit in duration "1.2.3s"'), ("1s.", 'time: invalid duration "1s."'),
     ("9999999h", 'time: invalid duration "9999999h"'),
     ("", 'time: invalid duration ""'), ("1y", 'time: unknown unit "y" in duration "1y"')],
)  # fmt: skip
def test_what_is_no_duration_is_told_in_gos_words(word: str, problem: str) -> None:
    with pytest.raises(ValueError, match="time: ") as caught:
        parse_duration(word)
    assert str(caught.value) == problem


def test_numbers_have_their_range_and_their_alphabet() -> None:
    assert parse_int("-7") == -7
    assert parse_int("deadbeef", 16) == 0xDEADBEEF
    assert parse_int("0x10", 0) == 16
    assert parse_int("017", 0) == 15
    assert [parse_int(word, 0) for word in ("1_000", "-0x_f", "0_17", "0b1_1")] == [1000, -15, 15, 3]
    for word in ("1__0", "_1", "1_", "0x1_", "0_", "-_1"):
        with pytest.raises(ValueError, match="invalid syntax"):
            parse_int(word, 0)
    assert parse_uint("f" * 16, 16) == (1 << 64) - 1
    for word, problem in (("9" * 20, "value out of range"), ("1_0", "invalid"), ("", "invalid syntax")):
        with pytest.raises(ValueError, match=problem):
            parse_int(word)
    with pytest.raises(ValueError, match="invalid syntax"):
        parse_uint("-1")


def test_only_gos_spellings_are_booleans() -> None:
    assert parse_bool("T") and parse_bool("1") and not parse_bool("False")
    with pytest.raises(ValueError, match=r'strconv\.ParseBool: parsing "yes": invalid syntax'):
        parse_bool("yes")


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain", '"plain"'), ('a"b\\', '"a\\"b\\\\"'), ("\n\t\x01", '"\\n\\t\\x01"'),
     (b"\xff\x00", '"\\xff\\x00"'), ("schlüssel €", '"schlüssel €"'),
     ("\u2028", '"\\u2028"'), ("\U0001f600", '"\U0001f600"')],
)  # fmt: skip
def test_texts_are_quoted_as_go_quotes_them(value: str | bytes, text: str) -> None:
    assert quoted(value) == text


@given(st.binary(max_size=40))
def test_a_quoted_text_says_what_it_quotes(data: bytes) -> None:
    assert unquoted(quoted(data).encode()) == data


def test_a_line_is_split_at_blanks_outside_of_quotes() -> None:
    line = b"""put  "a key" 'it is' --prev-kv "\\x41\\n" """
    assert split_line(line) == [b"put", b"a key", b"it is", b"--prev-kv", b"A\n"]
    assert split_line(b"  ") == []


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (9, "9 B"), (999, "999 B"), (1000, "1.0 kB"), (20_480, "20 kB"), (1_500_000, "1.5 MB"),
     (2_000_000_000, "2.0 GB")],
)  # fmt: skip
def test_sizes_have_decimal_units(size: int, text: str) -> None:
    assert size_text(size) == text
