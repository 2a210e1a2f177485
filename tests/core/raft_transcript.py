"""The world of the transcripts: a few nodes, messages that wait in a bag, and commands in words.

A transcript is a list of blocks: comment lines, one or more commands, ``----``, and what they print. Disks
are instant unless ``disk hold`` says otherwise; messages move only when told.

    cluster 1 2 3 [learners=4,5] [bootstrap=yes] [seed=7] [pre_vote=no] [check_quorum=no] ...
                                             any other setting of ``Config``, yes or no, or a number;
                                             bootstrap: the voters are the log's first entry, applied
    join NODE ...                            new nodes that are members of nothing yet
    holds NODE TERM ... [in=TERM]            it starts anew with empty entries of these terms, in that term
    tick NODE [TIMES] | campaign NODE        the second ticks until the timeout has passed
    propose NODE DATA ... | read NODE CONTEXT
    change NODE [auto|implicit|explicit] +4 ~5 -1       add a voter, add a learner, remove; or: leave
    transfer NODE TARGET                     0: to whoever is most up to date
    compact NODE [KEEP]                      snapshot of what is applied; only KEEP entries stay
    report FROM->TO ok|failed                how sending the last snapshot ended
    unreachable NODE MEMBER
    deliver [FROM->TO] | settle              one message; or all until nothing moves
    drop FROM->TO | duplicate FROM->TO | late FROM->TO       the last: behind all that is under way now
    lose                                     all messages under way
    cut NODE ... | heal
    disk hold NODE | disk release NODE
    apply hold NODE | apply release NODE     the state machine
    apply refuse INDEX                       every state machine refuses the change in that entry
    install hold NODE | install release NODE           loading a snapshot
    crash NODE | restart NODE | wipe NODE    the last: it starts again, with an empty disk
    log | state | members | progress NODE | digest NODE
    quietly COMMAND ...                      whatever the command prints is left out
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tercet.core.errors import Corruption
from tercet.core.raft import (
    AppendRequest,
    Applied,
    Change,
    ChangeKind,
    ConfChange,
    Config,
    Effects,
    Entry,
    EntryKind,
    Event,
    HardState,
    Message,
    Persisted,
    ProgressState,
    Propose,
    ProposeConfChange,
    RaftState,
    ReadIndex,
    Receive,
    Role,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotReady,
    SnapshotSent,
    Tick,
    TransferLeader,
    TransitionKind,
    Unreachable,
    decode_conf_change,
    encode_conf_change,
    restart,
    snapshot_meta,
    state_digest,
    step,
)

__all__ = ["Transcript", "run_file"]


class Peer:
    """One node: its core (None while down), its disk, and effects that wait for it."""

    def __init__(self, config: Config, entries: tuple[Entry, ...] = ()) -> None:
        self.config = config
        self.hard_state = HardState(current_term=len(entries), commit_index=len(entries))
        self.entries = list(entries)
        self.base = (0, 0)  # index and term of the entry before them
        self.snapshot: SnapshotMeta | None = None
        self.state: RaftState | None = restart(config, self.hard_state, entries, len(entries))
        self.held: list[tuple[Effects, int]] | None = None  # each with the term it was owed in
        self.held_applied: int | None = None  # None: the state machine is not held
        self.held_install: int | None = None


class Transcript:
    """Runs commands and gathers what they print."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}
        self.bag: list[Message] = []
        self.cut: tuple[int, ...] = ()
        self.lines: list[str] = []
        self.settings: dict[str, bool | int] = {}
        self.machine_refuses: tuple[int, ...] = ()
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "cluster": self._cluster, "tick": self._tick, "campaign": self._campaign,
            "propose": self._propose, "read": self._read, "deliver": self._deliver, "settle": self._settle,
            "drop": self._drop, "duplicate": self._duplicate, "late": self._late, "lose": self._lose,
            "cut": self._cut, "heal": self._heal,
            "disk": self._disk, "crash": self._crash, "restart": self._restart, "log": self._log,
            "state": self._state, "digest": self._digest, "join": self._join, "change": self._change,
            "holds": self._holds,
            "transfer": self._transfer, "compact": self._compact, "report": self._report,
            "unreachable": self._unreachable, "apply": self._apply, "install": self._install,
            "wipe": self._wipe, "members": self._members, "progress": self._progress,
        }

    def run(self, commands: list[str]) -> str:
        """Run one block and return what it prints; ``ok`` for nothing."""
        self.lines = []
        for command in commands:
            word, *rest = command.split()
            printed = len(self.lines)
            self._commands[rest[0] if word == "quietly" else word](rest[1:] if word == "quietly" else rest)
            if word == "quietly":
                del self.lines[printed:]
        return "\n".join(self.lines) or "ok"

    # --- commands ----------------------------------------------------------------------------------

    def _cluster(self, words: list[str]) -> None:
        voters = tuple(int(word) for word in words if "=" not in word)
        given = dict(word.split("=") for word in words if "=" in word)
        learners = tuple(int(word) for word in given.pop("learners", "").split(",") if word)
        bootstrap: tuple[Entry, ...] = ()
        if given.pop("bootstrap", "no") == "yes":
            change = ConfChange(tuple(Change(ChangeKind.ADD_VOTER, voter) for voter in voters))
            bootstrap = (Entry(1, 1, encode_conf_change(change), EntryKind.CONF_CHANGE),)
        self.settings = {
            name: value == "yes" if value in ("yes", "no") else int(value) for name, value in given.items()
        }
        for node_id in voters + learners:
            self._add(node_id, voters, learners, bootstrap)

    def _add(
        self,
        node_id: int,
        voters: tuple[int, ...] = (),
        learners: tuple[int, ...] = (),
        bootstrap: tuple[Entry, ...] = (),
    ) -> None:
        config = msgspec.convert(
            {"node_id": node_id, "voters": voters, "learners": learners, **self.settings}, Config
        )
        self.peers[node_id] = Peer(config, bootstrap)

    def _join(self, words: list[str]) -> None:
        for word in words:
            self._add(int(word))

    def _holds(self, words: list[str]) -> None:
        peer = self.peers[int(words[0])]
        terms = [int(word) for word in words[1:] if "=" not in word]
        peer.entries = [Entry(term, index) for index, term in enumerate(terms, 1)]
        now = words[-1].removeprefix("in=") if "=" in words[-1] else terms[-1]
        peer.hard_state = HardState(current_term=int(now))
        peer.state = restart(peer.config, peer.hard_state, tuple(peer.entries))

    def _change(self, words: list[str]) -> None:
        self._step(int(words[0]), ProposeConfChange(_change_of(words[1:])))

    def _transfer(self, words: list[str]) -> None:
        self._step(int(words[0]), TransferLeader(int(words[1])))

    def _compact(self, words: list[str]) -> None:
        peer = self.peers[int(words[0])]
        assert peer.state is not None
        peer.snapshot = meta = snapshot_meta(peer.state)
        release = max(meta.index - (int(words[1]) if len(words) > 1 else 0), 0)
        self._step(int(words[0]), SnapshotReady(meta, release))
        log = peer.state.log
        peer.base = log.base_index, log.base_term
        peer.entries = [entry for entry in peer.entries if entry.index > log.base_index]

    def _report(self, words: list[str]) -> None:
        sender, to = (int(word) for word in words[0].split("->"))
        self._step(sender, SnapshotSent(to, words[1] == "ok"))

    def _unreachable(self, words: list[str]) -> None:
        self._step(int(words[0]), Unreachable(int(words[1])))

    def _apply(self, words: list[str]) -> None:
        if words[0] == "refuse":
            self.machine_refuses += (int(words[1]),)
            return
        peer = self.peers[int(words[1])]
        held, peer.held_applied = peer.held_applied, 0 if words[0] == "hold" else None
        if held:
            self._step(int(words[1]), Applied(held, self.machine_refuses))

    def _install(self, words: list[str]) -> None:
        peer = self.peers[int(words[1])]
        held, peer.held_install = peer.held_install, 0 if words[0] == "hold" else None
        if held:
            self._installed(int(words[1]))

    def _wipe(self, words: list[str]) -> None:
        self._join(words)

    def _tick(self, words: list[str]) -> None:
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self._step(int(words[0]), Tick())

    def _campaign(self, words: list[str]) -> None:
        state = self.peers[int(words[0])].state
        assert state is not None
        self._tick([words[0], str(state.election_timeout - state.election_elapsed)])

    def _propose(self, words: list[str]) -> None:
        self._step(int(words[0]), Propose(tuple(word.encode() for word in words[1:])))

    def _read(self, words: list[str]) -> None:
        self._step(int(words[0]), ReadIndex(int(words[1])))

    def _take(self, words: list[str]) -> Message:
        if not words:
            return self.bag.pop(0)
        sender, to = (int(word) for word in words[0].split("->"))
        for position, message in enumerate(self.bag):
            if (message.sender, message.to) == (sender, to):
                return self.bag.pop(position)
        raise AssertionError(f"no message {words[0]} in {self.bag}")

    def _deliver(self, words: list[str]) -> None:
        self._give(self._take(words))

    def _give(self, message: Message) -> None:
        if message.sender in self.cut or message.to in self.cut or self.peers[message.to].state is None:
            self.lines.append(f"   {_message(message)} is lost")
            return
        self._step(message.to, Receive(message))

    def _settle(self, words: list[str]) -> None:
        for _ in range(1000):
            if not self.bag:
                return
            self._give(self.bag.pop(0))
        raise AssertionError("messages without end")

    def _drop(self, words: list[str]) -> None:
        self.lines.append(f"   {_message(self._take(words))} is lost")

    def _lose(self, words: list[str]) -> None:
        self.lines.append(f"   {len(self.bag)} messages are lost")
        self.bag.clear()

    def _duplicate(self, words: list[str]) -> None:
        message = self._take(words)
        self.bag[:0] = [message, message]

    def _late(self, words: list[str]) -> None:
        self.bag.append(self._take(words))

    def _cut(self, words: list[str]) -> None:
        self.cut = tuple(int(word) for word in words)

    def _heal(self, words: list[str]) -> None:
        self.cut = ()

    def _disk(self, words: list[str]) -> None:
        peer = self.peers[int(words[1])]
        if words[0] == "hold":
            peer.held = []
            return
        held, peer.held = peer.held or [], None
        for effects, term in held:
            self._write(int(words[1]), effects, term)

    def _crash(self, words: list[str]) -> None:
        peer = self.peers[int(words[0])]
        peer.state = None
        peer.held = peer.held_applied = peer.held_install = None

    def _restart(self, words: list[str]) -> None:
        peer = self.peers[int(words[0])]
        peer.state = restart(
            peer.config,
            peer.hard_state,
            tuple(peer.entries),
            snapshot=peer.snapshot,
            base_term=peer.base[1],
        )

    def _log(self, words: list[str]) -> None:
        for node_id, peer in self.peers.items():
            log = None if peer.state is None else peer.state.log
            entries = peer.entries if log is None else log.entries(log.base_index + 1, log.last_index)
            base = peer.base if log is None else (log.base_index, log.base_term)
            shown = [f"snapshot {base[0]}/{base[1]}"] if base[0] else []
            shown += [_entry(entry) for entry in entries]
            self.lines.append(f"{node_id}: " + (" ".join(shown) or "empty"))

    def _state(self, words: list[str]) -> None:
        for node_id, peer in self.peers.items():
            state = peer.state
            if state is None:
                self.lines.append(f"{node_id}: down")
                continue
            self.lines.append(
                f"{node_id}: {Role(state.role).name.lower()} term={state.current_term} "
                f"vote={state.voted_for} leader={state.leader_id} "
                f"last={state.log.last_index} commit={state.commit_index}"
            )

    def _members(self, words: list[str]) -> None:
        for node_id, peer in self.peers.items():
            text = "down" if peer.state is None else _configuration(snapshot_meta(peer.state))
            self.lines.append(f"{node_id}: {text}")

    def _progress(self, words: list[str]) -> None:
        state = self.peers[int(words[0])].state
        assert state is not None and state.leadership is not None
        for peer in state.leadership.progress:
            if peer.node_id == state.config.node_id:
                continue
            line = f"{peer.node_id}: {ProgressState(peer.state).name.lower()} match={peer.match_index}"
            line += f" next={peer.next_index}"
            line += f" in flight={len(peer.inflight)}" if peer.inflight else ""
            line += " waits" if peer.probe_wait else ""
            self.lines.append(line + ("" if peer.active else " silent"))

    def _digest(self, words: list[str]) -> None:
        state = self.peers[int(words[0])].state
        assert state is not None
        self.lines.append(state_digest(state).hex())

    # --- a step and what it owes ---------------------------------------------------------------------

    def _step(self, node_id: int, event: Event) -> None:
        peer = self.peers[node_id]
        assert peer.state is not None
        if isinstance(event, Receive):
            self.lines.append(f"{event.message.sender}->{node_id} {_message(event.message)[5:]}")
        try:
            peer.state, effects = step(peer.state, event)
        except Corruption as proof:
            self.lines.append(f"   {node_id}: stops: {proof}")
            peer.state = None
            return
        self._print(node_id, effects)
        self.bag += effects.send
        if peer.held is not None:
            peer.held.append((effects, peer.state.current_term))
        else:
            self._write(node_id, effects, peer.state.current_term)
        if effects.committed:
            if peer.held_applied is None:
                self._step(node_id, Applied(effects.committed[-1].index, self.machine_refuses))
            else:
                peer.held_applied = effects.committed[-1].index
        if effects.install is not None:
            if peer.held_install is None:
                self._installed(node_id)
            else:
                peer.held_install = effects.install.index

    def _installed(self, node_id: int) -> None:
        """The snapshot is loaded and takes the place of the log on disk."""
        peer = self.peers[node_id]
        assert peer.state is not None and peer.state.installing is not None
        peer.snapshot = meta = peer.state.installing.meta
        peer.entries, peer.base = [], (meta.index, meta.term)
        self._step(node_id, SnapshotInstalled(meta.index))

    def _write(self, node_id: int, effects: Effects, term: int) -> None:
        peer = self.peers[node_id]
        if effects.hard_state is not None:
            peer.hard_state = effects.hard_state
        if effects.entries:
            del peer.entries[effects.entries[0].index - 1 - peer.base[0] :]
            peer.entries += effects.entries
        self.bag += effects.send_after_persist
        if effects.entries:
            last = effects.entries[-1]
            self._step(node_id, Persisted(last.index, last.term, term))

    def _print(self, node_id: int, effects: Effects) -> None:
        parts: list[str] = []
        if effects.soft_state is not None:
            soft = effects.soft_state
            parts.append(f"{soft.role.name.lower()} term={soft.current_term} leader={soft.leader_id}")
        if effects.hard_state is not None:
            hard = effects.hard_state
            parts.append(f"persist term={hard.current_term} vote={hard.voted_for} commit={hard.commit_index}")
        if effects.entries:
            parts.append("append " + " ".join(_entry(entry) for entry in effects.entries))
        if effects.committed:
            parts.append("commit " + " ".join(_entry(entry) for entry in effects.committed))
        if effects.install is not None:
            parts.append(f"install snapshot {effects.install.index}/{effects.install.term}")
        if effects.configuration is not None:
            parts.append(f"configuration {_configuration(effects.configuration)}")
        parts += [f"read {read.context} at {read.read_index}" for read in effects.reads]
        parts += [f"read {context} dropped" for context in effects.dropped_reads]
        parts += [f"proposal {data.decode()} dropped" for data in effects.dropped]
        parts += [f"change {_change_text(change)} dropped" for change in effects.dropped_conf_changes]
        for refusal in effects.refusals:
            parts.append(f"refuse {refusal.rule}" + (f" ({refusal.detail})" if refusal.detail else ""))
        self.lines += [f"   {node_id}: {part}" for part in parts]


