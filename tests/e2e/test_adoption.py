"""Swap the binary: members of Tercet go on in the data directories that members of etcd have left."""

from __future__ import annotations

import json
import posixpath
import signal
import sys
from pathlib import Path

import pytest

from tercet.core.durable import load_machine
from tercet.core.etcd_wal import read_log
from tercet.core.wal import Identity
from tercet.net.adopt import adopt_etcd_directory
from tercet.net.storage import Storage
from tercet.net.world import World
from tercet.sim.world import SimWorld

from .processes import PATIENCE, Cluster, wait_until

pytestmark = pytest.mark.needs("etcd", "etcdctl")


def run_as(cluster: Cluster, program: str) -> None:
    for member in cluster.members:
        member.program = ["etcd"] if program == "etcd" else [sys.executable, "-m", "tercet"]


def test_a_log_with_a_folder_of_its_own_is_taken_over_there(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, token="swap", flags=("--wal-dir", str(tmp_path / "log")))
    run_as(cluster, "etcd")
    with cluster:
        cluster.etcdctl("put", "from", "etcd")
        cluster.members[0].stop()
    run_as(cluster, "tercet")
    for value in ("tercet", "again"):
        with cluster:
            assert cluster.etcdctl("get", "from", "--print-value-only").strip() in ("etcd", "tercet")
            cluster.etcdctl("put", "from", value)
            cluster.members[0].stop(signal.SIGKILL)
    assert not (tmp_path / "n1" / "member" / "wal").exists()
    assert list((tmp_path / "log").glob("*.wal")) and list((tmp_path / "log.etcd").glob("*.wal"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("size", [1, 3])
def test_everything_acknowledged_by_etcd_is_there_afterwards(
    tmp_path: Path, size: int, number: signal.Signals
) -> None:
    """A killed etcd leaves entries in its log that its database has not seen."""
    cluster = Cluster(tmp_path, size, token="swap")
    run_as(cluster, "etcd")
    with cluster:
        for key in range(20):
            cluster.etcdctl("put", f"key/{key}", f"value {key}")
        cluster.etcdctl("compaction", "9")
        lease = cluster.etcdctl("lease", "grant", "600").split()[1]
        cluster.etcdctl("put", "leased", "x", f"--lease={lease}")
        cluster.etcdctl("txn", stdin="\n\nput txn/a 1\ndel key/3\n\n\n\n")
        cluster.etcdctl("put", "last", "word")
        ids = {line.split(",")[0] for line in cluster.etcdctl("member", "list").splitlines()}
        before = json.loads(cluster.etcdctl("get", "", "--prefix", "-w", "json"))
        for member in cluster.members:
            member.stop(number)
    run_as(cluster, "tercet")
    with cluster:
        after = json.loads(cluster.etcdctl("get", "", "--prefix", "-w", "json"))
        assert (after["kvs"], after["header"]["revision"]) == (before["kvs"], before["header"]["revision"])
        assert after["header"]["cluster_id"] == before["header"]["cluster_id"]
        assert {line.split(",")[0] for line in cluster.etcdctl("member", "list").splitlines()} == ids
        assert "attached keys([leased])" in cluster.etcdctl("lease", "timetolive", lease, "--keys")
        assert "compacted" in cluster.etcdctl("get", "key/1", "--rev=8", check=False)
        cluster.etcdctl("put", "key/new", "1")

        def hashes() -> set[str]:
            return set(cluster.etcdctl("endpoint", "hashkv").split()[1::2])

        wait_until("all members agree", lambda: len(hashes()) == 1)
        for member in cluster.members:
            member.stop(signal.SIGKILL)
            member.start()
        cluster.wait_healthy()
        assert cluster.etcdctl("get", "key/new", "--print-value-only") == "1\n"


def test_a_directory_whose_database_has_seen_nothing_is_taken_over_from_its_log_alone(tmp_path: Path) -> None:
    """Its first entries say who the members are."""
    cluster = Cluster(tmp_path, 3, token="swap")
    for member in cluster.members:
        member.program = ["etcd", "--backend-batch-interval=1h"]
    with cluster:
        cluster.etcdctl("put", "k", "v")
        for member in cluster.members:
            member.stop(signal.SIGKILL)
    run_as(cluster, "tercet")
    with cluster:
        assert cluster.etcdctl("get", "k", "--print-value-only") == "v\n"
        assert cluster.etcdctl("put", "k", "w") == "OK\n"
        assert len(cluster.etcdctl("member", "list").splitlines()) == 3


@pytest.fixture(scope="module")
def etcds_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an etcd has left that was killed while its database lagged behind its log, by path.

    But for the zeros at the end of its log, 64 MiB that every simulated disk would hold.
    """
    cluster = Cluster(tmp_path_factory.mktemp("left"), token="swap")
    run_as(cluster, "etcd")
    member = cluster.members[0]
    with cluster:
        for key in range(5):
            cluster.etcdctl("put", f"key/{key}", "seen")
        member.stop()
        member.program = ["etcd", "--backend-batch-interval=1h"]
        member.start()
        cluster.wait_healthy()
        for key in range(5, 10):
            cluster.etcdctl("put", f"key/{key}", "in the log")
        member.stop(signal.SIGKILL)
    folder = member.data_dir
    found = {f"/data/{path.relative_to(folder)}": path.read_bytes()
             for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip
    logs = [path for path in found if "/wal/" in path]
    return found | {path: found[path].rstrip(b"\0") + bytes(64) for path in logs}


class TakeOver:
    """One host whose disk holds etcd's files, and a member that takes them over."""

    def __init__(self, seed: int, files: dict[str, bytes]) -> None:
        self.sim = SimWorld(seed, ("n",))
        self.files = files
        self.found: tuple[int, list[tuple[int, bytes]]] | None = None

    async def place(self, world: World) -> None:
        for path, data in self.files.items():
            world.disk.make_dirs(posixpath.dirname(path))
            world.disk.write_atomic(path, data)

    async def adopt(self, world: World) -> None:
        await adopt_etcd_directory(world, "/data", "/data/member/wal")

    async def read(self, world: World) -> None:
        """What a member would go on from: keys of the backend, entries of the log."""
        identity = read_log(
            (path, world.disk.read(path)) for path in sorted(self.sim.host("n").disk.files)
            if "wal.etcd" in path and path.endswith(".wal")
        )  # fmt: skip
        storage, log = await Storage.open(world, "/data", Identity(identity.cluster_id, identity.member_id))
        storage.close()
        backend = world.disk.open_backend("/data/member/backend")
        keys = load_machine(backend).machine.store.live_count()
        backend.close()
        self.found = keys, [(entry.index, entry.data) for entry in log.entries]

    async def run(self, operation: str, crash_at: int) -> bool:
        """Crash the first attempt at that operation; whether it came so far."""
        sim = self.sim
        await sim.start("n", self.place).done.wait()
        host = sim.host("n")
        host.arm(operation, crash_at)
        await sim.start("n", self.adopt).done.wait()
        crashed = not host.is_armed(operation)
        host.disarm()
        sim.crash("n")
        self.check_unharmed()
        for program in (self.adopt, self.adopt, self.read):  # the second finds nothing to do
            await sim.start("n", program).done.wait()
        self.check_unharmed()
        return crashed

    def check_unharmed(self) -> None:
        """Each of etcd's files is where it was, or in the folder for its log; what is in it is the same."""
        now = self.sim.host("n").disk.files
        for path, data in self.files.items():
            places = (path, path.replace("/wal/", "/wal.etcd/"))
            assert data in [bytes(now[place].data) for place in places if place in now], path


@pytest.mark.parametrize("operation", ["disk", "sync"])
def test_a_take_over_may_be_cut_short_at_any_moment(etcds_files: dict[str, bytes], operation: str) -> None:
    """At every operation on the disk: etcd's files are all there, and the next start has everything."""
    whole = TakeOver(1, etcds_files)
    whole.sim.run(whole.run, operation, 10_000)
    assert whole.found is not None
    assert whole.found[0] + len([data for _, data in whole.found[1] if b"in the log" in data]) == 10
    for crash_at in range(1, 200):
        life = TakeOver(crash_at, etcds_files)
        crashed = life.sim.run(life.run, operation, crash_at)
        assert life.sim.failures == []
        assert life.found == whole.found
        if not crashed:
            break
    assert crash_at > {"disk": 15, "sync": 4}[operation]


def test_a_log_that_ends_with_what_we_cannot_carry_out_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1, token="swap")
    member = cluster.members[0]
    member.program = ["etcd", "--backend-batch-interval=1h"]  # the database sees nothing before the kill
    with cluster:
        cluster.etcdctl("user", "add", "joe:pw")
        member.stop(signal.SIGKILL)
    run_as(cluster, "tercet")
    folder = member.data_dir / "member"
    before = sorted(path.name for path in folder.iterdir())
    member.start()
    assert member.process is not None
    assert member.process.wait(PATIENCE) == 1
    assert "let etcd start and stop once more" in member.log
    assert sorted(path.name for path in folder.iterdir()) == before
    run_as(cluster, "etcd")
    with cluster:
        assert cluster.etcdctl("user", "list") == "joe\n"
        member.stop()
    run_as(cluster, "tercet")
    with cluster:
        assert cluster.etcdctl("user", "list") == "joe\n"
