"""From the labels of a search to a run of real nodes: moves in words, and a trace for the player.

A search calls the nodes of each state by the names they have in its canonical form, so following a run means
to keep track of who is who. The run itself goes through the shipped core as it is, with its timers: it is a
trace like any other, and the violation is judged again on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tercet.core.raft import Effects, Event, HardState, Message, RaftState, restart
from tercet.core.raft.log import empty_log
from tercet.core.trace import Header, TraceEncoder

from ...invariants import Violation
from .explicit import explicit, first_config
from .facts import History, logs_agree, match_is_true, remember, with_read
from .local import Local, Outcome, Steps, silent
from .moves import carry_out
from .scope import How, Kind, Move, Scope, describe_move
from .search import Finding, Search

__all__ = ["Replayed", "moves_of", "replay_moves"]

_MOVE_NS = 1_000_000  # between two moves of a trace, in a world that has no clock


def moves_of(search: Search, finding: Finding) -> tuple[Move, ...]:
    """The run that the labels of ``search``'s finding stand for, every node by one name throughout.

    With the answers that the search takes for granted (see ``explicit``): more than the labels.
    """
    tables = search.tables
    known, state = 0, search.first()  # at first all nodes are alike: any naming will do
    moves = []
    for place, label in enumerate(finding.labels):
        kind, how, twice = Kind(label & 15), How(label >> 4 & 7), bool(label & 1 << 7)
        position, argument = label >> 8 & 255, label >> 16
        back = tables.inverse[known]
        node = tables.renamings[back][position + 1]
        message = None
        number = argument
        if kind == Kind.DELIVER:
            message = tables.messages[tables.renamed_messages[back][argument]]
            number = 0
        elif kind == Kind.TRANSFER:
            number = tables.renamings[back][argument]
        moves.append(Move(kind, node, message, how, number, twice))
        if place + 1 < len(finding.labels):
            renaming, state = search.follow(state, label)
            known = tables.after[renaming][known]
    return explicit(search.scope, moves)


class Replayed(msgspec.Struct, frozen=True):
    """What a run of moves came to; ``rule`` is "" when nothing broke."""

    rule: str
    text: str
    trace: bytes
    digests: tuple[bytes, ...]  # of the trace, move by move: two replays of one run agree in all of them


class _Cluster:
    def __init__(self, scope: Scope, comment: str) -> None:
        size = scope.nodes + scope.joining
        self.scope = scope
        self.history = History()
        self.encoder = TraceEncoder()
        members = tuple((node, f"n{node}") for node in range(1, size + 1))
        header = Header(program="tercet sim explore", world="explored", members=members, comment=comment)
        self.chunks = [self.encoder.begin(header)]
        self.now_ns = 0
        self.nodes: dict[int, Local] = {}
        self.sent: dict[Message, Message] = {}  # as the search knows it -> as it is
        for node in range(1, size + 1):
            config = first_config(scope, node)
            state = restart(config, HardState())
            self.nodes[node] = Local(config, state, HardState(), empty_log())
            self.record([(None, Effects(), state)])

    def record(self, steps: Sequence[tuple[Event | None, Effects, RaftState]]) -> None:
        for event, effects, state in steps:
            self.chunks.append(self.encoder.record(self.now_ns, event, effects, state))

    def move(self, move: Move) -> None:
        """Raises ``Violation`` when the move breaks a rule."""
        self.now_ns += _MOVE_NS
        kind = "crash" if move.how in (How.LOST, How.TORN) else "client"
        if kind == "crash" or move.kind != Kind.DELIVER:
            kind = "other" if move.kind == Kind.CAMPAIGN and kind == "client" else kind
            self.chunks.append(self.encoder.note(self.now_ns, kind, describe_move(move), move.node))
        if move.kind == Kind.READ:
            self.history = with_read(self.history, move.number)
        steps: Steps = []
        before = self.nodes[move.node]
        if move.message is not None:
            move = msgspec.structs.replace(move, message=self.sent.get(move.message, move.message))
        found = carry_out(self.scope, before, move, steps=steps, only=move.how)
        self.record(steps)
        outcome = next((each for each in found if each.how == move.how), None)
        if outcome is None:
            raise ValueError(f"need a run of this core, got one in which this cannot happen: {move}")
        self.nodes[move.node] = outcome.local
        self.sent |= {silent(message): message for message in outcome.sent}
        if outcome.broken is not None:
            raise Violation(*outcome.broken)
        self.judge(move.node, outcome)

    def judge(self, moved: int, outcome: Outcome) -> None:
        """Compare what a move has shown with the past; raises ``Violation`` when they differ."""
        fact = outcome.fact
        if fact is None:
            return
        self.history = remember(self.history, fact)
        mine = self.nodes[moved].state
        for node, other in self.nodes.items():
            if fact.log_changed and node != moved and not logs_agree(mine.log, other.state.log):
                story = f"nodes {moved} and {node} hold an entry of one term after others"
                raise Violation("log matching", story)
        for peer, match_index in fact.matches:
            if not match_is_true(mine, self.nodes[peer].state, match_index):
                story = f"leader {moved} believes that node {peer} holds its log up to {match_index}"
                raise Violation("match index", story)


def replay_moves(scope: Scope, moves: Sequence[Move], comment: str = "") -> Replayed:
    """Carry out ``moves`` on nodes of the core as it is now, and record them.

    Raises:
        ValueError: the core does not behave so; e.g. a bug that the run needs is not planted.
    """
    cluster = _Cluster(scope, comment)
    digests = []
    rule = text = ""
    for move in moves:
        try:
            cluster.move(move)
        except Violation as violation:
            rule, text = violation.rule, violation.text
            cluster.chunks.append(cluster.encoder.note(cluster.now_ns, "other", f"{rule}: {text}"))
        digests.append(cluster.chunks[-1])
        if rule:
            break
    return Replayed(rule, text, b"".join(cluster.chunks), tuple(digests))
