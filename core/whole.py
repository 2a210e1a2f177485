"""The whole state of a machine as bytes, and back: for comparing machines, and for keeping them in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .alarms import Alarm
from .auth.store import Row
from .errors import Corruption
from .lease.lessor import Lease
from .members import MemberView
from .mvcc.record import Record
from .mvcc.store import Store

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["pack", "unpack_into"]


class _Whole(msgspec.Struct, array_like=True):
    """Fields may only be appended."""

    applied_index: int
    applied_term: int
    revision: int
    compacted: int
    records: list[Record]
    leases: list[Lease]
    alarms: list[Alarm]
    cluster_version: str
    members: list[MemberView]
    removed: list[int]
    auth: list[Row]
    downgrade: str = ""


def pack(machine: Machine) -> bytes:
    """The whole state as msgpack; equal states give equal bytes."""
    leases = [
        Lease(lease.id, lease.ttl, lease.remaining, dict.fromkeys(sorted(lease.keys)))
        for lease in sorted(machine.lessor, key=lambda lease: lease.id)
    ]
    store = machine.store
    whole = _Whole(
        machine.applied_index, machine.applied_term, store.revision, store.compacted, _records(store), leases,
        list(machine.alarms), machine.cluster_version, *machine.members.dump(), machine.auth.rows(),
        machine.downgrade,
    )
    return msgspec.msgpack.encode(whole)


def _records(store: Store) -> list[Record]:
    """All records, with their wire forms."""
    return [
        record if record.data is not None
        else msgspec.structs.replace(record, data=store.data_of(record, keep=False))
        for record in store.records()
    ]  # fmt: skip


def unpack_into(machine: Machine, data: bytes) -> None:
    """Make an empty machine the one that ``pack`` was given.

    Raises:
        Corruption: these bytes are no whole state.
    """
    try:
        whole = msgspec.msgpack.decode(data, type=_Whole)
    except msgspec.MsgspecError as error:
        raise Corruption(f"the snapshot cannot be decoded: {error}") from error
    machine.applied_index, machine.applied_term = whole.applied_index, whole.applied_term
    machine.store.load(whole.revision, whole.compacted, whole.records)
    for lease in whole.leases:
        machine.lessor.grant(lease.id, lease.ttl)
        machine.lessor.checkpoint(lease.id, lease.remaining)
        for key in lease.keys:
            machine.lessor.attach(lease.id, key)
    machine.alarms = tuple(whole.alarms)
    machine.versions.cluster, machine.versions.downgrade = whole.cluster_version, whole.downgrade
    machine.members.load(whole.members, whole.removed)
    load_auth = machine.auth.loaders()
    for bucket, key, value in whole.auth:
        load_auth[bucket](key, value)
