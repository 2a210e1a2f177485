"""Records on disk: the rows of a chunk, damage in them, and which chunks are to be written anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.errors import Corruption
from tercet.core.mvcc.chunks import (
    CHUNK_BYTES,
    CHUNK_RECORDS,
    DATA_BUCKET,
    GONE_BUCKET,
    INDEX_BUCKET,
    Chunk,
    ChunkMap,
    Place,
    chunk_key,
    cut_chunks,
    data_in,
    decode_gone,
    decode_index,
    encode_data,
    encode_gone,
    encode_index,
    find_all,
    place_of,
    place_of_key,
    stored_records,
)
from tercet.core.mvcc.record import Record

from .memory_rows import Memory


def record(revision: int, sub: int = 0, data: bytes = b"data") -> Record:
    return Record(b"k%d" % revision, revision, revision, sub, 1, 0, data)


def sized(*sizes: int) -> list[Record]:
    return [record(number, data=bytes(size)) for number, size in enumerate(sizes, 2)]


def lengths(records: list[Record]) -> list[int]:
    return [len(chunk) for chunk in cut_chunks(records)]


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Records by age: gaps between revisions, several to one revision, wire forms that may be empty."""
    revision, found = draw(st.integers(1, 2**40)), []
    for gap, subs in draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=30)):
        revision += gap
        found += [record(revision, sub, draw(st.binary(max_size=5))) for sub in range(subs)]
    return found


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1)), min_size=2, max_size=2))
def test_keys_sort_as_the_places_that_they_name(pairs: list[tuple[int, int]]) -> None:
    one, other = (place_of(record(*pair)) for pair in pairs)
    assert (one < other) == (pairs[0] < pairs[1]) == (chunk_key(one) < chunk_key(other))
    assert place_of_key(chunk_key(one)) == one


@pytest.mark.parametrize("length", [0, 11, 13])
def test_a_key_of_another_length_is_damage(length: int) -> None:
    with pytest.raises(Corruption, match=f"a key of {length} bytes"):
        place_of_key(bytes(length))


def test_a_chunk_ends_at_its_bounds() -> None:
    half = CHUNK_BYTES // 2
    assert lengths([]) == []
    assert lengths(sized(half, half)) == [2]
    assert lengths(sized(half, half + 1)) == [1, 1]
    assert lengths(sized(half, half, 0, 1)) == [3, 1]
    assert lengths(sized(3 * CHUNK_BYTES)) == [1]
    assert lengths(sized(1, 3 * CHUNK_BYTES, 1, 1)) == [1, 1, 2]
    assert lengths(sized(*[1] * CHUNK_RECORDS)) == [CHUNK_RECORDS]
    assert lengths(sized(*[1] * (2 * CHUNK_RECORDS + 1))) == [CHUNK_RECORDS, CHUNK_RECORDS, 1]
    assert lengths(sized(half, half, half, half + 1)) == [2, 1, 1], "each counts for itself"


@given(chunks())
def test_every_record_of_a_chunk_is_found_and_nothing_else(chunk: Chunk) -> None:
    row = encode_data(chunk)
    for one in chunk:
        assert data_in(row, one.mod_revision, one.sub) == one.data
        assert data_in(memoryview(row), one.mod_revision, one.sub) == one.data
        assert data_in(row, one.mod_revision, one.sub + 3) is None
    first, last = chunk[0].mod_revision, chunk[-1].mod_revision
    held = {one.mod_revision for one in chunk}
    for revision in {0, first - 1, last + 1, 2**62, *range(first, last)} - held:
        assert data_in(row, revision, 0) is None


@given(chunks(), st.data())
def test_many_are_found_as_each_alone(chunk: Chunk, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(chunk), unique_by=place_of, min_size=1).map(by_age))
    found = [b"before"]
    find_all(encode_data(chunk), [place_of(one) for one in wanted], found)
    assert found == [b"before", *(one.data for one in wanted)]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_many_are_found_between_others(step: int) -> None:
    chunk = sized(*range(60))
    found: list[bytes] = []
    find_all(encode_data(chunk), [place_of(one) for one in chunk[step - 1 :: step]], found)
    assert found == [one.data for one in chunk[step - 1 :: step]]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_one_missing_among_many_is_damage(count: int) -> None:
    chunk = sized(*range(count))
    row = encode_data(chunk)
    for place in (place_of(chunk[0]) - 1, place_of(chunk[-1]) + 1):
        with pytest.raises(Corruption, match="lacks the value of revision"):
            find_all(row, sorted([*map(place_of, chunk), place]), [])


