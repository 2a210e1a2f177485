"""Between our state and etcd's database: a snapshot file from a machine, and a machine from such a file.

The machine may be in memory (``state_of``) or on disk (``state_in``, ``StoredKeys``): a snapshot is made from
the rows of one commit, so that it is the state after one entry however long its reader takes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

import msgspec

from .auth.values import encode_role, encode_user
from .durable import Meta
from .etcd_schema import EtcdState, StoredAuth, StoredLease, StoredMember, key_entry
from .machine import Machine
from .mvcc.chunks import Rows, stored_records
from .mvcc.record import Record

__all__ = ["StoredKeys", "state_in", "state_of"]


def state_of(machine: Machine) -> EtcdState:
    """Everything but the keys, as it is now."""
    members, removed = machine.members.dump()
    return EtcdState(
        applied_index=machine.applied_index,
        compacted=machine.store.compacted,
        cluster_version=machine.cluster_version,
        downgrade=machine.downgrade,
        leases=[
            StoredLease(lease.id, lease.ttl, lease.remaining)
            for lease in sorted(machine.lessor, key=lambda lease: lease.id)
        ],
        alarms=[(alarm.member, alarm.kind) for alarm in machine.alarms],
        members=[
            StoredMember(
                id=member.id,
                peer_urls=member.peer_urls,
                is_learner=member.is_learner,
                name=member.name,
                client_urls=member.client_urls,
            )
            for member in members
        ],
        removed=removed,
        auth=_auth_of(machine),
    )


def _auth_of(machine: Machine) -> StoredAuth:
    auth = machine.auth
    untouched = auth.revision == 1 and not auth.enabled  # then etcd has not written the switch yet
    return StoredAuth(
        enabled=None if untouched else auth.enabled,
        revision=auth.revision,
        users={name.encode(): encode_user(user) for name, user in auth.users.items()},
        roles={name.encode(): encode_role(role) for name, role in auth.roles.items()},
    )


def state_in(rows: Rows, meta: Meta) -> EtcdState:
    """Everything but the keys, as it is in the rows of one commit."""
    machine = Machine()
    for bucket, load in machine.loaders().items():
        for key, value in rows.scan(bucket):
            load(key, value)
    state = state_of(machine)
    return msgspec.structs.replace(state, applied_index=meta.index, compacted=meta.compacted)


class StoredKeys:
    """The entries of the bucket ``key`` from the rows of one commit; an ``etcd_schema.Entries``.

    Among the rows may be records that the compaction has superseded and nobody has removed yet. Which those
    are is asked of the machine in memory, which may have gone on and compacted again; so the first pass
    notes what it left out, and the others leave out the same.

    Args:
        holds: whether the store still holds a record of a key: ``Store.holds``.
        compacted_now: the compaction of the store that ``holds`` asks.
    """

    def __init__(
        self,
        rows: Rows,
        compacted: int,
        holds: Callable[[bytes, int, int], bool],
        compacted_now: Callable[[], int],
    ) -> None:
        self._rows = rows
        self._compacted = compacted
        self._holds = holds
        self._compacted_now = compacted_now
        self._left_out: array[int] | None = None  # mod_revision and sub of each, in order

    def __call__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._first_pass() if self._left_out is None else self._later_pass(self._left_out)

    def _first_pass(self) -> Iterator[tuple[bytes, bytes]]:
        left_out: array[int] = array("q")
        compacted = self._compacted
        for record, data in stored_records(self._rows):
            if record.mod_revision <= compacted and self._is_superseded(record):
                left_out.extend((record.mod_revision, record.sub))
            else:
                yield key_entry(record, data)
        self._left_out = left_out

    def _is_superseded(self, record: Record) -> bool:
        """Not if a later compaction may be what has dropped it: then it stays, which does no harm."""
        held = self._holds(record.key, record.mod_revision, record.sub)
        return not held and self._compacted_now() == self._compacted

    def _later_pass(self, left_out: array[int]) -> Iterator[tuple[bytes, bytes]]:
        place, end = 0, len(left_out)
        for record, data in stored_records(self._rows):
            if place < end and left_out[place] == record.mod_revision and left_out[place + 1] == record.sub:
                place += 2
            else:
                yield key_entry(record, data)
