"""What the Disk port promises, on the real and on the simulated machine."""

from __future__ import annotations

import pytest

from tercet.net.world import World

from .conftest import Machine


def test_a_file_holds_what_was_written_at_offsets(machine: Machine) -> None:
    async def body(world: World) -> None:
        file = world.disk.open(f"{machine.folder}/file", create=True)
        assert file.size() == 0
        file.write_at(3, b"def")
        await file.persist(8, b"ij")
        assert file.size() == 10
        assert file.read_at(0, 100) == b"\0\0\0def\0\0ij"
        assert file.read_at(4, 2) == b"ef"
        assert file.read_at(50, 10) == b""
        file.truncate(4)
        await file.sync()
        file.sync_now()
        assert file.read_at(0, 100) == b"\0\0\0d"
        file.close()
        assert world.disk.read(f"{machine.folder}/file") == b"\0\0\0d"

    machine.run(body)


def test_allocating_makes_zeros_and_never_shrinks(machine: Machine) -> None:
    async def body(world: World) -> None:
        file = world.disk.open(f"{machine.folder}/file", create=True)
        file.write_at(0, b"abc")
        file.allocate(5000)
        assert file.read_at(0, 9000) == b"abc" + bytes(4997)
        file.allocate(10)
        assert file.size() == 5000
        file.close()

    machine.run(body)


def test_only_what_exists_can_be_opened_read_listed_or_removed(machine: Machine) -> None:
    async def body(world: World) -> None:
        missing = f"{machine.folder}/missing"
        assert not world.disk.exists(missing)
        for attempt in (world.disk.open, world.disk.read, world.disk.remove, world.disk.list):
            with pytest.raises(FileNotFoundError):
                attempt(missing)
        with pytest.raises(FileNotFoundError):
            world.disk.rename(missing, f"{machine.folder}/other")

    machine.run(body)


def test_folders_list_their_names_in_order(machine: Machine) -> None:
    async def body(world: World) -> None:
        disk, top = world.disk, f"{machine.folder}/one/two"
        disk.make_dirs(top)
        disk.make_dirs(top)
        for name in ("b", "a", "c"):
            disk.open(f"{top}/{name}", create=True).close()
        disk.make_dirs(f"{top}/ab")
        assert disk.list(top) == ["a", "ab", "b", "c"]
        assert disk.exists(top)
        disk.remove(f"{top}/b")
        disk.rename(f"{top}/a", f"{top}/c")
        disk.sync_dir(top)
        assert disk.list(top) == ["ab", "c"]

    machine.run(body)


def test_an_atomic_write_replaces_the_whole_file(machine: Machine) -> None:
    async def body(world: World) -> None:
        path = f"{machine.folder}/value"
        world.disk.write_atomic(path, b"a long first value")
        world.disk.write_atomic(path, b"second")
        assert world.disk.read(path) == b"second"

    machine.run(body)


def test_a_lock_has_one_holder(machine: Machine) -> None:
    async def body(world: World) -> None:
        path = f"{machine.folder}/lock"
        lock = world.disk.lock(path)
        with pytest.raises(BlockingIOError):
            world.disk.lock(path)
        lock.release()
        world.disk.lock(path).release()

    machine.run(body)


def test_an_open_file_survives_its_renaming(machine: Machine) -> None:
    async def body(world: World) -> None:
        file = world.disk.open(f"{machine.folder}/a", create=True)
        await file.persist(0, b"one")
        world.disk.rename(f"{machine.folder}/a", f"{machine.folder}/b")
        await file.persist(3, b"two")
        file.close()
        assert world.disk.read(f"{machine.folder}/b") == b"onetwo"
        assert not world.disk.exists(f"{machine.folder}/a")

    machine.run(body)
