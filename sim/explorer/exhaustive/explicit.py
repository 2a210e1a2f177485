"""A run in which every message that arrives has been sent.

The search takes some deliveries for granted: those that change nothing and only bring an answer, or whose
answer is always the same. And of several messages that mean the same to their receiver it names but one. A
run that somebody is to read, or that is to be replayed, needs them as they are. So the run is followed once
more, all such answers are given as soon as they can be, and those that are needed later become moves.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tercet.core.raft import Config, Message

from .local import Local, Outcome, born, digest_of
from .moves import carry_out
from .scope import How, Kind, Move, Scope

__all__ = ["explicit", "first_config"]


def first_config(scope: Scope, node: int) -> Config:
    """The settings of one of the scope's nodes."""
    voters = tuple(range(1, scope.nodes + 1))
    return Config(
        node_id=node, voters=voters, election_ticks=2, pre_vote=scope.pre_vote, check_quorum=False,
        max_append_entries=scope.batch or 1024,
    )


def explicit(scope: Scope, moves: Sequence[Move]) -> tuple[Move, ...]:
    """``moves`` with the deliveries that the search took for granted.

    Raises:
        ValueError: a move cannot happen, or a message arrives that nobody can have sent.
    """
    run = _Run(scope)
    followed = [run.follow(place, move) for place, move in enumerate(moves)]
    found = []
    for place, move in enumerate(followed):
        found.append(move)
        found += [each for at, each in run.needed if at == place]
    return tuple(found)


class _Run:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        size = scope.nodes + scope.joining
        self.nodes = {node: born(first_config(scope, node)) for node in range(1, size + 1)}
        #: Whence each message is: None: a move sent it; else an answer to a delivery after the move there.
        self.sources: dict[Message, tuple[int, Move] | None] = {}
        self.needed: list[tuple[int, Move]] = []

    def follow(self, place: int, move: Move) -> Move:
        """Carry a move out; the same move, with the message that really arrives."""
        if move.message is not None:
            move = replace(move, message=self._sent(move, move.message))
        outcome = self._outcome(move)
        if outcome is None:
            raise ValueError(f"need a run of this core, got one in which this cannot happen: {move}")
        self.nodes[move.node] = outcome.local
        for message in outcome.sent:
            self.sources.setdefault(message, None)
        self._answer(place, [each for each in self.sources if each.to == move.node or each in outcome.sent])
        return move

    def _outcome(self, move: Move) -> Outcome | None:
        found = carry_out(self.scope, self.nodes[move.node], move)
        return next((each for each in found if each.how == move.how), None)

    def _answer(self, place: int, messages: Sequence[Message]) -> None:
        """Give all the answers to ``messages`` that change nothing at who gives them."""
        while messages:
            fresh = []
            for message in messages:
                local = self.nodes.get(message.to)
                if local is None:
                    continue
                move = Move(Kind.DELIVER, message.to, message)
                outcome = self._outcome(move)
                if outcome is None or outcome.how != How.DONE or not _leaves(local, outcome):
                    continue
                for answer in outcome.sent:
                    if answer not in self.sources:
                        self.sources[answer] = (place, move)
                        fresh.append(answer)
            messages = fresh

    def _sent(self, move: Move, message: Message) -> Message:
        """The message under way that does what ``message`` would do; what it needs becomes needed."""
        found: Message | None = message
        if message not in self.sources:
            wanted = _deed(self._outcome(move))
            found = next(
                (
                    each
                    for each in self.sources
                    if each.to == message.to
                    and type(each) is type(message)
                    and _deed(self._outcome(replace(move, message=each))) == wanted
                ),
                None,
            )
        if found is None:
            raise ValueError(f"need messages that were sent, got {message}")
        self._need(found)
        return found

    def _need(self, message: Message) -> None:
        source = self.sources[message]
        if source is None:
            return
        self.sources[message] = None
        request = source[1].message
        assert request is not None
        self._need(request)
        self.needed.append(source)


def _leaves(local: Local, outcome: Outcome) -> bool:
    """Whether the outcome leaves the node as it was."""
    unseen = outcome.fact is None and outcome.broken is None
    return unseen and digest_of(outcome.local) == digest_of(local)


def _deed(outcome: Outcome | None) -> object:
    """What an outcome comes to, for comparisons."""
    return None if outcome is None else (digest_of(outcome.local), outcome.sent, outcome.broken)