def by_age(chunk: Chunk) -> Chunk:
    return sorted(chunk, key=place_of)


@given(chunks(), chunks(), st.data())
def test_what_is_stored_is_read_again_but_for_what_is_gone(
    one: Chunk, other: Chunk, data: st.DataObject
) -> None:
    last = one[-1].mod_revision
    other = [Record(r.key, 0, r.mod_revision + last, r.sub, 0, 0, r.data) for r in other]
    memory = Memory()
    gone = data.draw(st.lists(st.sampled_from(other), unique_by=place_of))
    memory.store(one)
    key = memory.store(other)
    if gone:
        memory.rows[GONE_BUCKET, key] = encode_gone(map(place_of, gone))
    every = [*one, *other]
    bare = [Record(r.key, r.create_revision, r.mod_revision, r.sub, r.version, r.lease) for r in every]
    assert [decode_index(row) for _, row in memory.scan(INDEX_BUCKET)] == [bare[: len(one)], bare[len(one) :]]
    expected = [(b, r.data) for b, r in zip(bare, every, strict=True) if r not in gone]
    assert list(stored_records(memory)) == expected


def test_rows_that_do_not_agree_are_damage() -> None:
    chunk = sized(1, 2, 3)
    others = ([chunk[0], record(3, 1), chunk[2]], [*chunk[:2], record(5)])
    for wrong in (chunk[:2], [*chunk, record(9)], *others):
        memory = Memory()
        key = memory.store(chunk)
        memory.rows[INDEX_BUCKET, key] = encode_index(wrong)
        with pytest.raises(Corruption, match="lacks the value of revision"):
            list(stored_records(memory))
    memory = Memory()
    key = memory.store(chunk)
    del memory.rows[INDEX_BUCKET, key]
    with pytest.raises(Corruption, match=r"revision 2\.0"):
        list(stored_records(memory))
    memory.store(chunk)
    memory.rows[DATA_BUCKET, key] = memory.rows[DATA_BUCKET, key][:30]  # within the table
    with pytest.raises(Corruption, match=r"revision 2\.0"):
        list(stored_records(memory))
    with pytest.raises(Corruption, match="cannot be decoded"):
        decode_index(b"\xc1")


@given(st.sets(st.integers(0, 2**95 - 1), max_size=9))
def test_places_that_are_gone_are_read_again(places: set[Place]) -> None:
    assert decode_gone(encode_gone(sorted(places))) == places


def test_a_row_of_gone_places_has_whole_ones() -> None:
    with pytest.raises(Corruption, match="dropped records has 13 bytes"):
        decode_gone(bytes(13))


def at(revision: int) -> Place:
    return place_of(record(revision))


def mapped(*counts: int) -> ChunkMap:
    """Chunks of so many records of a revision each, the first at revision 100, the next at 200, ..."""
    found = ChunkMap()
    for number, count in enumerate(counts, 1):
        found.add(at(100 * number), count)
    return found


def test_a_record_is_in_the_last_chunk_that_begins_before_it() -> None:
    chunk_map = mapped(50, 50, 50)
    places = [at(revision) for revision in (99, 100, 149, 199, 200, 250, 300, 999)]
    of = [None, at(100), at(100), at(100), at(200), at(200), at(300), at(300)]
    assert [chunk_map.chunk_of(place) for place in places] == of
    runs = [chunk_map.run_of(places, begin) for begin in range(len(places))]
    assert runs == list(zip(of, (1, 4, 4, 4, 6, 6, 8, 8), strict=True))
    assert ChunkMap().chunk_of(at(1)) is None
    assert ChunkMap().run_of([at(1), at(2)], 0) == (None, 2)


