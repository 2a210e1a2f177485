"""One node of the core in a chosen situation, for tests of single claims: init, act, check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    Applied,
    Config,
    Effects,
    Entry,
    Event,
    HardState,
    HeartbeatRequest,
    Message,
    Persisted,
    Progress,
    RaftState,
    Receive,
    Role,
    Tick,
    VoteReply,
    VoteRequest,
    restart,
    step,
)

_M = TypeVar("_M")

__all__ = [
    "Node", "cluster", "entries_of", "follower", "leader", "leaders", "progress_of", "refusal", "sent",
    "settle",
]


def entries_of(terms: Sequence[int], first: int = 1) -> tuple[Entry, ...]:
    """Entries of these terms, the first with index ``first``."""
    return tuple(Entry(term, first + k, b"%d" % (first + k)) for k, term in enumerate(terms))


class Node:
    """A core and the effects of its last step; its disk and its state machine answer when told."""

    def __init__(self, state: RaftState) -> None:
        self.state = state
        self.effects = Effects()

    def do(self, *events: Event) -> Effects:
        """Let events happen; the effects of the last one."""
        for event in events:
            self.state, self.effects = step(self.state, event)
        return self.effects

    def hear(self, *messages: Message) -> Effects:
        return self.do(*[Receive(message) for message in messages])

    def tick(self, times: int) -> list[Message]:
        """Let ticks pass; all that was sent."""
        found: list[Message] = []
        for _ in range(times):
            effects = self.do(Tick())
            found += effects.send + effects.send_after_persist
        return found

    def time_out(self) -> list[Message]:
        """Let ticks pass until the node campaigns; what it sent."""
        return self.tick(self.state.election_timeout - self.state.election_elapsed)

    def write(self) -> Effects:
        """The whole log becomes durable."""
        return self.do(Persisted(self.state.log.last_index, self.state.log.last_term))

    def apply(self) -> Effects:
        """All that was released is applied."""
        return self.do(Applied(self.state.released_index))

    @property
    def terms(self) -> list[int]:
        """The terms of the entries in the log."""
        log = self.state.log
        return [entry.term for entry in log.entries(log.base_index + 1, log.last_index)]

    # Messages of others, as this node would get them.

    def append(
        self,
        term: int,
        prev: int,
        prev_term: int,
        terms: Sequence[int] = (),
        *,
        commit: int = 0,
        sender: int = 2,
    ) -> AppendRequest:
        return AppendRequest(
            sender=sender,
            to=self.state.config.node_id,
            term=term,
            prev_log_index=prev,
            prev_log_term=prev_term,
            entries=entries_of(terms, prev + 1),
            leader_commit=commit,
        )

    def beat(self, term: int, *, commit: int = 0, sender: int = 2) -> HeartbeatRequest:
        """A heartbeat that tells what this node holds at ``commit``."""
        return HeartbeatRequest(
            sender=sender,
            to=self.state.config.node_id,
            term=term,
            leader_commit=commit,
            commit_term=max(self.state.log.term_at(commit), 0),
        )

    def ask(self, term: int, last: int, last_term: int, *, sender: int = 3) -> VoteRequest:
        return VoteRequest(
            sender=sender,
            to=self.state.config.node_id,
            term=term,
            last_log_index=last,
            last_log_term=last_term,
        )

    def vote(self, sender: int, *, granted: bool = True) -> VoteReply:
        node_id, term = self.state.config.node_id, self.state.current_term
        return VoteReply(sender=sender, to=node_id, term=term, vote_granted=granted)

    def held(self, sender: int, match_index: int) -> AppendReply:
        node_id, term = self.state.config.node_id, self.state.current_term
        return AppendReply(sender=sender, to=node_id, term=term, success=True, match_index=match_index)


def sent(effects: Effects, kind: type[_M]) -> list[_M]:
    """The messages of one kind among all that leaves, at once or once durable."""
    return [each for each in effects.send + effects.send_after_persist if isinstance(each, kind)]


def follower(
    terms: Sequence[int] = (),
    *,
    term: int | None = None,
    voted_for: int = 0,
    commit: int = 0,
    voters: tuple[int, ...] = (1, 2, 3),
    **settings: object,
) -> Node:
    """Node 1 with a log of these terms, as if just started; without pre-vote unless asked for."""
    settings = {"pre_vote": False, "check_quorum": False, **settings}
    config = Config(node_id=1, voters=voters, **settings)  # type: ignore[arg-type]
    current = max([0, *terms]) if term is None else term
    state = restart(config, HardState(current, voted_for, commit), entries_of(terms))
    return Node(state)


def leader(terms: Sequence[int] = (), **settings: object) -> Node:
    """Node 1, just elected by node 2 in the next term; its own disk has written nothing of that term."""
    node = follower(terms, **settings)  # type: ignore[arg-type]
    node.time_out()
    for voter in node.state.configuration.voters[1:]:
        if node.state.role != Role.LEADER:
            node.hear(node.vote(voter))
    assert node.state.role == Role.LEADER
    return node


def cluster(*logs: Sequence[int], term: int) -> dict[int, Node]:
    """Nodes 1, 2, ... with logs of these terms, all in one term, as if just started."""
    voters = tuple(range(1, len(logs) + 1))
    return {
        node_id: Node(
            restart(
                Config(node_id=node_id, voters=voters, pre_vote=False, check_quorum=False),
                HardState(term),
                entries_of(terms),
            )
        )
        for node_id, terms in zip(voters, logs, strict=True)
    }


def settle(nodes: dict[int, Node], messages: Sequence[Message]) -> None:
    """Deliver messages and all that follows from them; disks are instant. Who is not in ``nodes`` is down."""
    waiting = list(messages)
    while waiting:
        message = waiting.pop(0)
        if message.to not in nodes:
            continue
        node = nodes[message.to]
        effects = node.hear(message)
        waiting += effects.send + effects.send_after_persist
        if effects.entries:
            effects = node.write()
            waiting += effects.send + effects.send_after_persist


def leaders(nodes: dict[int, Node]) -> list[int]:
    """Who leads."""
    return [node_id for node_id, node in nodes.items() if node.state.role == Role.LEADER]


def refusal(sender: int, prev: int, *, hint: int, term: int = 2) -> AppendReply:
    """An append refused behind entry ``prev``; ``hint`` is where, and of which term, to try again."""
    return AppendReply(
        sender=sender, to=1, term=term, success=False, prev_log_index=prev, hint_index=hint, hint_term=hint
    )


def progress_of(node: Node) -> tuple[Progress, ...]:
    """What a leader knows of its members."""
    assert node.state.leadership is not None
    return node.state.leadership.progress
