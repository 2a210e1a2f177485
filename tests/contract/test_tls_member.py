"""A whole member behind TLS on both its ports, and our own client in front: on both machines."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tercet.core.errors import TercetError
from tercet.net.client import open_client
from tercet.net.config import MemberConfig
from tercet.net.member import Running, run_member
from tercet.net.tls_settings import ClientTls, TlsSettings
from tercet.net.world import World

from ..net.tls_files import Authority
from .conftest import Machine


def test_a_member_and_a_client_over_tls(machine: Machine, tmp_path: Path) -> None:
    authority = Authority(tmp_path, fixed_size=True)
    pair, alice = authority.sign("member", hosts=["127.0.0.1"]), authority.sign("alice")
    folder = str(tmp_path) if machine.folder != "/" else "/files"

    def path(name: str) -> str:
        return f"{folder}/{name}"

    async def body(world: World) -> None:
        world.disk.make_dirs(folder)
        for name, data in (
            ("ca", authority.certificate), ("cert", pair.certificate), ("key", pair.key),
            ("alice", alice.certificate), ("alice-key", alice.key),
        ):  # fmt: skip
            world.disk.write_atomic(path(name), data)
        settings = TlsSettings(
            cert_file=path("cert"), key_file=path("key"), trusted_ca_file=path("ca"), client_cert_auth=True
        )
        peer = "https://127.0.0.1:22380" if machine.folder == "/" else "https://127.0.0.1:0"
        config = MemberConfig(
            name="n1", data_dir=f"{folder}/data", seed=1, wal_segment_bytes=65536,
            listen_client_urls=("https://127.0.0.1:0",), listen_peer_urls=(peer,),
            initial_advertise_peer_urls=(peer,), client_tls=settings, peer_tls=settings,
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(partial(run_member, world, config))
            address = running.client_addresses[0].replace("10.0.0.1", "127.0.0.1")
            shown = ClientTls(ca_file=path("ca"), cert_file=path("alice"), key_file=path("alice-key"))
            for endpoint in (f"https://{address}", address):
                async with open_client(world, [endpoint], tls=shown) as client:
                    await client.put(b"key", b"value" * 1000)
                    found = await client.get(b"key")
                    assert found.kvs[0].value == b"value" * 1000
            for stranger in (None, ClientTls(ca_file=path("ca"))):
                async with open_client(world, [f"https://{address}"], tls=stranger) as client:
                    with pytest.raises(TercetError):
                        await client.get(b"key", timeout=1.0)
            nursery.cancel_scope.cancel()

    machine.run(body)
