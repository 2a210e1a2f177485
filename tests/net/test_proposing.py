"""What waits to be proposed: in which order it is tried, what comes back, and what is forgotten."""

from __future__ import annotations

from tercet.core.machine import Command, Machine
from tercet.core.raft.types import Change, ChangeKind, ConfChange, Event, Propose, ProposeConfChange
from tercet.net.apply import Applier
from tercet.net.loop_ports import COMMAND_HEADER
from tercet.net.proposing import Proposing

ME, OTHER = 7, 8


def data_of(sequence: int, *, member: int = ME, size: int = 0) -> bytes:
    return COMMAND_HEADER.pack(Command.PUT, member, sequence) + bytes(size)


def change_of(sequence: int, *, member: int = ME) -> ConfChange:
    return ConfChange((Change(ChangeKind.ADD_VOTER, 9),), context=data_of(sequence, member=member))


def waiting_for(*sequences: int, batch_bytes: int = 1000) -> tuple[Proposing, Applier]:
    """Nothing to propose yet; clients wait for these."""
    applier = Applier(Machine(), ME)
    applier.waiters = {sequence: (lambda _: None, 10.0, 0) for sequence in sequences}
    return Proposing(ME, applier, batch_bytes), applier


def proposed(events: list[Event]) -> list[bytes]:
    return [data for event in events if isinstance(event, Propose) for data in event.entries]


def test_writes_go_in_batches_of_bounded_size_and_in_order() -> None:
    proposing, _ = waiting_for(1, 2, 3, 4, batch_bytes=180)
    proposing.entries = [data_of(1, size=80), data_of(2, size=80), data_of(3, size=500), data_of(4)]
    events = proposing.take()
    assert [len(event.entries) for event in events if isinstance(event, Propose)] == [1, 1, 1, 1]
    proposing.entries = [data_of(1, size=40), data_of(2, size=40), data_of(3, size=150)]
    events = proposing.take()
    assert [len(event.entries) for event in events if isinstance(event, Propose)] == [2, 1]
    assert proposed(events) == [data_of(1, size=40), data_of(2, size=40), data_of(3, size=150)]
    assert proposing.take() == []


def test_what_came_back_is_tried_again_first_and_not_before_the_next_tick() -> None:
    proposing, _ = waiting_for(1, 2, 3)
    proposing.entries = [data_of(2)]
    proposing.changes = [change_of(3)]
    proposing.hold((data_of(1),), (), 0.0)
    assert not proposing.ready
    proposing.sweep(0.1)
    assert proposing.ready
    assert proposing.take() == [Propose((data_of(1), data_of(2))), ProposeConfChange(change_of(3))]
    assert not proposing.ready


def test_what_nobody_waits_for_any_more_is_forgotten() -> None:
    proposing, applier = waiting_for(1, 2, 3, 4)
    proposing.entries = [data_of(1), data_of(2)]
    proposing.changes = [change_of(3), change_of(4)]
    del applier.waiters[1], applier.waiters[3]
    proposing.sweep(0.1)
    assert proposing.take() == [Propose((data_of(2),)), ProposeConfChange(change_of(4))]
    proposing.hold((data_of(1),), (change_of(3),), 0.2)
    proposing.sweep(0.3)
    assert proposing.take() == []


def test_what_others_asked_for_is_passed_on_for_a_while() -> None:
    proposing, _ = waiting_for(1)
    proposing.hold((data_of(1, member=OTHER), data_of(1)), (change_of(2, member=OTHER),), 0.0)
    proposing.sweep(1.0)
    assert proposing.take() == [
        Propose((data_of(1),)), Propose((data_of(1, member=OTHER),)),
        ProposeConfChange(change_of(2, member=OTHER)),
    ]  # fmt: skip
    proposing.hold((data_of(1, member=OTHER),), (), 1.0)
    proposing.sweep(100.0)
    assert proposing.take() == []
