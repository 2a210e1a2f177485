"""The write-ahead log's format: what was written comes back, and damage is never taken for data."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.errors import Corruption
from tercet.core.raft.types import Entry, HardState
from tercet.core.wal import (
    HEADER_BYTES,
    SECTOR,
    Identity,
    Position,
    Recovery,
    SegmentHeader,
    WrongDirectory,
    encode_header,
    encode_record,
    recover,
    segment_name,
)

OWNER = Identity(cluster_id=0xC1, member_id=0xA1)
CAPACITY = 8192

Batch = tuple[HardState | None, tuple[Entry, ...]]


class Log:
    """One segment being written, in memory."""

    def __init__(
        self, sequence: int = 0, first_index: int = 1, previous_crc: int = 0, nonce: int = 7
    ) -> None:
        self.header = SegmentHeader(OWNER, sequence, first_index, CAPACITY, previous_crc, nonce)
        self.position = Position(self.header.seed, HEADER_BYTES, previous_crc)
        self.parts = [encode_header(self.header)]
        self.ends = [HEADER_BYTES]

    def add(self, hard_state: HardState | None, *entries: Entry) -> Log:
        data, self.position = encode_record(self.position, hard_state, entries)
        self.parts.append(data)
        self.ends.append(self.position.offset)
        return self

    @property
    def name(self) -> str:
        return segment_name(self.header)

    @property
    def file(self) -> bytes:
        return b"".join(self.parts).ljust(CAPACITY, b"\0")


def read(*files: bytes) -> Recovery:
    return recover([(f"segment-{number}", data) for number, data in enumerate(files)], OWNER)


def small_log() -> Log:
    log = Log()
    log.add(HardState(1, 0xA1, 0), Entry(1, 1, b""))
    log.add(None, Entry(1, 2, b"first"), Entry(1, 3, b"second" * 40))
    log.add(HardState(2, 0, 2))
    return log.add(HardState(2, 0xB2, 3), Entry(2, 4, b"x" * 300), Entry(2, 5, b"y"))


# -- round trips ----------------------------------------------------------------------------------


def test_an_empty_log_gives_an_empty_state() -> None:
    found = read(Log().file)
    assert (found.hard_state, found.entries) == (HardState(), [])
    assert found.tail is not None
    assert found.tail.torn is None
    assert found.tail.position.offset == HEADER_BYTES


def test_later_entries_replace_the_suffix_from_their_index_on() -> None:
    log = Log().add(None, Entry(1, 1, b"a"), Entry(1, 2, b"b"), Entry(1, 3, b"c"))
    log.add(HardState(2, 0, 1), Entry(2, 2, b"B"))
    assert read(log.file).entries == [Entry(1, 1, b"a"), Entry(2, 2, b"B")]


#: A newer term; how many entries of the suffix are replaced; data of entries; a hard state's vote or none.
APPENDS = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 3),
        st.lists(st.binary(max_size=40) | st.integers(0, 700).map(bytes), max_size=3),
        st.sampled_from([None, 0, 2**64 - 1]),
    ),
    max_size=8,
)


def batches(appends: list[tuple[bool, int, list[bytes], int | None]]) -> list[Batch]:
    """Appends as Raft makes them: hard states, entries, and now and then a replaced suffix."""
    found: list[Batch] = []
    last, term = 0, 1
    for newer, back, data, vote in appends:
        term += newer
        start = max(1, last + 1 - back)
        entries = tuple(Entry(term, start + place, value) for place, value in enumerate(data))
        last = entries[-1].index if entries else last
        found.append((None if vote is None else HardState(term, vote), entries))
    return found


@given(APPENDS.map(batches))
def test_what_was_appended_comes_back(appended: list[Batch]) -> None:
    log, model, hard = Log(), dict[int, Entry](), HardState()
    for hard_state, entries in appended:
        if log.position.offset > CAPACITY - 3000:
            break
        log.add(hard_state, *entries)
        hard = hard_state or hard
        if entries:
            model = {index: entry for index, entry in model.items() if index < entries[0].index}
            model.update((entry.index, entry) for entry in entries)
    found = read(log.file)
    assert found.entries == [model[index] for index in sorted(model)]
    assert found.hard_state == hard
    assert found.tail is not None
    assert found.tail.position == log.position


def test_a_log_goes_on_through_segments() -> None:
    first = Log().add(HardState(1, 1, 0), Entry(1, 1, b"a"))
    second = Log(1, 2, first.position.crc, nonce=5).add(None, Entry(1, 2, b"b"))
    found = read(first.file, second.file)
    assert [entry.data for entry in found.entries] == [b"a", b"b"]
    assert found.tail is not None
    assert found.tail.header == second.header


@pytest.mark.parametrize("filler", [b"\0", b"\0\1", b"\1"])
def test_no_record_holds_a_sector_of_zeros(filler: bytes) -> None:
    for lead in range(0, 520, 8):
        log = Log().add(HardState(), Entry(1, 1, b"z" * lead), Entry(1, 2, (filler * 3000)[:3000]))
        start, end = log.ends[0], log.ends[1]
        for at in range(start // SECTOR * SECTOR, end, SECTOR):
            assert any(log.file[max(start, at) : min(end, at + SECTOR)])
        assert read(log.file).entries[1].data == (filler * 3000)[:3000]


# -- torn tails -----------------------------------------------------------------------------------


def torn_variants(log: Log) -> list[tuple[bool, bytes]]:
    """Every way in which the last record's sectors may have reached the disk: (all of them, file)."""
    whole, start, end = log.file, log.ends[-2], log.ends[-1]
    edges = [start, *range(start - start % SECTOR + SECTOR, end, SECTOR), end]
    spans = list(itertools.pairwise(edges))
    found = []
    for kept in itertools.product((False, True), repeat=len(spans)):
        data = bytearray(whole)
        for keep, (begin, stop) in zip(kept, spans, strict=True):
            if not keep:
                data[begin:stop] = bytes(stop - begin)
        found.append((all(kept), bytes(data)))
    return found


