"""Leases: the replicated table, and the leader's deadlines against a naive twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core import rpc_errors
from tercet.core.lease.deadlines import Deadlines
from tercet.core.lease.lessor import MAX_TTL, Lessor, minimum_ttl


@pytest.mark.parametrize(("election_timeout_ms", "seconds"), [(1000, 2), (100, 1), (2000, 3), (2001, 4)])
def test_the_shortest_lease_is_one_and_a_half_elections(election_timeout_ms: int, seconds: int) -> None:
    assert minimum_ttl(election_timeout_ms) == seconds


def test_grants_are_refused_for_a_known_reason_only() -> None:
    lessor = Lessor()
    assert lessor.grant(7, MAX_TTL) is None
    assert lessor.grant(7, 10) == rpc_errors.LEASE_EXISTS
    assert lessor.grant(8, MAX_TTL + 1) == rpc_errors.LEASE_TTL_TOO_LARGE
    assert lessor.grant(0, 10) == rpc_errors.LEASE_NOT_FOUND
    assert [lease.id for lease in lessor] == [7]


def test_new_grants_are_handed_out_once_and_not_after_they_have_gone() -> None:
    lessor = Lessor()
    lessor.grant(1, 10)
    lessor.grant(2, 10)
    lessor.remove(1)
    assert [lease.id for lease in lessor.take_granted()] == [2]
    assert lessor.take_granted() == []


def test_keys_hang_on_leases_that_exist() -> None:
    lessor = Lessor()
    lessor.grant(1, 10)
    lessor.attach(1, b"a")
    lessor.attach(2, b"b")
    lessor.detach(1, b"zz")
    lessor.detach(2, b"b")
    lessor.checkpoint(2, 5)
    lease = lessor.get(1)
    assert lease is not None and list(lease.keys) == [b"a"]
    lessor.detach(1, b"a")
    assert not lease.keys


def test_a_checkpoint_cannot_lengthen_a_lease() -> None:
    lessor = Lessor()
    lessor.grant(1, 10)
    lessor.checkpoint(1, 99)
    lease = lessor.get(1)
    assert lease is not None and lease.remaining == 10
    lessor.checkpoint(1, 4)
    assert lease.remaining == 4


LEASES = st.integers(1, 6)
MOMENTS = st.integers(0, 50).map(float)


@given(
    st.lists(st.tuples(st.sampled_from(["set", "drop", "due"]), LEASES, MOMENTS), max_size=200),
    st.integers(1, 4),
)
def test_deadlines_agree_with_a_plain_dictionary(steps: list[tuple[str, int, float]], limit: int) -> None:
    deadlines, twin = Deadlines(), dict[int, float]()
    for step, lease_id, moment in steps:
        if step == "set":
            deadlines.set(lease_id, moment)
            twin[lease_id] = moment
        elif step == "drop":
            deadlines.drop(lease_id)
            twin.pop(lease_id, None)
        else:
            expected = sorted((end, key) for key, end in twin.items() if end <= moment)[:limit]
            assert deadlines.due(moment, limit) == [key for _, key in expected]
        assert deadlines.next_end() == min(twin.values(), default=None)
        assert len(deadlines) == len(twin)
        assert deadlines.get(lease_id) == twin.get(lease_id)


def test_renewing_for_ever_does_not_let_the_heap_grow() -> None:
    deadlines = Deadlines()
    for moment in range(10_000):
        deadlines.set(moment % 8, float(moment))
    assert len(deadlines._heap) <= 128
    assert deadlines.due(1e9, 100) == [moment % 8 for moment in range(9_992, 10_000)]
