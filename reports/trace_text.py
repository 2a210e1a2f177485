"""What happens in a trace, in words: entries, messages, steps and notes as short sentences.

Used by ``tercet trace show`` and by the player. The words are for people who learn: roles and rules by
their names, refusals with the sentence and the section of the paper that ``core.raft.refusals`` gives.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping

import msgspec
from google.protobuf.message import DecodeError

from tercet.core.machine import Command
from tercet.core.raft import (
    RULES,
    AppendReply,
    AppendRequest,
    Applied,
    ChangeKind,
    ConfChange,
    Effects,
    Entry,
    EntryKind,
    Event,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    Persisted,
    Propose,
    ProposeConfChange,
    ProposeRequest,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    Receive,
    Refusal,
    Role,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotReady,
    SnapshotRequest,
    SnapshotSent,
    Tick,
    TimeoutNow,
    TransferLeader,
    TransferRequest,
    Unreachable,
    VoteReply,
    VoteRequest,
    decode_conf_change,
)
from tercet.core.wire.proto import rpc_pb2

__all__ = [
    "Name", "consequences", "entry_label", "event_text", "message_text", "refusal_text", "role_name",
]

#: Gives a node's name.
Name = Callable[[int], str]

_COMMAND = struct.Struct(">BQQ")
_ROLES = {
    Role.FOLLOWER: "follower",
    Role.PRE_CANDIDATE: "pre-candidate",
    Role.CANDIDATE: "candidate",
    Role.LEADER: "leader",
}


def role_name(role: int) -> str:
    """A role in lower case, as it is spoken."""
    return _ROLES[Role(role)]


def entry_label(entry: Entry, name: Name = str) -> str:
    """What an entry asks for, in a few characters; ``name`` names members in it."""
    if not entry.data:
        return "no-op"
    if entry.kind == EntryKind.CONF_CHANGE:
        try:
            return change_label(decode_conf_change(entry.data), name)
        except msgspec.MsgspecError:
            return "change?"
    return proposal_label(entry.data)


_CHANGES = {ChangeKind.ADD_VOTER: "+", ChangeKind.REMOVE: "-", ChangeKind.ADD_LEARNER: "~"}


def change_label(change: ConfChange, name: Name = str) -> str:
    """A configuration change: + voter, - removed, ~ learner."""
    if not change.changes:
        return "leave joint"
    return " ".join(f"{_CHANGES[one.kind]}{_node(one.node_id, name)}" for one in change.changes)


_WORDS = {
    ChangeKind.ADD_VOTER: "add {} as a voter",
    ChangeKind.REMOVE: "remove {}",
    ChangeKind.ADD_LEARNER: "add {} as a learner",
}


def change_text(change: ConfChange, name: Name) -> str:
    """A configuration change in words."""
    wanted = [_WORDS[one.kind].format(_node(one.node_id, name)) for one in change.changes]
    return " and ".join(wanted) or "leave the joint configuration"


def _node(node: int, name: Name) -> str:
    """A member's name; of an id as etcd makes them only the beginning."""
    text = name(node)
    return text if len(text) < 9 else f"{node:x}"[:5]


def _snapshot(meta: SnapshotMeta) -> str:
    return f"the snapshot up to {meta.index} of term {meta.term}"


def proposal_label(data: bytes) -> str:
    """A proposal's bytes in a few characters: the command and its key, else text, else the size."""
    if data.isascii() and data.decode().isprintable():
        return _short(data)
    if len(data) >= _COMMAND.size:
        kind = data[0]
        if kind in _COMMANDS:
            return _command_label(Command(kind), data[_COMMAND.size :])
    return f"{len(data)} bytes"


_LABELS = {Command.MEMBER_ATTRIBUTES: "member", Command.CLUSTER_VERSION: "version"}
_COMMANDS = frozenset(int(command) for command in Command)


def _command_label(command: Command, body: bytes) -> str:
    try:
        if command == Command.PUT:
            put = rpc_pb2.PutRequest.FromString(body)
            return f"put {_short(put.key)}={_short(put.value)}"
        if command == Command.DELETE_RANGE:
            return f"delete {_short(rpc_pb2.DeleteRangeRequest.FromString(body).key)}"
        if command == Command.TXN:
            request = rpc_pb2.TxnRequest.FromString(body)
            return f"txn {len(request.compare)}?{len(request.success)}:{len(request.failure)}"
    except DecodeError:
        pass
    return _LABELS.get(command, command.name.lower().replace("_", " "))


def _short(data: bytes, most: int = 12) -> str:
    text = data.decode(errors="replace")
    text = text if text.isprintable() else data.hex()
    return text if len(text) <= most else text[: most - 1] + "…"


def _entries(entries: tuple[Entry, ...]) -> str:
    first, last = entries[0].index, entries[-1].index
    return f"entry {first}" if first == last else f"entries {first}-{last}"


def _rule(rule: str) -> str:
    known = RULES.get(rule)
    return known.sentence[0].lower() + known.sentence[1:].rstrip(".") if known else rule


def refusal_text(refusal: Refusal, name: Name) -> tuple[str, str]:
    """A refusal as a sentence, and where the rule is written; the rule itself and "" when it is not known.

    Member ids in it become names.
    """
    known = RULES.get(refusal.rule)
    detail = re.sub(r"\b\d{9,}\b", lambda found: name(int(found.group())), refusal.detail)
    detail = f" ({detail})" if detail else ""
    return (f"{known.sentence}{detail}", f"Raft {known.source}") if known else (refusal.rule + detail, "")