def _entry(entry: Entry) -> str:
    text = f"[{_change_text(decode_conf_change(entry.data))}]" if entry.kind else entry.data.decode() or "-"
    return f"{entry.index}/{entry.term}:{text}"


_SIGNS = {"+": ChangeKind.ADD_VOTER, "-": ChangeKind.REMOVE, "~": ChangeKind.ADD_LEARNER}


def _change_of(words: list[str]) -> ConfChange:
    """``+4 ~5 -1``, perhaps with the transition in front; ``leave`` for the empty change."""
    names = {kind.name.lower(): kind for kind in TransitionKind}
    transition = names.get(words[0], TransitionKind.AUTO)
    changes = tuple(Change(_SIGNS[word[0]], int(word[1:])) for word in words if word[0] in _SIGNS)
    return ConfChange(changes, transition)


def _change_text(change: ConfChange) -> str:
    signs = {kind: sign for sign, kind in _SIGNS.items()}
    text = " ".join(f"{signs[each.kind]}{each.node_id}" for each in change.changes) or "leave"
    return text if change.transition == TransitionKind.AUTO else f"{change.transition.name.lower()} {text}"


def _configuration(meta: SnapshotMeta) -> str:
    groups = {"voters": meta.voters, "outgoing": meta.outgoing, "learners": meta.learners}
    groups["learners_next"] = meta.learners_next
    parts = [f"{name}={','.join(map(str, ids)) or '-'}" for name, ids in groups.items() if ids]
    return " ".join(parts + ["auto_leave"] * meta.auto_leave) or "nobody"


