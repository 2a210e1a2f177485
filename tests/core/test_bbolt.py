"""bbolt files: what is written is read again, whatever its size, and damage is noticed, never believed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercet.core.bbolt import PAGE_BYTES, DamagedDatabase, Database, DatabaseWriter, Read
from tercet.core.bbolt.format import META_BYTES, Meta, decode_meta, encode_meta

Content = Mapping[bytes, Mapping[bytes, bytes]]


def reading(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]


def write(content: Content) -> bytes:
    plan: Meta | None = None
    for _ in range(2):
        writer = DatabaseWriter(plan)
        for name in sorted(content):
            bucket = writer.bucket(name)
            for key in sorted(content[name]):
                bucket.add(key, content[name][key])
        plan = writer.finish()
    return writer.take()


def read(data: bytes) -> dict[bytes, dict[bytes, bytes]]:
    database = Database(reading(data), len(data))
    return {name: dict(bucket.items()) for name, bucket in database.buckets()}


keys = st.binary(min_size=1, max_size=40)
small = st.dictionaries(keys, st.binary(max_size=60), max_size=60)
large = st.dictionaries(keys, st.integers(0, 3 * PAGE_BYTES).map(lambda size: b"v" * size), max_size=12)


@given(st.dictionaries(keys, small | large, max_size=6))
@example({})
@example({b"empty": {}})
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(content: Content) -> None:
    data = write(content)
    assert len(data) % PAGE_BYTES == 0
    assert read(data) == content


@pytest.mark.parametrize("count", [1, 2, 200, 40_000])
def test_trees_of_every_height_come_back_in_order(count: int) -> None:
    """40,000 entries make a root over branches over leaves."""
    entries = {b"%08d" % n + b"k" * 80: b"%d" % n for n in range(count)}
    data = write({b"a": entries, b"b": {b"x": b"y"}})
    database = Database(reading(data), len(data))
    bucket = database.bucket(b"a")
    assert bucket is not None
    assert list(bucket.items()) == list(entries.items())
    assert [name for name, _ in database.buckets()] == [b"a", b"b"]
    assert database.bucket(b"c") is None


def test_a_value_of_many_pages_stands_between_small_ones() -> None:
    entries = {b"a": b"1", b"b": b"B" * 1_500_000, b"c": b"3"}
    data = write({b"key": entries})
    assert read(data)[b"key"] == entries
    assert len(data) < 1_500_000 + 8 * PAGE_BYTES


def test_a_database_with_little_in_it_has_the_five_pages_of_a_fresh_etcd() -> None:
    assert len(write({b"key": {b"k": b"v"}, b"meta": {}})) == 5 * PAGE_BYTES


def test_memory_while_writing_is_a_page_for_each_level() -> None:
    """The writer's own lists stay short however many entries have gone through."""
    writer = DatabaseWriter(None)
    bucket = writer.bucket(b"key")
    for n in range(50_000):
        bucket.add(n.to_bytes(8, "big"), b"x" * 100)
    assert len(bucket._elements) < 60
    assert [len(level.elements) for level in bucket._levels] < [200] * 3
    assert writer.waiting == 0


def test_the_second_pass_must_bring_what_the_first_one_announced() -> None:
    writer = DatabaseWriter(None)
    writer.bucket(b"key").add(b"a", b"x")
    plan = writer.finish()
    second = DatabaseWriter(plan)
    second.bucket(b"key").add(b"a", b"x" * 5000)
    with pytest.raises(DamagedDatabase, match="planned 5 pages"):
        second.finish()


def test_entries_and_buckets_must_ascend() -> None:
    writer = DatabaseWriter(None)
    bucket = writer.bucket(b"key")
    bucket.add(b"b", b"")
    for wrong in (b"a", b"b", b""):
        with pytest.raises(ValueError, match="must ascend"):
            bucket.add(wrong, b"")
    with pytest.raises(ValueError, match="must ascend"):
        writer.bucket(b"key")


def test_the_newer_meta_page_counts_and_the_older_one_replaces_a_torn_one() -> None:
    data = bytearray(write({b"key": {b"k": b"v"}}))
    assert Database(reading(bytes(data)), len(data)).meta.transaction == 2
    data[20] ^= 0xFF
    assert Database(reading(bytes(data)), len(data)).meta.transaction == 1
    assert read(bytes(data)) == {b"key": {b"k": b"v"}}
    data[PAGE_BYTES + 20] ^= 0xFF
    with pytest.raises(DamagedDatabase, match=r"^invalid database$"):
        read(bytes(data))


@pytest.mark.parametrize("page_bytes", [512, 16_384, 65_536])
def test_meta_pages_of_other_sizes_are_found(page_bytes: int) -> None:
    meta = Meta(page_bytes, 3, 4, 7)
    data = bytes(page_bytes) + encode_meta(1, meta) + bytes(2 * page_bytes)
    assert Database(reading(data), len(data)).meta == meta
    assert decode_meta(encode_meta(0, meta)[:META_BYTES]) == meta


@pytest.mark.parametrize("data", [b"", b"not a database", bytes(100_000)])
def test_what_is_no_database_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(DamagedDatabase, match=r"^invalid database$"):
        Database(reading(data), len(data))


def test_a_file_that_was_cut_is_refused_at_once() -> None:
    data = write({b"key": {b"k": b"v" * 9000}})
    with pytest.raises(DamagedDatabase, match="the file only"):
        Database(reading(data[:-1]), len(data) - 1)


def test_a_page_that_leads_back_to_itself_is_noticed() -> None:
    data = bytearray(write({b"key": {b"%06d" % n: b"v" * 50 for n in range(500)}}))
    root = Database(reading(bytes(data)), len(data))
    branch = next(number for number in range(4, root.meta.page_count) if data[number * PAGE_BYTES + 8] == 1)
    place = branch * PAGE_BYTES + 16 + 8
    data[place : place + 8] = branch.to_bytes(8, "little")
    with pytest.raises(DamagedDatabase):
        read(bytes(data))


whole = write({
    b"deep": {b"%06d" % n: b"v" * 50 for n in range(300)},
    b"inline": {b"k": b"v"},
    b"long": {b"k": b"v" * 10_000, b"l": b"w"},
})
flips = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255)), min_size=1, max_size=8)


@given(flips, st.integers(0, len(whole)) | st.just(len(whole)))
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_read_as_something_or_refused_as_damaged(
    changes: list[tuple[int, int]], size: int
) -> None:
    data = bytearray(whole)
    for place, bits in changes:
        data[place] ^= bits
    try:
        found = read(bytes(data[:size]))
    except DamagedDatabase:
        return
    sizes = (len(key) + len(value) for bucket in found.values() for key, value in bucket.items())
    assert sum(sizes) <= 4 * len(whole)


@given(st.binary(max_size=4 * PAGE_BYTES), st.integers(2, 40))
@settings(max_examples=200, deadline=None)
def test_garbage_behind_a_valid_meta_page_only_raises_our_error(garbage: bytes, root: int) -> None:
    meta = Meta(PAGE_BYTES, root, 6, 2)
    data = encode_meta(0, meta) + encode_meta(1, meta) + garbage.ljust(4 * PAGE_BYTES, b"\2")
    try:
        found = read(data)
    except DamagedDatabase:
        return
    assert all(len(key) <= len(data) for bucket in found.values() for key in bucket)
