"""Damaged byte streams against real members: they survive, answer clearly, stay small and go on serving."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2_frames import PREFACE, settings_frame
from tercet.core.wire.peer import MAGIC, Pong, Welcome, encode
from tercet.core.wire.services import METHODS
from tercet.jepsen_like.fuzz_every import PLAIN, Guise, every, every_json
from tercet.jepsen_like.fuzz_messages import PREFIX, ask, change
from tercet.jepsen_like.fuzz_peer import PeerTarget
from tercet.jepsen_like.fuzz_run import Endpoint, Tally, legible
from tercet.jepsen_like.fuzz_run import fuzz as fuzz_members
from tercet.jepsen_like.fuzz_streams import stream_of
from tercet.jepsen_like.fuzz_vault import FLAGS, Vault
from tercet.net.client import Client
from tercet.net.server.gateway import ROUTES

from .processes import HOST, Cluster, Member, environment

IDS = (1, 2, 3)
TARGETS = tuple(
    PeerTarget(cluster_id=9, member_id=own, others=tuple(i for i in IDS if i != own)) for own in IDS
)


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tercet", "fuzz", *words],
        capture_output=True, text=True, timeout=300, env=environment(),
    )  # fmt: skip


def test_three_members_withstand_damaged_streams_on_both_ports() -> None:
    done = fuzz("--streams", "1500", "--seed", "7", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"]) == (0, []), done.stderr
    assert report["streams"] == 1500
    assert report["witness_writes"] == report["witness_reads"] > 0
    assert len(report["rss_mb_after"]) == 3
    assert {kind.split("/")[0] for kind in report["kinds"]} == {"client", "peer"}
    wanted = {"client/http1/json", "client/http2/garbage", "peer/giant", "peer/random"}
    assert wanted <= report["kinds"].keys()


def test_running_members_can_be_fuzzed_from_outside(tmp_path: Path) -> None:
    with Cluster(tmp_path / "members", 1) as cluster:
        member = cluster.members[0]
        peer = f"127.0.0.1:{member.peer_port}"
        done = fuzz(
            "--streams", "300", "--seed", "8", "--client-endpoint", member.endpoint, "--peer-endpoint", peer,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("seed 8: 300 streams in ")
        assert done.stdout.endswith("found nothing\n")
        done = fuzz("--streams", "100", "--seed", "8", "--client-endpoint", member.endpoint, "--json")
        assert done.returncode == 0
        assert all(kind.startswith("client/") for kind in json.loads(done.stdout)["kinds"])
        assert member.healthy()


def test_a_member_that_dies_or_never_answered_is_told_by_the_exit_status(tmp_path: Path) -> None:
    with Cluster(tmp_path / "members", 1) as cluster:
        member: Member = cluster.members[0]
        assert member.process is not None
        member.process.kill()
        member.process.wait()
        done = fuzz("--streams", "10", "--seed", "9", "--client-endpoint", member.endpoint)
    assert done.returncode == 2
    assert "seed 9: " in done.stderr
    assert fuzz("--peer-endpoint", "127.0.0.1:1").returncode == 2


def test_a_stream_is_a_function_of_seed_and_number() -> None:
    assert [stream_of(5, number, TARGETS) for number in range(300)] == [
        stream_of(5, number, TARGETS) for number in range(300)
    ]
    assert stream_of(5, 1, TARGETS) != stream_of(6, 1, TARGETS)


def test_streams_without_peers_all_go_to_the_client_port() -> None:
    assert {stream_of(5, number, ()).port for number in range(200)} == {"client"}


def test_no_request_of_the_fuzzer_is_for_anybody_elses_keys() -> None:
    rng = random.Random(3)
    for number in range(2000):
        path, message = (ask if number % 2 else change)(rng)
        name = path.rpartition("/")[2]
        if name in ("Put", "Range", "DeleteRange"):
            assert message.startswith(b"\x0a")
            assert message[2:].startswith(PREFIX)


@pytest.mark.parametrize(("port", "sent", "received", "wanted"), [
    ("client", b"", b"", True),
    ("client", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n\r\n", True),
    ("client", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", False),
    ("client", PREFACE, settings_frame(((1, 2),)), True),
    ("client", PREFACE, settings_frame(((1, 2),))[:-1], False),
    ("client", b"PRI * HTTP/9", settings_frame(()), False),
    ("client", PREFACE, frame_message(b"x" * 300), False),
    ("peer", MAGIC, encode(Welcome(1)) + encode(Pong()), True),
    ("peer", MAGIC, encode(Welcome(1))[:-1], False),
    ("peer", b"", encode(Welcome(1)), False),
])  # fmt: skip
def test_an_answer_is_legible_when_its_sender_can_read_it(
    port: str, sent: bytes, received: bytes, wanted: bool
) -> None:
    assert legible(port, sent, received) is wanted


def test_with_authentication_nothing_leaks_and_nothing_changes() -> None:
    done = fuzz("--auth", "--streams", "1200", "--seed", "10", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["findings"]) == (0, []), done.stderr
    assert report["auth"] is True
    assert report["witness_writes"] == report["witness_reads"] > 0
    assert {"client/http1/every", "client/http2/every"} <= report["kinds"].keys()
    assert fuzz("--auth", "--client-endpoint", "127.0.0.1:1").returncode == 2


def test_the_fuzzer_sees_leaks_and_changes_when_its_users_are_roots(tmp_path: Path) -> None:
    """The tokens are root's: whatever is asked is told and done, and must be noticed.

    One after the other: some time a stream turns authentication off, and who comes later tells less.
    """

    class Open(Vault):
        async def fill(self, open_client: Callable[..., Client]) -> None:
            await super().fill(open_client)
            async with open_client(login=self.login) as client:
                await client.log_in()
                self.guise = Guise(aim=self.aim, tokens=(client.metadata[0][1],))

    tally = Tally()
    with Cluster(tmp_path, 1, flags=FLAGS) as cluster:
        member = cluster.members[0]
        endpoints = [Endpoint((HOST, member.client_port))]
        trio.run(
            partial(
                fuzz_members, endpoints, seed=4, numbers=range(100), jobs=1, tally=tally,
                progress=lambda done: None, alive=lambda: "", vault=Open("0123456789abcdef01234567"),
            )
        )  # fmt: skip
    assert any(": leaked " in finding for finding in tally.findings)
    assert any(": leaked " not in finding for finding in tally.findings), "much was changed, too"


@pytest.mark.parametrize("shift", range(3))
def test_a_secret_is_seen_in_plain_bytes_and_in_base64(shift: int) -> None:
    mark = "0123456789abcdef01234567"
    vault = Vault(mark)
    padded = b"x" * shift + mark.encode() + b"y"
    assert vault.leaks(padded)
    assert vault.leaks(b'{"value":"' + base64.b64encode(padded) + b'"}')
    assert not vault.leaks(b'{"value":"' + base64.b64encode(padded.replace(b"7", b"6")) + b'"}')


def test_every_method_and_every_gateway_path_is_asked_for() -> None:
    vault, rng = Vault("0" * 24), random.Random(1)
    assert {every(rng, vault.aim)[0] for _ in range(2000)} == set(METHODS)
    assert {every_json(rng, vault.aim)[0] for _ in range(2000)} == set(ROUTES)
    left_out = set(METHODS) - {every(rng, PLAIN.aim)[0] for _ in range(2000)}
    assert left_out == {"/etcdserverpb.Cluster/MemberAdd"}
