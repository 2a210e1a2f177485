"""kill -9 under load: what was acknowledged stays, the others serve all clients, the member catches up."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import signal
import threading
import time
from pathlib import Path

import pytest

from .processes import HOST, PATIENCE, Cluster, Member, wait_until

CLIENTS = 16


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Writer(threading.Thread):
    """One client: puts key after key, at the next member when one fails, and notes what was acknowledged."""

    def __init__(self, number: int, members: list[Member], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.ports = itertools.cycle([m.client_port for m in members[number % 3 :] + members[: number % 3]])
        self.stop = stop
        self.acknowledged: list[str] = []
        self.attempts = 0

    def run(self) -> None:
        while not self.stop.is_set():
            connection = http.client.HTTPConnection(HOST, next(self.ports), timeout=2.0)
            try:
                while not self.stop.is_set():
                    self.put(connection)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()

    def put(self, connection: http.client.HTTPConnection) -> None:
        self.attempts += 1
        key = f"crash/{self.number}/{self.attempts}"
        connection.request("POST", "/v3/kv/put", json.dumps({"key": encode(key), "value": encode(key)}))
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise http.client.HTTPException(str(response.status))
        self.acknowledged.append(key)


def stored(member: Member) -> dict[str, str]:
    """All keys of the test as one member has them, without asking the others."""
    body = {"key": encode("crash/"), "range_end": encode("crash0"), "serializable": True}
    found = member.http("/v3/kv/range", body, timeout=PATIENCE)
    assert found is not None
    return {base64.b64decode(kv["key"]).decode(): kv["value"] for kv in found.get("kvs", [])}


def revision(member: Member) -> int:
    """The newest revision that a member has."""
    return int(member.status()["header"]["revision"])


def revision_by_quorum(member: Member) -> int:
    """A revision that is not older than anything acknowledged before this call."""
    found = wait_until("a linearizable read", lambda: member.http("/v3/kv/range", {"key": encode("none")}))
    return int(found["header"]["revision"])


@pytest.mark.parametrize("victim_leads", [True, False], ids=["leader", "follower"])
def test_no_acknowledged_write_is_lost_when_a_member_is_killed(tmp_path: Path, victim_leads: bool) -> None:
    with Cluster(tmp_path, 3) as cluster:
        leader = cluster.leader()
        victim = leader if victim_leads else next(m for m in cluster.members if m is not leader)
        survivors = [member for member in cluster.members if member is not victim]
        stop = threading.Event()
        writers = [Writer(number, cluster.members, stop) for number in range(CLIENTS)]
        for writer in writers:
            writer.start()
        wait_until("every client has written", lambda: all(len(w.acknowledged) > 20 for w in writers))

        victim.stop(signal.SIGKILL)
        before = [len(w.acknowledged) for w in writers]
        wait_until(
            "every client writes again",
            lambda: all(len(w.acknowledged) > n + 20 for w, n in zip(writers, before, strict=True)),
        )

        victim.start()
        cluster.wait_healthy([victim])
        stop.set()
        for writer in writers:
            writer.join(PATIENCE)
            assert not writer.is_alive(), "what it writes from now on nobody has to have"
        acknowledged = {key for writer in writers for key in writer.acknowledged}
        newest = revision_by_quorum(survivors[0])  # a member's own may be behind what others acknowledged
        wait_until("all catch up", lambda: min(map(revision, cluster.members)) >= newest)
        for member in cluster.members:
            held = stored(member)
            assert acknowledged - held.keys() == set()
            assert all(held[key] == encode(key) for key in acknowledged)


def test_data_survives_a_restart_of_all_members(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        for number in range(50):
            body = {"key": encode(f"crash/{number}"), "value": encode(str(number))}
            answer = cluster.members[number % 3].http("/v3/kv/put", body)
            assert answer is not None
        before = answer["header"]["revision"]  # a member's status may lag behind the last answer
        for member in cluster.members:
            member.stop(signal.SIGKILL)
        for member in cluster.members:
            member.start()
        cluster.wait_healthy()
        for member in cluster.members:
            wait_until("the revision is back", lambda m=member: m.status()["header"]["revision"] == before)
            assert len(stored(member)) == 50


def test_sigterm_stops_a_member_in_order_with_status_0(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        member = cluster.members[0]
        assert member.http("/v3/kv/put", {"key": encode("crash/x"), "value": encode("y")}) is not None
        assert member.stop() == 0
        log = [json.loads(line) for line in member.log.splitlines()]
        messages = [line["msg"] for line in log]
        assert messages.index("received signal; shutting down") < messages.index("closed etcd server")
        assert not [line for line in log if line["level"] in ("error", "fatal")]
        member.start()
        cluster.wait_healthy()
        assert stored(member) == {"crash/x": encode("y")}
