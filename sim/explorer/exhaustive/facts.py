"""What a move shows to the world, and the history that a state must agree with.

A state of the search is more than its nodes: who has led and what has been committed stays true although
nobody may remember it. ``History`` is that memory, and ``remember`` checks each new ``Fact`` against it:
election safety, leader completeness, state machine safety, and reads that are not too old. Log matching and
the truth of match indexes compare nodes with each other (``logs_agree``, ``match_is_true``).

Source: Ongaro and Ousterhout 2014, figure 3; thesis 6.4 for reads.
"""

from __future__ import annotations

import msgspec

from tercet.core.raft import Entry, Log, RaftState, Role

from ...invariants import Violation

__all__ = ["Fact", "History", "fact_of", "logs_agree", "match_is_true", "remember", "terms_of", "with_read"]

_LEADER = int(Role.LEADER)


class Fact(msgspec.Struct, frozen=True, gc=False):
    """What a move of one node has shown."""

    term: int  # the node's
    elected: bool = False  # it leads ``term`` from now on
    terms: tuple[int, ...] = ()  # of its log's entries, if it was elected
    commits: tuple[Entry, ...] = ()  # newly committed there
    commit_index: int = 0
    reads: tuple[tuple[int, int], ...] = ()  # confirmed: context and read index
    log_changed: bool = False
    matches: tuple[tuple[int, int], ...] = ()  # as leader: node and its new match index
    node_id: int = 0  # who leads, if it was elected


class History(msgspec.Struct, frozen=True, gc=False):
    """What the past has settled."""

    elected: tuple[tuple[int, int], ...] = ()  # terms that had a leader, and who it was
    committed: tuple[Entry, ...] = ()
    commit_terms: tuple[int, ...] = ()  # the term in which each was committed, aligned with ``committed``
    floors: tuple[tuple[int, int], ...] = ()  # reads asked: context, and what was committed then


def fact_of(before: RaftState, after: RaftState, reads: tuple[tuple[int, int], ...] = ()) -> Fact | None:
    """What became known when a node went from ``before`` to ``after``; None: nothing."""
    same_term = before.current_term == after.current_term
    elected = after.role == _LEADER and not (before.role == _LEADER and same_term)
    commits: tuple[Entry, ...] = ()
    if after.commit_index > before.commit_index:
        commits = after.log.entries(before.commit_index + 1, after.commit_index)
    log_changed = after.log is not before.log and after.log != before.log
    matches: tuple[tuple[int, int], ...] = ()
    if after.leadership is not None:
        known = {}
        if before.leadership is not None and same_term:
            known = {peer.node_id: peer.match_index for peer in before.leadership.progress}
        matches = tuple(
            (peer.node_id, peer.match_index)
            for peer in after.leadership.progress
            if peer.match_index > known.get(peer.node_id, 0) and peer.node_id != after.config.node_id
        )
    if not (elected or commits or log_changed or matches or reads):
        return None
    terms = terms_of(after.log) if elected else ()
    return Fact(
        after.current_term, elected, terms, commits, after.commit_index, reads, log_changed, matches,
        after.config.node_id if elected else 0,
    )


def terms_of(log: Log) -> tuple[int, ...]:
    """The terms of a log's entries, from the first on."""
    return tuple([entry.term for entry in log.entries(1, log.last_index)])


def with_read(history: History, context: int) -> History:
    """A client asks now: its answer must cover all that is committed by now."""
    floor = (context, len(history.committed))
    return msgspec.structs.replace(history, floors=(*history.floors, floor))


def remember(history: History, fact: Fact) -> History:
    """The history after ``fact``.

    Raises:
        Violation: the two contradict each other.
    """
    elected, committed, commit_terms = history.elected, history.committed, history.commit_terms
    if fact.elected:
        if any(term == fact.term and node_id != fact.node_id for term, node_id in elected):
            raise Violation("election safety", f"term {fact.term} has a second leader")
        for entry, commit_term in zip(committed, commit_terms, strict=True):
            held = entry.index <= len(fact.terms) and fact.terms[entry.index - 1] == entry.term
            if commit_term < fact.term and not held:
                raise Violation(
                    "leader completeness",
                    f"the leader of term {fact.term} lacks entry {entry.index} of term {entry.term}, "
                    f"committed in term {commit_term}",
                )
        elected = tuple(sorted({**dict(elected), fact.term: fact.node_id}.items()))
    for entry in fact.commits:
        if entry.index > len(committed):
            committed, commit_terms = (*committed, entry), (*commit_terms, fact.term)
        elif committed[entry.index - 1] != entry:
            raise Violation(
                "state machine safety", f"{entry} is committed where {committed[entry.index - 1]} was before"
            )
    floors = history.floors
    for context, read_index in fact.reads:
        for asked, floor in history.floors:
            if asked == context and read_index < floor:
                raise Violation(
                    "read linearizability",
                    f"read {context} may be served at {read_index}, but {floor} was committed when it asked",
                )
        floors = tuple([pair for pair in floors if pair[0] != context])
    return History(elected, committed, commit_terms, floors)


def logs_agree(one: Log, other: Log) -> bool:
    """Log matching: where both hold an entry of one term, all before it is the same, too."""
    for index in range(min(one.last_index, other.last_index), 0, -1):
        if one.term_at(index) == other.term_at(index):
            return one.entries(1, index) == other.entries(1, index)
    return True


def match_is_true(leader: RaftState, peer: RaftState, match_index: int) -> bool:
    """Whether ``peer`` holds the leader's log up to ``match_index``, unless a newer leader has come."""
    if peer.current_term > leader.current_term:
        return True
    held = peer.log.last_index >= match_index
    return held and peer.log.term_at(match_index) == leader.log.term_at(match_index)