@pytest.mark.parametrize("value", [b"v" * 2300, bytes(2300), bytes(600) + b"q" * 1700], ids=["v", "0", "0q"])
@pytest.mark.parametrize("lead", [0, 400, 472, 480, 488])
def test_a_torn_last_record_is_cut_whichever_sectors_were_written(lead: int, value: bytes) -> None:
    log = Log().add(HardState(1, 1, 0), Entry(1, 1, b"l" * lead)).add(HardState(1, 1, 1), Entry(1, 2, value))
    for complete, data in torn_variants(log):
        found = read(data)
        assert found.tail is not None
        if complete:
            assert [entry.index for entry in found.entries] == [1, 2]
        else:
            assert [entry.index for entry in found.entries] == [1]
            assert found.hard_state == HardState(1, 1, 0)
            assert found.tail.position.offset == log.ends[-2]
            torn = found.tail.torn
            assert torn is None or not any(data[torn.end :])


def test_a_client_cannot_make_a_torn_record_look_like_corruption() -> None:
    """A value that is a copy of a good record does not pass for one at another place."""
    log = Log().add(None, Entry(1, 1, b"a" * 100))
    forged = log.parts[-1]
    log.add(None, Entry(1, 2, b"w" * 600 + forged * 8))
    data = bytearray(log.file)
    data[log.ends[-2] : log.ends[-2] // SECTOR * SECTOR + SECTOR] = bytes(SECTOR - log.ends[-2] % SECTOR)
    found = read(bytes(data))
    assert [entry.index for entry in found.entries] == [1]
    assert found.tail is not None and found.tail.torn is not None


# -- damage ---------------------------------------------------------------------------------------


def test_a_flip_of_any_bit_is_found() -> None:
    log = small_log()
    whole = log.file
    entries = read(whole).entries
    silent = 0
    for place in range(log.position.offset + 2 * SECTOR):
        for bit in range(0, 8, 1 if place < log.position.offset else 7):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            try:
                found = read(bytes(data))
            except (Corruption, WrongDirectory) as problem:
                assert "offset" in str(problem) or "version" in str(problem)
            else:
                assert place >= log.position.offset
                assert found.entries == entries
                silent += 1
    assert silent > 0  # in the blank part, beyond where the next record starts


def test_a_file_cut_anywhere_is_corruption() -> None:
    whole = small_log().file
    for size in range(CAPACITY):
        with pytest.raises(Corruption):
            read(whole[:size])


def test_a_tail_replaced_by_zeros_gives_an_exact_prefix_or_corruption() -> None:
    log = small_log()
    whole = log.file
    states = {end: read(whole[:end].ljust(CAPACITY, b"\0")) for end in log.ends}
    for size in range(HEADER_BYTES, log.position.offset):
        try:
            found = read(whole[:size].ljust(CAPACITY, b"\0"))
        except Corruption:
            continue
        expected = states[max(end for end in log.ends if end <= size)]
        assert (found.entries, found.hard_state) == (expected.entries, expected.hard_state)


@given(st.data())
def test_a_lost_sector_before_the_last_record_is_corruption(data: st.DataObject) -> None:
    log = Log()
    for index in range(1, 9):
        log.add(None, Entry(1, index, b"p" * data.draw(st.integers(0, 700))))
    sector = data.draw(st.integers(1, (log.ends[-2] - 1) // SECTOR))
    damaged = bytearray(log.file)
    damaged[sector * SECTOR : (sector + 1) * SECTOR] = bytes(SECTOR)
    if log.ends[-2] >= (sector + 1) * SECTOR:
        with pytest.raises(Corruption):
            read(bytes(damaged))


def test_a_replaced_record_is_found_by_the_chain() -> None:
    one = Log().add(None, Entry(1, 1, b"a")).add(None, Entry(1, 2, b"b"))
    two = Log().add(None, Entry(1, 1, b"A")).add(None, Entry(1, 2, b"b"))
    mixed = (one.parts[0] + one.parts[1] + two.parts[2]).ljust(CAPACITY, b"\0")
    with pytest.raises(Corruption, match="the record before it was replaced or lost"):
        read(mixed)


def test_a_missing_segment_is_corruption() -> None:
    first = Log().add(None, Entry(1, 1, b"a"))
    second = Log(1, 2, first.position.crc).add(None, Entry(1, 2, b"b"))
    third = Log(2, 3, second.position.crc).add(None, Entry(1, 3, b"c"))
    with pytest.raises(Corruption, match="segment number 1 is missing"):
        read(first.file, third.file)
    assert [entry.index for entry in read(second.file, third.file).entries] == [2, 3]


def test_a_segment_that_lost_its_last_record_is_corruption() -> None:
    first = Log().add(None, Entry(1, 1, b"a"))
    shorter = first.file
    first.add(None, Entry(1, 2, b"b"))
    second = Log(1, 3, first.position.crc).add(None, Entry(1, 3, b"c"))
    with pytest.raises(Corruption, match="records are missing"):
        read(shorter, second.file)


def test_a_torn_record_in_a_segment_that_is_not_the_last_is_corruption() -> None:
    first = Log().add(None, Entry(1, 1, b"a"))
    good_crc = first.position.crc
    first.add(None, Entry(1, 2, b"b" * 2000))
    torn = first.file[: first.ends[1] + 600].ljust(CAPACITY, b"\0")
    assert read(torn).entries == [Entry(1, 1, b"a")]
    with pytest.raises(Corruption, match="goes on in another segment"):
        read(torn, Log(1, 2, good_crc).file)


@pytest.mark.parametrize("indexes", [(5,), (3, 5), (0,)])
def test_a_gap_between_entries_is_corruption(indexes: tuple[int, ...]) -> None:
    log = Log().add(None, Entry(1, 1), Entry(1, 2)).add(None, *(Entry(1, index) for index in indexes))
    with pytest.raises(Corruption):
        read(log.file)


def test_another_owner_is_refused_by_name() -> None:
    with pytest.raises(WrongDirectory, match="member a1 of cluster c1; this is member a2 of cluster c1"):
        recover([("s", Log().file)], Identity(0xC1, 0xA2))
    assert recover([("s", Log().file)], None).entries == []


def test_a_file_of_another_program_is_refused() -> None:
    with pytest.raises(Corruption, match="not a segment"):
        read(b"\x04\0\0\0\0\0\0\x84" + bytes(CAPACITY))
