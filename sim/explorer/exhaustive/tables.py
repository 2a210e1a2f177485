"""Small numbers for nodes, messages and histories, and what each event makes of each of them.

Millions of global states are made of a few thousand nodes' states and messages. Each of those gets a number
once, the pure core is asked once for each pair of them, and a global state is a tuple of numbers. Nodes that
differ by a renaming of ids share one representative: the number of a node is that of its class, times the
number of renamings, plus the renaming that leads from the representative to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

from msgspec.structs import replace

from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    Role,
    VoteReply,
    VoteRequest,
)

from ...invariants import Violation
from .explicit import first_config
from .facts import Fact, History, logs_agree, match_is_true, remember, with_read
from .local import Local, Outcome, born, digest_of, without_hint
from .moves import carry_out, possible
from .renaming import Renaming, rename
from .scope import How, Kind, Move, Scope

__all__ = ["Broken", "Effect", "Tables", "is_echo"]

#: how, number of the node afterwards, messages sent, fact or None, rule and story of a violation or None
Effect = tuple[How, int, tuple[int, ...], int, "Broken | None"]
Broken = tuple[str, str]


class Tables:
    """All that is known so far about the scope's nodes and messages. Every list is by number."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.size = scope.nodes + scope.joining
        voters = range(1, scope.nodes + 1)
        fixed = {node for change in scope.changes for _, node in change}
        free = [node for node in voters if node not in fixed]
        self.renamings = [
            _image(dict(zip(free, image, strict=True)), self.size) for image in permutations(free)
        ]
        self.free = free
        self.count = len(self.renamings)
        number = {image: place for place, image in enumerate(self.renamings)}
        self.after = [  # after[p][q]: first q, then p
            [number[tuple([p[q[node]] for node in range(self.size + 1)])] for q in self.renamings]
            for p in self.renamings
        ]
        self.inverse = [row.index(0) for row in zip(*self.after, strict=True)]
        self._maps: list[Renaming] = [dict(enumerate(image)) for image in self.renamings]
        self._representatives: list[Local] = []
        self._normal: list[tuple[int, ...]] = []  # by class: the least renaming with the same result
        self._node_numbers: dict[bytes, int] = {}
        self._locals: dict[int, Local] = {}
        self.kinds: dict[int, tuple[Kind, ...]] = {}
        self.messages: list[Message] = []
        self._message_numbers: dict[Message, int] = {}
        self.renamed_messages: list[list[int]] = [[] for _ in range(self.count)]
        self.receivers: list[int] = []  # position of the receiver, from 0
        self.facts: list[Fact] = []
        self._fact_numbers: dict[Fact, int] = {}
        self.histories: list[History] = []
        self._history_numbers: dict[History, int] = {}
        self._remembered: dict[tuple[int, int], int | Broken] = {}
        self._renamed_histories: dict[tuple[int, int], int] = {}
        self._effects: dict[tuple[int, Kind, int], tuple[Effect, ...]] = {}
        self._in_class: dict[tuple[int, Kind, int], list[Outcome]] = {}
        self._plain: dict[int, int] = {}
        self._agree: dict[tuple[int, int], bool] = {}
        self._dead: dict[tuple[int, int, bool], bool] = {}
        self._normal_messages: dict[tuple[int, int], int] = {}
        self._echoes: dict[tuple[int, int], tuple[int, ...]] = {}
        self._answers: dict[tuple[int, int, bool], tuple[int, ...] | None] = {}  # after a mark

    # --- numbers ---------------------------------------------------------------------------------------

    def start(self) -> tuple[int, ...]:
        """The numbers of all nodes before anything has happened."""
        nodes = range(1, self.size + 1)
        return tuple([self.node_number(born(first_config(self.scope, node))) for node in nodes])

    def node_number(self, local: Local) -> int:
        """The number of a node's state; a new class is entered with all its renamings."""
        key = digest_of(local)
        found = self._node_numbers.get(key)
        if found is not None:
            return found
        family = len(self._representatives)
        self._representatives.append(local)
        normal = []
        seen: dict[bytes, int] = {}
        for place, renaming in enumerate(self._maps):
            other = key if place == 0 else digest_of(rename(local, renaming))
            first = seen.setdefault(other, place)
            normal.append(first)
            self._node_numbers.setdefault(other, family * self.count + first)
        self._normal.append(tuple(normal))
        return family * self.count

    def node(self, number: int) -> Local:
        """The state with that number."""
        found = self._locals.get(number)
        if found is None:
            family, place = divmod(number, self.count)
            found = rename(self._representatives[family], self._maps[place])
            self._locals[number] = found
        return found

    def renamed_node(self, place: int, number: int) -> int:
        """The number of a node's state under the renaming ``place``."""
        family, own = divmod(number, self.count)
        return family * self.count + self._normal[family][self.after[place][own]]

    def message_number(self, message: Message) -> int:
        """The number of a message; entered with all its renamings."""
        found = self._message_numbers.get(message)
        if found is not None:
            return found
        copies = [rename(message, renaming) for renaming in self._maps]
        for copy in copies:
            if copy not in self._message_numbers:
                self._message_numbers[copy] = len(self.messages)
                self.messages.append(copy)
                self.receivers.append(copy.to - 1)
                for column in self.renamed_messages:
                    column.append(-1)
        for place, copy in enumerate(copies):
            number = self._message_numbers[copy]
            for other in range(self.count):
                image = copies[self.after[other][place]]
                self.renamed_messages[other][number] = self._message_numbers[image]
        return self._message_numbers[message]

    def fact_number(self, fact: Fact | None) -> int:
        """The number of a fact, -1 for none."""
        if fact is None:
            return -1
        number = self._fact_numbers.setdefault(fact, len(self.facts))
        if number == len(self.facts):
            self.facts.append(fact)
        return number

    def history_number(self, history: History) -> int:
        """The number of a history."""
        number = self._history_numbers.setdefault(history, len(self.histories))
        if number == len(self.histories):
            self.histories.append(history)
        return number

    @property
    def classes(self) -> int:
        """How many nodes' states there are, but for renamings."""
        return len(self._representatives)

    # --- what follows from what ------------------------------------------------------------------------

    def position(self, number: int) -> int:
        """Where the node stands, from 0."""
        return self.node(number).config.node_id - 1

    def possible(self, number: int) -> tuple[Kind, ...]:
        """See ``moves.possible``."""
        kinds = self.kinds.get(number)
        if kinds is None:
            kinds = self.kinds[number] = possible(self.scope, self._representatives[number // self.count])
        return kinds

    def effects(self, node: int, kind: Kind, argument: int) -> tuple[Effect, ...]:
        """What an event makes of a node. ``argument``: of a delivery the message, else a number or node."""
        key = (node, kind, argument)
        found = self._effects.get(key)
        if found is None:
            found = self._effects[key] = tuple(self._work_out(node, kind, argument))
        return found

    def move(self, node: int, kind: Kind, argument: int) -> Move:
        """The event as a move. ``argument`` as of ``effects``."""
        message = self.messages[argument] if kind == Kind.DELIVER else None
        return Move(kind, self.node(node).config.node_id, message, number=0 if message else argument)

    def _work_out(self, node: int, kind: Kind, argument: int) -> Iterable[Effect]:
        """Ask for the representative, and rename the answer."""
        family, place = divmod(node, self.count)
        back = self.inverse[place]
        if kind == Kind.DELIVER:
            argument = self.renamed_messages[back][argument]
        elif kind == Kind.TRANSFER:
            argument = self.renamings[back][argument]
        base = family * self.count
        key = (base, kind, argument)
        outcomes = self._in_class.get(key)
        if outcomes is None:
            move = self.move(base, kind, argument)
            outcomes = carry_out(self.scope, self._representatives[family], move)
            self._in_class[key] = outcomes
        renaming = self._maps[place]
        for outcome in outcomes:
            after = self.renamed_node(place, self.node_number(outcome.local))
            column = self.renamed_messages[place]
            sent = [self.message_number(message) for message in outcome.sent]
            fact = self.fact_number(rename(outcome.fact, renaming) if place else outcome.fact)
            yield outcome.how, after, tuple([column[number] for number in sent]), fact, outcome.broken

    def without_hint(self, number: int) -> int:
        """The same node where crashes are used up."""
        found = self._plain.get(number)
        if found is None:
            found = self._plain[number] = self.node_number(without_hint(self.node(number)))
        return found

    def remembered(self, history: int, fact: int) -> int | Broken:
        """The history after a fact, or what the fact breaks."""
        key = (history, fact)
        found = self._remembered.get(key)
        if found is None:
            try:
                found = self.history_number(remember(self.histories[history], self.facts[fact]))
            except Violation as violation:
                found = (violation.rule, violation.text)
            self._remembered[key] = found
        return found

    def with_read(self, history: int, context: int) -> int:
        """The history after a read was asked."""
        return self.history_number(with_read(self.histories[history], context))

    def renamed_history(self, place: int, history: int) -> int:
        """The number of a history under the renaming ``place``."""
        key = (place, history)
        found = self._renamed_histories.get(key)
        if found is None:
            renamed = rename(self.histories[history], self._maps[place])
            found = self._renamed_histories[key] = self.history_number(renamed)
        return found

    def compare(self, fact: int, moved: int, nodes: tuple[int, ...]) -> Broken | None:
        """Compare the node that showed ``fact`` (at position ``moved``) with the others."""
        what = self.facts[fact]
        if what.log_changed:
            for position, other in enumerate(nodes):
                if position != moved and not self._logs_agree(nodes[moved], other):
                    story = f"nodes {moved + 1} and {position + 1} hold an entry of one term after others"
                    return "log matching", story
        for peer, match_index in what.matches:
            leader, member = self.node(nodes[moved]).state, self.node(nodes[peer - 1]).state
            if not match_is_true(leader, member, match_index):
                return (
                    "match index",
                    f"leader {moved + 1} believes that node {peer} holds its log up to {match_index}",
                )
        return None

    def _logs_agree(self, one: int, other: int) -> bool:
        key = (one, other) if one < other else (other, one)
        found = self._agree.get(key)
        if found is None:
            found = self._agree[key] = logs_agree(self.node(one).state.log, self.node(other).state.log)
        return found

    def is_dead(self, message: int, node: int, crashes: bool) -> bool:
        """Whether a reply can never again mean anything to its receiver, whatever happens."""
        key = (message, node, crashes)
        found = self._dead.get(key)
        if found is None:
            found = self._dead[key] = _is_dead(self.messages[message], self.node(node), crashes)
        return found

    def normal(self, message: int, node: int) -> int:
        """A message that means the same to this node, now and ever after; the same one for many."""
        key = (message, node)
        found = self._normal_messages.get(key)
        if found is None:
            found = self._normal_messages[key] = self._worked_normal(message, node)
        return found

    def _worked_normal(self, number: int, node: int) -> int:
        message, local = self.messages[number], self.node(node)
        if local.pending:
            return number
        if isinstance(message, VoteRequest) and message.term and _is_spent(message, local):
            replies = [self.messages[reply] for reply in self.echoes(number, node)]
            if replies and not any(isinstance(each, VoteReply) and each.vote_granted for each in replies):
                asks = VoteRequest(
                    sender=message.sender, to=message.to, term=0, last_log_index=0, last_log_term=0,
                    pre_vote=message.pre_vote, commit_index=message.commit_index,
                    commit_term=message.commit_term,
                )
                return self.message_number(_without_old_news(asks, local))
        if isinstance(message, VoteRequest):
            return self.message_number(_without_old_news(message, local))
        if isinstance(message, VoteReply) and _only_tells(message, local):
            return self.message_number(replace(message, sender=message.to))
        return number

    def echoes(self, message: int, node: int) -> tuple[int, ...]:
        """What a node answers to a message that changes nothing there and costs nothing."""
        key = (message, node)
        found = self._echoes.get(key)
        if found is None:
            effects = self.effects(node, Kind.DELIVER, message)
            found = tuple([reply for each in effects if is_echo(each, node) for reply in each[2]])
            self._echoes[key] = found
        return found

    def answers(self, message: int, node: int, crashes: bool) -> tuple[int, ...] | None:
        """What a request comes to that can do nothing more to its receiver; None: it may still do something.

        In the last term of the scope the answer to a leader of an earlier one, or to a leader whose entries
        are held and known to be committed as far as it says, is always the same. So the request may be
        answered at once, whenever it would arrive. Not so a refused vote: it tells what is committed by then.

        Args:
            crashes: whether there may be crashes yet; if not, a notice of what is known is worth nothing.
        """
        key = (message, node, crashes)
        found = self._answers.get(key, ())
        if found == ():
            found = self._answers[key] = self._answer(message, node, crashes)
        return None if found is None else found[1:]

    def _answer(self, number: int, node: int, crashes: bool) -> tuple[int, ...] | None:
        message, local = self.messages[number], self.node(node)
        hard = local.hard
        if local.pending or not isinstance(message, AppendRequest | HeartbeatRequest):
            return None
        last_term = hard.current_term == self.scope.terms
        over = message.term < hard.current_term
        if isinstance(message, HeartbeatRequest) and message.quiet and not crashes:
            follows = local.state.leader_id == message.sender and message.term == hard.current_term
            settled = (last_term and over) or (follows and message.leader_commit <= local.state.commit_index)
        elif isinstance(message, AppendRequest):
            settled = last_term and (over or (not crashes and _holds(local, message)))
        else:
            settled = last_term and over
        if not settled:
            return None
        effects = [each for each in self.effects(node, Kind.DELIVER, number) if each[0] == How.DONE]
        (_, after, sent, fact, broken), *others = effects
        if others or broken or fact >= 0 or after != node:
            return None
        return (-1, *sent)


def is_echo(effect: Effect, node: int) -> bool:
    """Whether the effect of a delivery at ``node`` is an answer and nothing else."""
    how, after, _, fact, broken = effect
    return how == How.DONE and after == node and fact < 0 and broken is None


def _image(free: Renaming, size: int) -> tuple[int, ...]:
    return tuple([free.get(node, node) for node in range(size + 1)])


def _holds(local: Local, request: AppendRequest) -> bool:
    """Whether the request brings nothing: what a leader's log agrees with in its term will not be cut off."""
    log, prev = local.disk, request.prev_log_index
    return (
        request.term == local.hard.current_term
        and log.last_index >= prev + len(request.entries)
        and log.term_at(prev) == request.prev_log_term
        and all(log.term_at(entry.index) == entry.term for entry in request.entries)
    )


def _is_dead(message: Message, local: Local, crashes: bool) -> bool:
    term = local.hard.current_term
    if not isinstance(message, VoteReply | AppendReply | HeartbeatReply) or local.pending:
        return False
    if local.state.released_index < local.state.commit_index:
        return False  # just restarted: whatever arrives lets it apply what it knows to be committed
    if message.term != term:
        pre_vote = isinstance(message, VoteReply) and message.pre_vote
        return message.term < term and not pre_vote
    role = local.state.role
    if isinstance(message, VoteReply):
        return not message.pre_vote and role != Role.CANDIDATE and not _tells(message, local, crashes)
    return role in (Role.FOLLOWER, Role.PRE_CANDIDATE)


def _is_spent(request: VoteRequest, local: Local) -> bool:
    """Whether nothing can come of a request for a vote any more but a refusal, always the same one."""
    hard = local.hard
    if request.term < hard.current_term:
        return True
    given = hard.voted_for not in (0, request.sender)
    return request.term == hard.current_term and given and not request.pre_vote


def _without_old_news(request: VoteRequest, local: Local) -> VoteRequest:
    """The request without what it tells of the commit index, if its receiver will always know as much."""
    if request.commit_index > local.hard.commit_index:
        return request
    return replace(request, commit_index=0, commit_term=0)


def _only_tells(reply: VoteReply, local: Local) -> bool:
    """Whether a refused vote can only tell its receiver what is committed: it matters not who says so."""
    refused = not reply.vote_granted and not reply.pre_vote and reply.term == local.hard.current_term
    return refused and local.state.role != Role.CANDIDATE


def _tells(refusal: VoteReply, local: Local, crashes: bool) -> bool:
    """Whether a refused vote may tell a node that more is committed than it will always know."""
    if crashes:
        return refusal.commit_index > local.hard.commit_index
    return local.state.leadership is None and refusal.commit_index > local.state.commit_index
