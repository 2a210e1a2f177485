"""Nodes have no individuality: a state and its copy with other node ids behave alike.

``rename`` gives nodes other ids in any value of Raft's vocabulary. It knows by their names which fields hold
a node id, so a new struct needs nothing here unless it names its ids in a new way.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tercet.core.raft import Entry, EntryKind, Log
from tercet.core.raft.log import log_of
from tercet.core.raft.types import decode_conf_change, encode_conf_change

__all__ = ["Renaming", "rename"]

Renaming = dict[int, int]  # old id -> new id; 0 stays 0
_IDS = frozenset(
    ("sender", "to", "node_id", "voted_for", "leader_id", "asker", "target", "transferee", "member")
)
_GROUPS = frozenset(
    ("voters", "outgoing", "learners", "learners_next", "members", "granted", "refused")
)
_T = TypeVar("_T")


def rename(value: _T, renaming: Renaming) -> _T:
    """A copy of ``value`` in which every node has its new id."""
    result: _T = _renamed(value, renaming)
    return result


def _renamed(value: Any, renaming: Renaming) -> Any:
    if isinstance(value, Log):
        return _renamed_log(value, renaming)
    if isinstance(value, Entry):
        return _renamed_entry(value, renaming)
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return type(value)(**{name: _field(name, each, renaming) for name, each in fields.items()})
    if isinstance(value, tuple):
        return tuple([_renamed(each, renaming) for each in value])
    return value


def _field(name: str, value: Any, renaming: Renaming) -> Any:
    if name in _IDS and isinstance(value, int):
        return renaming.get(value, value)
    if name in _GROUPS and isinstance(value, tuple):
        return tuple(sorted([renaming.get(each, each) for each in value]))
    if name == "progress" and isinstance(value, tuple):
        return tuple(sorted([_renamed(each, renaming) for each in value], key=lambda peer: peer.node_id))
    if name == "matches":  # of a fact: nodes and their match indexes
        return tuple([(renaming.get(node, node), index) for node, index in value])
    if name == "elected" and isinstance(value, tuple):  # of a history: terms and their leaders
        return tuple([(term, renaming.get(node, node)) for term, node in value])
    if name == "conf_changes":
        return tuple([_renamed_change(each, renaming) for each in value])
    return _renamed(value, renaming)


def _renamed_change(data: bytes, renaming: Renaming) -> bytes:
    if not data:
        return data
    return encode_conf_change(_renamed(decode_conf_change(data), renaming))


def _renamed_entry(entry: Entry, renaming: Renaming) -> Entry:
    if entry.kind != EntryKind.CONF_CHANGE:
        return entry
    return msgspec.structs.replace(entry, data=_renamed_change(entry.data, renaming))


def _renamed_log(log: Log, renaming: Renaming) -> Log:
    entries = log.entries(log.base_index + 1, log.last_index)
    if all(entry.kind != EntryKind.CONF_CHANGE for entry in entries):
        return log
    return log_of(
        tuple([_renamed_entry(entry, renaming) for entry in entries]), log.base_index, log.base_term
    )
