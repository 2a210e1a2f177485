"""Intervals of permissions against a dumb twin that looks at every key of a small alphabet."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.auth.ranges import Coverage, interval

_KEYS = [bytes(letters) for size in (1, 2) for letters in itertools.product(b"\0abc", repeat=size)]
_ENDS = st.sampled_from([b"", b"\0", *_KEYS])
_RANGES = st.tuples(st.sampled_from(_KEYS), _ENDS)


def _holds(key: bytes, start: bytes, end: bytes | None) -> bool:
    return start <= key and (end is None or key < end)


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        ([(b"a", b"")], (b"a", b""), True),
        ([(b"a", b"")], (b"b", b""), False),
        ([(b"a", b"")], (b"a\0", b""), False),
        ([(b"a", b"c")], (b"a", b"c"), True),
        ([(b"a", b"c")], (b"b", b""), True),
        ([(b"a", b"c")], (b"c", b""), False),
        ([(b"a", b"c")], (b"a", b"d"), False),
        ([(b"a", b"c")], (b"a", b"\0"), False),
        ([(b"a", b"c"), (b"c", b"e")], (b"a", b"e"), True),
        ([(b"a", b"c"), (b"b", b"e")], (b"a", b"e"), True),
        ([(b"a", b"c"), (b"d", b"e")], (b"a", b"e"), False),
        ([(b"a", b""), (b"a\0", b"b")], (b"a", b"b"), True),
        ([(b"m", b"\0")], (b"z", b"\0"), True),
        ([(b"m", b"\0")], (b"m", b"zz"), True),
        ([(b"m", b"\0")], (b"l", b"\0"), False),
        ([(b"m", b"\0"), (b"a", b"m")], (b"a", b"\0"), True),
        ([(b"", b"\0")], (b"\0", b"\0"), True),
        ([(b"c", b"a")], (b"b", b""), False),
        ([], (b"a", b""), False),
    ],
)
def test_a_range_is_covered_when_the_grants_together_hold_all_of_it(
    granted: list[tuple[bytes, bytes]], asked: tuple[bytes, bytes], covered: bool
) -> None:
    assert Coverage(interval(*one) for one in granted).covers(*interval(*asked)) is covered


@given(st.lists(_RANGES, max_size=6), _RANGES)
def test_no_key_is_covered_that_no_grant_holds(
    granted: list[tuple[bytes, bytes]], asked: tuple[bytes, bytes]
) -> None:
    coverage = Coverage(interval(*one) for one in granted)
    start, end = interval(*asked)
    if coverage.covers(start, end):
        for key in _KEYS:
            if _holds(key, start, end):
                assert any(_holds(key, *interval(*one)) for one in granted)


@given(st.lists(_RANGES, max_size=6), st.sampled_from(_KEYS))
def test_every_key_of_a_grant_is_covered(granted: list[tuple[bytes, bytes]], key: bytes) -> None:
    coverage = Coverage(interval(*one) for one in granted)
    assert coverage.covers(key, key + b"\0") == any(_holds(key, *interval(*one)) for one in granted)
