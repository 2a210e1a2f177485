"""Finding the first members by DNS: who is who among the records, and what the records may not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from socketserver import BaseRequestHandler, ThreadingUDPServer
from threading import Thread

import dns.flags
import dns.message
import dns.rrset
import pytest
from pytest import MonkeyPatch

from tercet.net.config import MemberConfig
from tercet.net.discovery import DiscoveryFailed, discover
from tercet.net.real import real_world
from tercet.net.real_dns import lookup_services
from tercet.net.world import World

ZONE = """
_etcd-server._tcp.a.example. 60 IN SRV 20 1 2480 n3.a.example.
_etcd-server._tcp.a.example. 60 IN SRV 10 1 2380 n2.a.example.
_etcd-server._tcp.a.example. 60 IN SRV 10 9 2380 n1.a.example.
"""


class _Answer(BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        name = query.question[0].name
        rows = [line.split(" IN SRV ")[1] for line in ZONE.strip().splitlines()
                if line.startswith(f"{name} ")]  # fmt: skip
        if rows:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *rows))
        else:
            reply.set_rcode(3)
        sock.sendto(reply.to_wire(), self.client_address)


@pytest.fixture(scope="module")
def name_server() -> Iterator[int]:
    """A name server of our own; its port."""
    with ThreadingUDPServer(("127.0.0.1", 0), _Answer) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_records_come_by_priority_and_then_by_weight(name_server: int) -> None:
    found = lookup_services("_etcd-server._tcp.a.example", nameservers=["127.0.0.1"], port=name_server)
    assert found == (("n1.a.example", 2380), ("n2.a.example", 2380), ("n3.a.example", 2480))


def test_a_name_without_records_is_an_error_that_names_it(name_server: int) -> None:
    with pytest.raises(OSError, match=r"lookup _etcd-server\._tcp\.b\.example: no such host"):
        lookup_services("_etcd-server._tcp.b.example", nameservers=["127.0.0.1"], port=name_server)


ADDRESSES = {f"n{number}.a.example": (f"10.0.0.{number}",) for number in (1, 2, 3)}


@pytest.fixture
def world(monkeypatch: MonkeyPatch) -> World:
    """A machine whose network knows some names."""
    found = real_world("discovery", write_log=lambda line: None, environment={})
    plain = (("n1.a.example", 2380), ("n2.a.example", 2380), ("gone.a.example", 2380))
    records = {
        "_etcd-server._tcp.a.example": plain,
        "_etcd-server-ssl._tcp.b.example": (("n2.a.example", 2380), ("n3.a.example", 2380)),
        "_etcd-server-x._tcp.a.example": (("n3.a.example", 2380),),
    }

    async def lookup_services(name: str) -> tuple[tuple[str, int], ...]:
        if name not in records:
            raise OSError(f"lookup {name}: no such host")
        return records[name]

    async def lookup_host(host: str) -> tuple[str, ...]:
        if host in ADDRESSES.values() or host.startswith("10."):
            return (host,)
        if host not in ADDRESSES:
            raise OSError("no such host")
        return ADDRESSES[host]

    monkeypatch.setattr(found.net, "lookup_services", lookup_services)
    monkeypatch.setattr(found.net, "lookup_host", lookup_host)
    return found


CONFIG = MemberConfig(
    name="me", data_dir="/nowhere", discovery_srv="a.example",
    initial_advertise_peer_urls=("http://10.0.0.2:2380",),
)  # fmt: skip


async def test_our_own_record_gets_our_name_and_the_others_get_numbers(world: World) -> None:
    found = await discover(world, CONFIG)
    assert dict(found.initial_cluster) == {
        "0": ("http://n1.a.example:2380",), "me": ("http://n2.a.example:2380",),
    }  # fmt: skip
    assert found.initial_advertise_peer_urls == ("http://n2.a.example:2380",)


async def test_records_of_tls_members_give_https_urls(world: World) -> None:
    secure = replace(CONFIG, discovery_srv="b.example", initial_advertise_peer_urls=("https://10.0.0.3:2380",))
    found = await discover(world, secure)
    assert found.initial_cluster["me"] == ("https://n3.a.example:2380",)
    with pytest.raises(DiscoveryFailed, match='cannot find local etcd member "me" in SRV records'):
        await discover(world, replace(secure, initial_advertise_peer_urls=("http://10.0.0.3:2380",)))


async def test_a_suffix_chooses_another_service(world: World) -> None:
    named = replace(CONFIG, discovery_srv_name="x", initial_advertise_peer_urls=("http://10.0.0.3:2380",))
    assert (await discover(world, named)).initial_cluster == {"me": ("http://n3.a.example:2380",)}


async def test_a_domain_without_records_is_refused(world: World) -> None:
    with pytest.raises(DiscoveryFailed, match="error querying DNS SRV records for _etcd-server-ssl"):
        await discover(world, replace(CONFIG, discovery_srv="c.example"))


async def test_without_the_flag_nobody_is_asked(world: World) -> None:
    config = replace(CONFIG, discovery_srv="")
    assert await discover(world, config) is config