def test_a_chunk_is_stale_when_less_than_half_of_it_is_wanted() -> None:
    chunk_map = mapped(4, 4)
    for revision in (200, 201):
        chunk_map.drop(at(revision))
    assert (chunk_map.wanted(at(100)), chunk_map.wanted(at(200))) == (4, 2)
    assert chunk_map.take_stale(9) == []
    chunk_map.drop(at(203))
    assert chunk_map.has_stale
    assert chunk_map.take_stale(9) == [[at(200)]]
    assert chunk_map.take_stale(9) == [], "it was taken"
    chunk_map.drop(at(99))  # of no chunk
    assert chunk_map.wanted(at(100)) == 4


def test_what_is_gone_is_written_once_and_not_for_what_is_written_anew() -> None:
    chunk_map = mapped(4, 4, 4)
    assert not chunk_map.has_stale
    for revision in (100, 200, 201, 202, 300):
        chunk_map.drop(at(revision))
    assert chunk_map.has_stale
    runs = chunk_map.take_stale(9)
    assert runs == [[at(200), at(300)]]
    assert chunk_map.take_gone(runs) == [
        (GONE_BUCKET, chunk_key(at(200)), None),
        (GONE_BUCKET, chunk_key(at(300)), None),
        (GONE_BUCKET, chunk_key(at(100)), encode_gone([at(100)])),
    ]
    chunk_map.replace(runs[0], 4)
    assert not chunk_map.has_stale
    assert chunk_map.take_gone([]) == []
    assert (len(chunk_map), chunk_map.wanted(at(200)), chunk_map.chunk_of(at(300))) == (2, 4, at(200))
    chunk_map.drop(at(101))
    assert chunk_map.take_gone([[at(200)]]) == [
        (GONE_BUCKET, chunk_key(at(100)), encode_gone([at(100), at(101)]))
    ]


def test_what_the_disk_knows_to_be_gone_is_not_written_again() -> None:
    chunk_map = ChunkMap()
    chunk_map.add(at(100), 4, [at(100)])
    chunk_map.add(at(200), 4, [at(200), at(201), at(202)])
    assert (chunk_map.wanted(at(100)), chunk_map.wanted(at(200))) == (3, 1)
    assert chunk_map.take_gone([]) == []
    assert chunk_map.has_stale
    assert chunk_map.take_stale(1) == [[at(200)]]
    assert not chunk_map.has_stale
    chunk_map.drop(at(101))
    assert chunk_map.has_stale, "the disk does not know"


def test_small_neighbours_become_one_and_an_empty_chunk_goes_alone() -> None:
    small = CHUNK_RECORDS // 16
    for count, run in ((small - 1, 2), (small, 1)):
        chunk_map = mapped(4, count, 400)
        for revision in (100, 101, 102):
            chunk_map.drop(at(revision))
        assert chunk_map.take_stale(9) == [[at(100), at(200)][:run]]
    chunk_map = mapped(1, 1, 1)
    chunk_map.drop(at(100))
    assert chunk_map.take_stale(1) == [[at(100)]]
    chunk_map.replace([at(100)], 0)
    assert (len(chunk_map), chunk_map.chunk_of(at(150)), chunk_map.wanted(at(200))) == (2, None, 1)


def test_no_chunk_is_in_two_runs_and_a_limit_is_kept_but_for_empty_ones() -> None:
    chunk_map = mapped(*[4] * 6)
    for number in (4, 1):  # the fourth becomes stale before the first
        for revision in range(3):
            chunk_map.drop(at(100 * number + revision))
    assert chunk_map.take_stale(99) == [[at(400), at(500), at(600)], [at(100), at(200), at(300)]]
    chunk_map = mapped(*[400] * 6)
    for number in range(1, 7):
        for revision in range(400 if number in (1, 3) else 399):
            chunk_map.drop(at(100 * number) + revision)
    assert chunk_map.take_stale(2) == [[at(100)], [at(200), at(300), at(400), at(500), at(600)]]
    chunk_map = mapped(*[400] * 6)
    for number in (2, 4, 6):
        for revision in range(400 if number == 4 else 399):
            chunk_map.drop(at(100 * number) + revision)
    assert chunk_map.take_stale(1) == [[at(200)]]
    assert chunk_map.take_stale(0) == []
    assert chunk_map.take_stale(1) == [[at(400)], [at(600)]]
    chunk_map = mapped(*[40] * 5)
    for number in (1, 2, 3):
        for revision in range(39):
            chunk_map.drop(at(100 * number) + revision)
    assert chunk_map.take_stale(1) == [[at(100), at(200), at(300)]]
