"""What the real ports do beyond the contract: modes, closing in the middle of things, names, limits."""

from __future__ import annotations

import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tercet.net.real import RealDisk, RealRng, real_world
from tercet.net.world import World


@pytest.fixture
def world() -> World:
    return real_world("test", seed=1, log_level="fatal", environment={"A": "b"})


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# -- the disk -------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_folders_and_files_are_private(world: World, tmp_path: Path) -> None:
    world.disk.make_dirs(str(tmp_path / "a" / "b"))
    world.disk.open(str(tmp_path / "a" / "file"), create=True).close()
    world.disk.write_atomic(str(tmp_path / "a" / "whole"), b"x")
    assert mode_of(tmp_path / "a") == mode_of(tmp_path / "a" / "b") == 0o700
    assert mode_of(tmp_path / "a" / "file") == mode_of(tmp_path / "a" / "whole") == 0o600


_HOLDER = """
import sys
from tercet.net.real import RealDisk
lock = RealDisk().lock(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    command = [sys.executable, "-c", _HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            RealDisk().lock(path)
        holder.stdin.write("let go\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "released\n"
        RealDisk().lock(path).release()


async def test_a_file_closed_during_a_sync_waits_for_it(world: World, tmp_path: Path) -> None:
    file = world.disk.open(str(tmp_path / "file"), create=True)
    entered, leave = threading.Event(), threading.Event()

    def slowly() -> None:
        entered.set()
        leave.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(file._job, slowly)  # type: ignore[attr-defined]
        await trio.to_thread.run_sync(entered.wait)
        file.close()
        with pytest.raises(OSError, match="the file was closed"):
            file.write_at(0, b"x")
        assert file._descriptor >= 0  # type: ignore[attr-defined]
        leave.set()
    assert file._descriptor < 0  # type: ignore[attr-defined]
    file.close()


async def test_persisting_nothing_is_harmless(world: World, tmp_path: Path) -> None:
    file = world.disk.open(str(tmp_path / "file"), create=True)
    await file.persist(0, b"")
    assert file.size() == 0
    file.close()


# -- the network ----------------------------------------------------------------------------------


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


_HOSTS = ["localhost", "127.0.0.1", "", "0.0.0.0", *(["[::1]"] if _has_ipv6() else [])]


@pytest.mark.parametrize("host", _HOSTS)
async def test_hosts_in_every_spelling(world: World, host: str) -> None:
    listener = await world.net.listen(host, 0)
    target = "127.0.0.1" if host in ("", "0.0.0.0") else host
    client = await world.net.connect(target, port_of(listener.address))
    server = await listener.accept()
    await client.send_all(b"hello")
    assert await server.receive(100) == b"hello"
    assert client.remote.startswith("[::1]:" if ":" in host else "127.0.0.1:")
    for thing in (client, server, listener):
        thing.close()


async def test_an_impossible_host_is_an_os_error(world: World) -> None:
    with pytest.raises(OSError, match="not a host name"):
        await world.net.connect("a..b", 1)


async def test_connections_do_not_wait_for_more_to_send(world: World) -> None:
    listener = await world.net.listen("127.0.0.1", 0)
    client = await world.net.connect("127.0.0.1", port_of(listener.address))
    server = await listener.accept()
    for end in (client, server):
        assert end._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # type: ignore[attr-defined]
        end.close()
    listener.close()


async def test_a_cancelled_connect_leaves_no_socket(world: World) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.net.connect("127.0.0.1", 1)
    assert scope.cancelled_caught  # an unclosed socket would be a warning, and so an error


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
async def test_accepting_survives_a_shortage_of_descriptors(world: World) -> None:
    listener = await world.net.listen("127.0.0.1", 0)
    client = await world.net.connect("127.0.0.1", port_of(listener.address))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # accept() needs one more: EMFILE
    accepted = []
    with trio.move_on_after(0.05):
        accepted.append(await listener.accept())
    assert not accepted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await listener.accept()
    for thing in (client, server, listener):
        thing.close()


# -- the rest -------------------------------------------------------------------------------------


def test_a_world_without_a_seed_draws_one() -> None:
    assert RealRng().seed != RealRng().seed
    assert RealRng(5).stream("a").random() == RealRng(5).stream("a").random()
    assert RealRng(5).stream("a").random() != RealRng(5).stream("b").random()


def test_log_lines_go_where_they_are_told() -> None:
    lines: list[str] = []
    world = real_world("n1", write_log=lines.append, log_level="warn")
    world.probe.log("info", "not this")
    world.probe.log("warn", "this", number=1)
    assert len(lines) == 1
    assert '"msg":"this","number":1' in lines[0]
    assert world.environment  # the process's own