def message_text(message: Message) -> str:
    """What a message says, without who says it to whom."""
    match message:
        case VoteRequest():
            asked = "would you vote for me" if message.pre_vote else "vote for me"
            return (
                f"{asked} in term {message.term}? My log ends at {message.last_log_index} "
                f"of term {message.last_log_term}"
            )
        case VoteReply():
            kind = "pre-vote" if message.pre_vote else "vote"
            if message.vote_granted:
                return f"{kind} granted"
            return f"no {kind}: {_rule(message.refusal)}; committed is {message.commit_index}"
        case AppendRequest():
            after = f"after {message.prev_log_index} of term {message.prev_log_term}"
            if not message.entries:
                return f"do we agree up to {after[6:]}? Committed is {message.leader_commit}"
            return f"append {_entries(message.entries)} {after}; committed is {message.leader_commit}"
        case AppendReply():
            if message.success:
                return f"my log agrees up to {message.match_index}"
            if message.refusal == "term/stale":
                return f"your term is over, mine is {message.term}"
            return f"no: {_rule(message.refusal)}; try {message.hint_index}"
        case HeartbeatRequest():
            round_text = f", read round {message.context}" if message.context else ""
            return f"heartbeat; committed is {message.leader_commit}{round_text}"
        case HeartbeatReply():
            return f"I hear you, read round {message.context}" if message.context else "I hear you"
        case ProposeRequest():
            wanted = [proposal_label(data) for data in message.entries[:3]]
            wanted += ["a configuration change"] * len(message.conf_changes)
            return "please append " + ", ".join(wanted)
        case SnapshotRequest():
            return f"the entries you need are gone; take {_snapshot(message.meta)}"
        case TransferRequest():
            return "please hand leadership over"
        case TimeoutNow():
            return "campaign at once: you shall lead"
        case ReadIndexRequest():
            return "which index must I have applied to read?"
        case ReadIndexReply():
            return f"read at index {message.read_index}"


def event_text(event: Event, name: Name) -> str:
    """What happened to a node, with the node as the unspoken subject."""
    match event:
        case Tick():
            return "time passes"
        case Receive(message=message):
            return f"hears from {name(message.sender)}: {message_text(message)}"
        case Propose(entries=entries):
            more = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
            return "a client asks: " + ", ".join(proposal_label(data) for data in entries[:3]) + more
        case ReadIndex():
            return "a client wants to read"
        case Persisted(index=index):
            return f"the log is durable up to {index}"
        case Applied(index=index):
            return f"applied up to {index}"
        case ProposeConfChange(change=change):
            return f"a client asks: {change_text(change, name)}"
        case TransferLeader(target=target):
            return f"is asked to hand leadership to {name(target) if target else 'anybody'}"
        case SnapshotReady(meta=meta, release=release):
            return f"{_snapshot(meta)} is durable; entries up to {release} may go"
        case SnapshotInstalled(index=index):
            return f"the snapshot up to {index} is installed"
        case SnapshotSent(member=member, ok=ok):
            return f"the transfer of a snapshot to {name(member)} {'is done' if ok else 'failed'}"
        case Unreachable(member=member):
            return f"the connection to {name(member)} is lost"


def consequences(
    effects: Effects, name: Name, before: Mapping[str, int], after: Mapping[str, int]
) -> list[str]:
    """What came of a step: sentences about role, vote, log, commit and reads (``refusal_text`` has the rest).

    Args:
        effects: of the step.
        name: gives a node's name.
        before: role, term, vote, leader and commit before the step.
        after: the same after it.
    """
    found: list[str] = []
    if after["term"] != before["term"] and after["role"] == before["role"]:
        found.append(f"enters term {after['term']}")
    if after["role"] != before["role"]:
        found.append(f"becomes {role_name(after['role'])} in term {after['term']}")
    if after["vote"] != before["vote"] and after["vote"]:
        found.append(f"votes for {name(after['vote'])}")
    if after["leader"] != before["leader"]:
        if after["leader"] and after["role"] != Role.LEADER:
            found.append(f"follows {name(after['leader'])}")
        elif not after["leader"] and after["role"] == before["role"]:
            found.append("knows no leader")
    if effects.entries:
        found.append(f"writes {_entries(effects.entries)}")
    if after["commit"] > before["commit"]:
        found.append(f"knows that everything up to {after['commit']} is committed")
    if effects.committed:
        found.append(f"applies {_entries(effects.committed)}")
    if effects.reads:
        found.append(f"may serve {len(effects.reads)} read(s) at index {effects.reads[0].read_index}")
    if effects.dropped_reads:
        found.append(f"gives up {len(effects.dropped_reads)} read(s)")
    if effects.dropped:
        found.append(f"drops {len(effects.dropped)} proposal(s)")
    if effects.dropped_conf_changes:
        found.append(f"drops {len(effects.dropped_conf_changes)} configuration change(s)")
    if effects.install is not None:
        found.append(f"loads {_snapshot(effects.install)} in place of its log")
    if effects.configuration is not None:
        found.append(configuration_text(effects.configuration, name))
    return found


def configuration_text(meta: SnapshotMeta, name: Name) -> str:
    """Who takes part from now on."""
    text = f"counts with {', '.join(map(name, meta.voters)) or 'nobody'}"
    if meta.outgoing:
        text += f", jointly with {', '.join(map(name, meta.outgoing))}"
    return f"{text}; learning: {', '.join(map(name, meta.learners))}" if meta.learners else text
