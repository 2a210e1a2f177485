"""The log as a value: old views stay true, whatever happens to newer ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.raft.log import Log, empty_log, log_of
from tercet.core.raft.types import Entry


def entries(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(Entry(term, first + offset, b"%d" % term) for offset, term in enumerate(terms))


def content(log: Log) -> tuple[Entry, ...]:
    return log.entries(1, log.last_index)


def test_appending_to_the_newest_view_shares_the_buffer() -> None:
    log = log_of(entries(1, 1))
    longer = log.append(entries(2, 1))
    assert longer.buffer is log.buffer


def test_appending_to_an_older_view_leaves_the_newer_one_alone() -> None:
    log = log_of(entries(1, 1, 1))
    newer = log.append(entries(3, 1))
    other = log.append(entries(3, 2))
    assert content(newer) == entries(1, 1, 1, 1)
    assert content(other) == entries(1, 1, 1, 2)
    assert content(log) == entries(1, 1, 1)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(1, 3)), max_size=25))
def test_every_view_ever_made_stays_what_it_was(moves: list[tuple[int, int, int]]) -> None:
    views: list[tuple[Log, tuple[Entry, ...]]] = [(empty_log(), ())]
    for pick, cut, count in moves:
        log, known = views[pick % len(views)]
        keep = max(0, log.last_index - cut)
        fresh = entries(keep + 1, *([len(views)] * count))
        views.append((log.truncated(keep).append(fresh), known[:keep] + fresh))
        views[-1][0].digest()
    for log, known in views:
        assert content(log) == known
        assert log.digest() == log_of_any(known).digest()
        assert log == log_of_any(known)


def log_of_any(known: tuple[Entry, ...]) -> Log:
    return empty_log().append(known) if known else empty_log()


def test_logs_that_differ_have_other_digests() -> None:
    one = log_of((Entry(1, 1, b"a"),))
    other_term, other_data = log_of((Entry(2, 1, b"a"),)), log_of((Entry(1, 1, b"b"),))
    assert len({one.digest(), other_term.digest(), other_data.digest()}) == 3
    last = (Entry(3, 2, b"z"),)
    longer = [log.append(last).digest() for log in (one, other_term, other_data)]
    assert len(set(longer)) == 3
    assert one.append(last).truncated(1).digest() == one.digest()


def test_terms_outside_the_log_are_nobodys() -> None:
    log = log_of(entries(1, 1, 2))
    assert [log.term_at(index) for index in range(-1, 4)] == [-1, 0, 1, 2, -1]


def test_a_batch_fits_its_limits_but_is_never_empty() -> None:
    log = log_of(tuple(Entry(1, index, b"x" * 10) for index in range(1, 6)))
    assert [entry.index for entry in log.batch(2, 3, 1000)] == [2, 3, 4]
    assert [entry.index for entry in log.batch(2, 9, 25)] == [2, 3]
    assert [entry.index for entry in log.batch(2, 9, 1)] == [2]


def test_the_conflict_search_jumps_over_terms() -> None:
    log = log_of(entries(1, 1, 1, 4, 4, 6))
    assert log.last_not_after_term(5, 5) == 4
    assert log.last_not_after_term(4, 3) == 2
    assert log.last_not_after_term(99, 9) == 5
    assert log.last_not_after_term(3, 0) == 0


@pytest.mark.parametrize("bad", [entries(2, 1), (Entry(2, 1), Entry(1, 2)), (Entry(1, 1), Entry(1, 3))])
def test_a_log_has_no_gaps_and_its_terms_do_not_fall(bad: tuple[Entry, ...]) -> None:
    with pytest.raises(ValueError, match="cannot follow"):
        log_of(bad)
