"""The cluster's version and a downgrade under way: in the machine, on its disk, in etcd's database."""

from __future__ import annotations

import pytest

from tercet.core.etcd_schema import EtcdState, decode_state, encode_state
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.raft.types import Entry
from tercet.core.versions import minor_version, version_rows
from tercet.core.wire.proto import internal_pb2 as internal


@pytest.mark.parametrize(("text", "numbers"), [
    ("3.4.35", (3, 4)), ("3.4", (3, 4)), ("v3.5.0", (3, 5)), ("3.6.0-alpha.0", (3, 6)), ("3", None),
    ("", None), ("x.y", None), ("3.4.5.6", None), ("-3.4", None),
])  # fmt: skip
def test_versions_are_read_as_major_and_minor_number(text: str, numbers: tuple[int, int] | None) -> None:
    assert minor_version(text) == numbers


def apply(machine: Machine, kind: Command, payload: bytes) -> None:
    data = encode_command(kind, 1, 1, payload)
    assert machine.apply(Entry(1, machine.applied_index + 1, data)).error is None


def changed(target: str) -> Machine:
    machine = Machine()
    apply(machine, Command.CLUSTER_VERSION, internal.ClusterVersion(version="3.5.0").SerializeToString())
    apply(machine, Command.DOWNGRADE, internal.Downgrade(target="3.4.0").SerializeToString())
    apply(machine, Command.DOWNGRADE, internal.Downgrade(target=target).SerializeToString())
    return machine


@pytest.mark.parametrize("target", ["3.4.0", ""])
def test_they_survive_a_restart_and_a_snapshot(target: str) -> None:
    machine = changed(target)
    again = Machine()
    for (bucket, key), value in machine.take_changes().items():
        if value is not None:
            again.loaders()[bucket](key, value)
    assert (again.cluster_version, again.downgrade) == ("3.5.0", target)
    restored = Machine.restore(machine.snapshot())
    assert (restored.cluster_version, restored.downgrade) == ("3.5.0", target)
    assert restored.digest() == machine.digest()
    assert (changed("").digest() == machine.digest()) == (not target)


@pytest.mark.parametrize("target", ["3.4.0", ""])
def test_etcds_database_has_them_as_etcd_3_5_writes_them(target: str) -> None:
    state = EtcdState(cluster_version="3.5.0", downgrade=target)
    rows = {name: list(entries()) for name, entries in encode_state(state, lambda: iter(()))}
    wanted = [(b"clusterVersion", b"3.5.0")]
    if target:
        wanted.append((b"downgrade", b'{"target-version":"3.4.0","enabled":true}'))
    assert rows[b"cluster"] == wanted == version_rows("3.5.0", target)
    found = decode_state(rows)
    assert (found.cluster_version, found.downgrade) == ("3.5.0", target)
    rows[b"cluster"] = [(b"downgrade", b'{"target-version":"3.4.0","enabled":false}')]
    assert decode_state(rows).downgrade == ""
