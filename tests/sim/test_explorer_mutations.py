"""The harness finds each planted bug, shrinks it, replays it, and clears the shipped code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from tercet.core.raft import election
from tercet.jepsen_like.mutations import MUTATIONS
from tercet.jepsen_like.mutations.hunt import SHORT, Row, as_table, hunt
from tercet.jepsen_like.mutations.mutation import replaced
from tercet.jepsen_like.mutations.raft_logs import HARMLESS
from tercet.sim.explorer.random import explore

#: Where to begin with bugs that only rare schedules show, so that nobody waits for long. After a change of
#: the core they may be found later than that; ``tercet campaign zoo --starts 5`` begins elsewhere, too.
NEAR: Final[Mapping[str, int]] = {
    "B4": 1000, "B11": 500, "B12": 550, "B13": 6100, "B14": 60, "B18": 650, "B30": 820,
}


@pytest.mark.parametrize("name", [name for name, bug in MUTATIONS.items() if bug.world == "both"])
def test_a_planted_bug_is_found_shrunk_and_replayed(name: str) -> None:
    (row,) = hunt([MUTATIONS[name]], first_seed=NEAR.get(name, 0), cpu_seconds=300.0)
    assert row.found, row
    assert row.replayed and row.shipped_valid, row
    assert row.shrunk_to <= SHORT, row


def test_acknowledging_before_fsync_loses_entries_for_real() -> None:
    """Without comparing promises with the disk: what follows from the bug is enough to find it."""
    (row,) = hunt([MUTATIONS["ack-before-fsync"]], strict=False, cpu_seconds=60.0)
    assert row.found and row.rule != "promise before disk"


def test_a_slow_but_right_leader_is_not_accused() -> None:
    with HARMLESS.apply():
        assert explore(schedules=200).failure is None


def test_a_mutation_is_gone_after_its_block_even_after_an_error() -> None:
    before = election.may_vote
    with pytest.raises(RuntimeError), MUTATIONS["B1"].apply():
        assert election.may_vote is not before
        raise RuntimeError
    assert election.may_vote is before


def test_a_part_that_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(AttributeError), replaced(election, "no_such_part", len):
        pass


def test_the_table_says_what_was_not_found() -> None:
    row = Row("B0", "nowhere", False, 3, 1.0, "", 0, 0, False, True)
    assert "NOT FOUND" in as_table([row])
