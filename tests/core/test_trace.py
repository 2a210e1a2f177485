"""Traces: written, read, replayed; every change of a trace is noticed."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from tercet.core.raft import Effects, HardState, RaftState, Tick, step
from tercet.core.trace import (
    BadTrace,
    Header,
    Note,
    Start,
    Step,
    Trace,
    TraceEncoder,
    merge,
    read_trace,
    verify,
)

from .traced_cluster import TracedCluster, small_history


@pytest.fixture(scope="module")
def data() -> bytes:
    return bytes(small_history().data)


def test_a_trace_of_a_whole_history_verifies(data: bytes) -> None:
    trace = read_trace(data)
    result = verify(trace.records)
    assert result.verdict == "valid"
    assert result.mismatches == ()
    assert result.steps == sum(isinstance(record, Step) for record in trace.records) > 200
    assert result.nodes == (1, 2, 3) == trace.nodes
    assert sum(isinstance(record, Start) for record in trace.records) == 4
    assert trace.name_of(2) == "n2"


def test_a_file_cut_anywhere_reads_up_to_there(data: bytes) -> None:
    whole = read_trace(data)
    for size in range(len(data) - 3000, len(data), 71):
        part = read_trace(data[:size])
        assert part.records == whole.records[: len(part.records)]
        assert part.truncated or len(data[:size]) == size
        assert verify(part.records).verdict == "valid"


@pytest.mark.parametrize("junk", [b"", b"TERCETTR", b"TERCETTR\x05\0\0\0junk!", b"{}" * 100])
def test_what_is_no_trace_is_refused(junk: bytes) -> None:
    with pytest.raises(BadTrace):
        read_trace(junk)


def test_a_trace_of_another_format_is_refused() -> None:
    with pytest.raises(BadTrace, match="has format 99"):
        read_trace(TraceEncoder().begin(Header(format_version=99)))


def test_a_damaged_record_is_refused(data: bytes) -> None:
    start = len(TraceEncoder().begin(read_trace(data).header))
    with pytest.raises(BadTrace, match="record 1 cannot be decoded"):
        read_trace(data[: start + 4] + b"\xc1" + data[start + 5 :])


def changed(trace: Trace, position: int, **changes: object) -> tuple[Step | Start | Note, ...]:
    records = list(trace.records)
    records[position] = replace(records[position], **changes)
    return tuple(records)


def steps_of(trace: Trace) -> list[int]:
    return [place for place, record in enumerate(trace.records) if isinstance(record, Step)]


def test_a_changed_digest_effect_event_or_order_is_noticed(data: bytes) -> None:
    trace = read_trace(data)
    place = next(
        place
        for place in steps_of(trace)
        if isinstance(record := trace.records[place], Step) and record.effects.entries
    )
    record = trace.records[place]
    assert isinstance(record, Step)
    other = replace(record.effects, hard_state=HardState(99))
    alterations: dict[str, dict[str, object]] = {
        "digest": {"digest": bytes(16)},
        "effects": {"effects": other},
        "order": {"sequence": record.sequence + 1},
    }
    for what, changes in alterations.items():
        (mismatch,) = verify(changed(trace, place, **changes)).mismatches
        assert (mismatch.position, mismatch.what) == (place, what)
    assert verify(changed(trace, place, event=Tick())).mismatches[0].position == place
    assert verify(changed(trace, place, event=Tick())).verdict == "invalid"


def test_a_changed_start_is_noticed(data: bytes) -> None:
    trace = read_trace(data)
    place = max(place for place, record in enumerate(trace.records) if isinstance(record, Start))
    (mismatch,) = verify(changed(trace, place, hard_state=HardState(7, 0, 0))).mismatches
    assert (mismatch.position, mismatch.what, mismatch.sequence) == (place, "start", 0)


def test_after_a_mismatch_the_node_is_skipped_until_it_starts_anew(data: bytes) -> None:
    trace = read_trace(data)
    place = steps_of(trace)[0]
    result = verify(changed(trace, place, digest=bytes(16)))
    assert len(result.mismatches) == 1
    assert result.skipped > 0
    assert result.steps + result.skipped + 1 == len(steps_of(trace))


def test_steps_without_a_start_prove_nothing(data: bytes) -> None:
    trace = read_trace(data)
    result = verify(record for record in trace.records if isinstance(record, Step))
    assert (result.verdict, result.steps) == ("unknown", 0)


def test_a_trace_of_changed_code_disagrees_where_the_change_mattered() -> None:
    def eager(state: RaftState, event: object) -> tuple[RaftState, Effects]:
        """Commits one entry more than is replicated, when it can."""
        after, effects = step(state, event)  # type: ignore[arg-type]
        if after.commit_index < after.log.last_index and after.commit_index > 1:
            after = replace(after, commit_index=after.commit_index + 1)
        return after, effects

    cluster = TracedCluster(step=eager)
    cluster.run(2500)
    cluster.propose(cluster.leader, b"a")
    cluster.run(50)
    cluster.propose(cluster.leader, b"b")
    trace = read_trace(bytes(cluster.data))
    assert {mismatch.what for mismatch in verify(trace.records).mismatches} == {"digest"}


def test_traces_of_several_members_merge_by_time(data: bytes) -> None:
    trace = read_trace(data)
    parts = [
        Trace(
            replace(trace.header, members=((node, f"n{node}"),)),
            tuple(record for record in trace.records if record.node == node),
            False,
        )
        for node in trace.nodes
    ]
    merged = merge(parts)
    assert merged.header.members == trace.header.members
    assert len(merged.records) == sum(record.node != 0 for record in trace.records)
    times = [record.time_ns for record in merged.records]
    assert times == sorted(times)
    assert verify(merged.records).verdict == "valid"
    assert merge([trace]) is trace


def test_every_event_and_effect_survives_the_file(data: bytes) -> None:
    for record in read_trace(data).records:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record)) == record
