"""The world of the transcripts: a few nodes, messages that wait in a bag, and commands in words.

A transcript is a list of blocks: comment lines, one or more commands, ``----``, and what they print. Disks
are instant unless ``disk hold`` says otherwise; messages move only when told.

    cluster 1 2 3 [seed=7] [pre_vote=no] [check_quorum=no] [election_ticks=10] [max_append_entries=1]
    tick NODE [TIMES] | campaign NODE        the second ticks until the timeout has passed
    propose NODE DATA ... | read NODE CONTEXT
    deliver [FROM->TO] | settle              one message; or all until nothing moves
    drop FROM->TO | duplicate FROM->TO | lose     the last: all messages under way
    cut NODE ... | heal
    disk hold NODE | disk release NODE
    crash NODE | restart NODE
    log | state | digest NODE
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tercet.core.raft import (
    Applied,
    Config,
    Effects,
    Entry,
    Event,
    HardState,
    Message,
    Persisted,
    Propose,
    RaftState,
    ReadIndex,
    Receive,
    Role,
    Tick,
    restart,
    state_digest,
    step,
)

__all__ = ["Transcript", "run_file"]


class Peer:
    """One node: its core (None while down), its disk, and effects that wait for it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.state: RaftState | None = restart(config, self.hard_state)
        self.held: list[Effects] | None = None


class Transcript:
    """Runs commands and gathers what they print."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}
        self.bag: list[Message] = []
        self.cut: tuple[int, ...] = ()
        self.lines: list[str] = []
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "cluster": self._cluster, "tick": self._tick, "campaign": self._campaign,
            "propose": self._propose, "read": self._read, "deliver": self._deliver, "settle": self._settle,
            "drop": self._drop, "duplicate": self._duplicate, "lose": self._lose,
            "cut": self._cut, "heal": self._heal,
            "disk": self._disk, "crash": self._crash, "restart": self._restart, "log": self._log,
            "state": self._state, "digest": self._digest,
        }

    def run(self, commands: list[str]) -> str:
        """Run one block and return what it prints; ``ok`` for nothing."""
        self.lines = []
        for command in commands:
            word, *rest = command.split()
            self._commands[word](rest)
        return "\n".join(self.lines) or "ok"

    # --- commands ----------------------------------------------------------------------------------

    def _cluster(self, words: list[str]) -> None:
        ids = tuple(int(word) for word in words if "=" not in word)
        settings = dict(word.split("=") for word in words if "=" in word)
        for node_id in ids:
            flags = {name: settings.get(name, "yes") == "yes" for name in ("pre_vote", "check_quorum")}
            config = Config(
                node_id=node_id,
                voters=ids,
                seed=int(settings.get("seed", 0)),
                election_ticks=int(settings.get("election_ticks", 10)),
                max_append_entries=int(settings.get("max_append_entries", 1024)),
                **flags,
            )
            self.peers[node_id] = Peer(config)

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
        for effects in held:
            self._write(int(words[1]), effects)

    def _crash(self, words: list[str]) -> None:
        peer = self.peers[int(words[0])]
        peer.state = None
        peer.held = None

    def _restart(self, words: list[str]) -> None:
        peer = self.peers[int(words[0])]
        peer.state = restart(peer.config, peer.hard_state, tuple(peer.entries))

    def _log(self, words: list[str]) -> None:
        for node_id, peer in self.peers.items():
            log = None if peer.state is None else peer.state.log
            entries = peer.entries if log is None else log.entries(1, log.last_index)
            self.lines.append(f"{node_id}: " + (" ".join(_entry(entry) for entry in entries) or "empty"))

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
        peer.state, effects = step(peer.state, event)
        self._print(node_id, effects)
        self.bag += effects.send
        if peer.held is not None:
            peer.held.append(effects)
        else:
            self._write(node_id, effects)
        if effects.committed:
            self._step(node_id, Applied(effects.committed[-1].index))

    def _write(self, node_id: int, effects: Effects) -> None:
        peer = self.peers[node_id]
        if effects.hard_state is not None:
            peer.hard_state = effects.hard_state
        if effects.entries:
            del peer.entries[effects.entries[0].index - 1 :]
            peer.entries += effects.entries
        self.bag += effects.send_after_persist
        if effects.entries:
            last = effects.entries[-1]
            self._step(node_id, Persisted(last.index, last.term))

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
        parts += [f"read {read.context} at {read.read_index}" for read in effects.reads]
        parts += [f"read {context} dropped" for context in effects.dropped_reads]
        parts += [f"proposal {data.decode()} dropped" for data in effects.dropped]
        parts += [f"refuse {refusal.rule} ({refusal.detail})" for refusal in effects.refusals]
        self.lines += [f"   {node_id}: {part}" for part in parts]


def _entry(entry: Entry) -> str:
    return f"{entry.index}/{entry.term}:{entry.data.decode() or '-'}"


def _message(message: Message) -> str:
    values = msgspec.structs.asdict(message)
    shown: list[str] = []
    for name, value in values.items():
        if name in ("sender", "to"):
            continue
        if value in (0, "", False, ()) and name not in ("term", "prev_log_index"):
            continue
        if name == "entries":
            value = ",".join(_entry(each) if isinstance(each, Entry) else each.decode() for each in value)
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
