"""Bytes from and to each peer, as samples under etcd's names: read only when somebody scrapes."""

from __future__ import annotations

from collections.abc import Iterator

from .metrics import Sample
from .peer_server import PeerServer
from .peers import Peers

__all__ = ["peer_samples"]


def peer_samples(peers: Peers, server: PeerServer) -> Iterator[Sample]:
    """What was sent to and received from each peer so far."""
    for member, peer in peers.peers.items():
        ends = (("Local", f"{peers.own_id:x}"), ("Remote", f"{member:x}"))
        yield Sample("etcd_network_active_peers", float(peer.channel is not None), ends)
        yield Sample("etcd_network_peer_sent_bytes_total", float(peer.sent_bytes), (("To", f"{member:x}"),))
    for member, count in sorted(server.received_bytes.items()):
        yield Sample("etcd_network_peer_received_bytes_total", float(count), (("From", f"{member:x}"),))
