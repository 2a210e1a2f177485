"""Whether the members of a healed cluster hold the same state, in memory and on their disks.

Compared are the applied index, etcd's hash over the keys' history, the digest of the whole state machine, and
what a member would find in its backend if it started now. While entries are still being applied or written
there is nothing to compare: ask again.
"""

from __future__ import annotations

from tercet.core.durable import load_machine
from tercet.core.errors import TercetError
from tercet.core.machine import Machine
from tercet.core.mvcc.hashing import hash_history
from tercet.net.node import Node

from .cluster import Cluster

__all__ = ["Agreement"]


class Agreement:
    """Asks the members' own memory, not their clients' port: nothing that they do is disturbed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def problem(self) -> str:
        """What does not agree (yet); "" when all does."""
        nodes: dict[str, Node] = {}
        for name in self._cluster.names:
            node = self._cluster.nodes.get(name)
            if node is None or not self._cluster.sim.running(name):
                return f"{name} does not run"
            nodes[name] = node
        indexes = {name: node.machine.applied_index for name, node in nodes.items()}
        if len(dict.fromkeys(indexes.values())) > 1:
            return "data differ: applied up to " + ", ".join(f"{n} {index}" for n, index in indexes.items())
        late = [name for name, node in nodes.items() if _unwritten(node)]
        if late:
            return f"not all of it is on the disk of {', '.join(late)}"
        states = {name: _fingerprint(node.machine) for name, node in nodes.items()}
        if len(dict.fromkeys(states.values())) > 1:
            return "data differ: " + ", ".join(f"{name} {state}" for name, state in states.items())
        for name, node in nodes.items():
            found = _on_disk(node)
            if found != states[name]:
                return f"data differ: {name} holds {states[name]}, its disk {found}"
        return ""


def _unwritten(node: Node) -> bool:
    keeper, machine = node.keeper, node.machine
    return keeper is not None and keeper.meta.index != machine.applied_index


def _fingerprint(machine: Machine) -> str:
    store = machine.store
    hashed = hash_history(store, store.revision)
    return f"{machine.applied_index}/{store.revision}/{store.compacted}/{hashed:08x}/{machine.digest().hex()}"


def _on_disk(node: Node) -> str:
    """The state that a start from the backend would begin with."""
    assert node.keeper is not None
    try:
        machine = load_machine(node.keeper.backend).machine
        found, live = machine.store.resident, node.machine.store.resident
        found.fetch, found.fetch_all = live.fetch, live.fetch_all
        return _fingerprint(machine)
    except (TercetError, OSError) as error:
        return f"{type(error).__name__}: {error}"