def _message(message: Message) -> str:
    values = msgspec.structs.asdict(message)
    shown: list[str] = []
    for name, value in values.items():
        if name in ("sender", "to"):
            continue
        asked = name == "prev_log_index" and isinstance(message, AppendRequest)  # 0: from the very beginning
        if value in (0, "", False, ()) and name != "term" and not asked:
            continue
        if name == "entries":
            value = ",".join(_entry(each) if isinstance(each, Entry) else each.decode() for each in value)
        elif name == "conf_changes":
            value = ",".join(_change_text(decode_conf_change(each)) for each in value)
        elif name == "meta":
            name, value = "snapshot", f"{value.index}/{value.term} {_configuration(value)}"
        shown.append(name if value is True else f"{name}={value}")
    return f"{message.sender}->{message.to} {type(message).__name__} {' '.join(shown)}"


def run_file(text: str) -> str:
    """Run a whole transcript; the result is the text with every output replaced by today's."""
    transcript = Transcript()
    blocks: list[str] = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        head = lines[: lines.index("----")] if "----" in lines else lines
        commands = [line for line in head if line and not line.startswith("#")]
        if not commands:
            blocks.append("\n".join(head))
            continue
        blocks.append("\n".join([*head, "----", transcript.run(commands)]))
    return "\n\n".join(blocks) + "\n"
