"""What the Backend port promises, on LMDB and on the simulated machine."""

from __future__ import annotations

import pytest
import trio

from tercet.core.errors import Corruption
from tercet.net.world import World

from .conftest import Machine


def test_a_commit_changes_rows_in_buckets_and_the_next_opening_finds_them(machine: Machine) -> None:
    async def body(world: World) -> None:
        backend = world.disk.open_backend(f"{machine.folder}/backend")
        assert backend.get("a", b"k") is None
        assert list(backend.scan("a")) == []
        await backend.commit([("a", b"k", b"1"), ("b", b"k", b"other"), ("a", b"gone", b"")])
        assert backend.get("a", b"gone") == b""
        backend.commit_now([("a", b"k", b"2"), ("a", b"gone", None), ("c", b"missing", None)])
        assert [backend.get(*place) for place in (("a", b"k"), ("b", b"k"), ("a", b"gone"))] == [
            b"2", b"other", None,
        ]
        borrowed = backend.borrow("a", b"k")
        assert borrowed is not None and bytes(borrowed) == b"2"
        backend.close()
        backend.close()
        with pytest.raises(OSError, match="closed"):
            backend.get("a", b"k")
        again = world.disk.open_backend(f"{machine.folder}/backend")
        view = again.view()
        assert view.buckets() == ("a", "b")
        assert [(name, list(view.scan(name))) for name in view.buckets()] == [
            ("a", [(b"k", b"2")]), ("b", [(b"k", b"other")]),
        ]
        view.close()
        again.close()

    machine.run(body)


def test_scans_are_ordered_and_bounded(machine: Machine) -> None:
    async def body(world: World) -> None:
        backend = world.disk.open_backend(f"{machine.folder}/backend")
        keys = [b"\x00", b"a", b"a\x00", b"ab", b"b", b"\xff\xff"]
        await backend.commit([("rows", key, key * 2) for key in reversed(keys)])
        assert [key for key, _ in backend.scan("rows")] == keys
        assert [key for key, _ in backend.scan("rows", b"a", b"b")] == [b"a", b"a\x00", b"ab"]
        assert [key for key, _ in backend.scan("rows", b"a\x00", None, 2)] == [b"a\x00", b"ab"]
        assert [key for key, _ in backend.scan("rows", b"aa", b"aa")] == []
        assert list(backend.scan("rows", b"b", b"c")) == [(b"b", b"bb")]
        backend.close()

    machine.run(body)


def test_a_view_keeps_its_state_while_commits_go_on(machine: Machine) -> None:
    async def body(world: World) -> None:
        backend = world.disk.open_backend(f"{machine.folder}/backend")
        await backend.commit([("rows", b"%04d" % n, bytes(2000)) for n in range(100)])
        view = backend.view()
        rows = view.scan("rows")
        first = next(rows)
        for n in range(20):
            await backend.commit([("rows", b"%04d" % n, None), ("new", b"n", b"%d" % n)])
        await backend.defragment()
        await backend.commit([("rows", b"0099", None)])
        assert [first[0], *(key for key, _ in rows)] == [b"%04d" % n for n in range(100)]
        assert view.buckets() == ("rows",)
        assert (view.get("rows", b"0000"), view.get("new", b"n")) == (bytes(2000), None)
        assert len(list(backend.scan("rows"))) == 79
        view.close()
        with pytest.raises(OSError, match="closed"):
            view.get("rows", b"0000")
        backend.close()

    machine.run(body)


def test_defragmenting_gives_back_what_is_not_in_use(machine: Machine) -> None:
    async def body(world: World) -> None:
        path = f"{machine.folder}/backend"
        backend = world.disk.open_backend(path)
        await backend.commit([("rows", b"%04d" % n, bytes(8000)) for n in range(200)])
        await backend.commit([("rows", b"%04d" % n, None) for n in range(10, 200)])
        before = backend.size()
        assert before > 200 * 8000
        assert backend.size_in_use() < before // 4
        await backend.defragment()
        assert backend.size() < before // 4
        assert backend.size_in_use() <= backend.size()
        assert [key for key, _ in backend.scan("rows")] == [b"%04d" % n for n in range(10)]
        await backend.commit([("rows", b"after", b"it")])
        backend.close()
        again = world.disk.open_backend(path)
        assert len(list(again.scan("rows"))) == 11
        again.close()

    machine.run(body)


def test_a_closed_backend_can_be_renamed_over_another(machine: Machine) -> None:
    async def body(world: World) -> None:
        old, new = f"{machine.folder}/backend", f"{machine.folder}/backend.new"
        for path, value in ((old, b"old"), (new, b"new")):
            backend = world.disk.open_backend(path)
            await backend.commit([("rows", b"k", value)])
            backend.close()
        world.disk.rename(new, old)
        world.disk.sync_dir(machine.folder)
        assert not world.disk.exists(new)
        backend = world.disk.open_backend(old)
        assert backend.get("rows", b"k") == b"new"
        backend.close()

    machine.run(body)


def test_a_commit_is_whole_even_when_its_caller_is_cancelled(machine: Machine) -> None:
    async def body(world: World) -> None:
        backend = world.disk.open_backend(f"{machine.folder}/backend")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.commit, [("rows", b"%02d" % n, b"v") for n in range(50)])
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        backend.close()
        again = world.disk.open_backend(f"{machine.folder}/backend")
        assert len(list(again.scan("rows"))) in (0, 50)
        again.close()

    machine.run(body)


def test_a_file_that_is_no_backend_is_refused(machine: Machine) -> None:
    async def body(world: World) -> None:
        world.disk.write_atomic(f"{machine.folder}/file", b"no backend" * 1000)
        with pytest.raises(Corruption):
            world.disk.open_backend(f"{machine.folder}/file")

    machine.run(body)
