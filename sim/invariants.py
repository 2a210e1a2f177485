"""The five properties of Raft's figure 3, checked after every step and only where something changed.

One object watches all nodes of a cluster. It remembers each node's last state, so its work is in
proportion to what a step changed, and most steps change nothing that matters here.

1. Election safety: at most one leader in a term.
2. Leader append-only: a leader never replaces or removes entries of its own log.
3. Log matching: an entry is known by index and term; its data and the term before it are the same in
   every log. By induction two logs that share an entry agree in everything before it.
4. Leader completeness: a leader's log holds every entry committed in an earlier term.
5. State machine safety: no two nodes commit different entries at one index.

And those that the drivers rely on: a leader's match index is true, all nodes come to the same configuration
at one entry, a snapshot stands for committed entries only, a term never falls, ``commit_index`` never falls
within one life of a node and never runs beyond its log, and a confirmed read index is not older than what
anybody had committed when the read was asked.

Source: Ongaro and Ousterhout 2014, figure 3; thesis 6.4 for the last.
"""

from __future__ import annotations

from tercet.core.raft import Effects, Entry, Progress, RaftState, Role, SnapshotMeta

__all__ = ["Invariants", "Violation", "check_decided"]

_LEADER = int(Role.LEADER)


class Violation(Exception):
    """A property does not hold. ``rule`` is its short name, ``text`` the story."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.text = text


def _keeps_to_itself(state: RaftState) -> bool:
    """A leader that elected itself alone, whose term is not on its disk yet: nobody has heard of it and its
    entries. After a crash it, or another, may well lead that term (``core.raft.replication``)."""
    configuration = state.configuration
    return (
        state.role == _LEADER
        and len(configuration.voters) == 1
        and not configuration.outgoing
        and state.log.term_at(state.persisted_index) != state.current_term
    )


class Invariants:
    """Watches every step of every node of one cluster; raises ``Violation`` at the first breach."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}  # term -> node
        self.committed: list[Entry] = []  # what anybody committed; position k holds index k + 1
        self._commit_terms: list[int] = []  # the committing node's term, aligned with ``committed``
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}  # (index, term) -> (term before, data)
        self._states: dict[int, RaftState] = {}
        self._reads: dict[int, tuple[int, int]] = {}  # context -> (asker, floor)
        self._configurations: dict[int, SnapshotMeta] = {}  # by the index of the entry that made them

    def restarted(self, node_id: int, state: RaftState) -> None:
        """A node begins a life with ``state``: what it remembers must agree with everybody else."""
        log = state.log
        self._check_entries(node_id, state, log.entries(log.base_index + 1, log.last_index))
        self._states[node_id] = state
        if state.commit_index:
            self._check_commit(node_id, 0, state)

    def observe(self, node_id: int, after: RaftState, effects: Effects) -> None:
        """One step of a node led to ``after`` with ``effects``."""
        before = self._states[node_id]
        if after is before:
            return
        self._states[node_id] = after
        if after.current_term != before.current_term and after.current_term < before.current_term:
            raise Violation("term", f"node {node_id} fell from {before.current_term} to {after.current_term}")
        if after.log is not before.log:
            if before.role == _LEADER == after.role and before.current_term == after.current_term:
                self._check_append_only(node_id, before, after, effects)
            if not _keeps_to_itself(after):
                self._check_entries(node_id, after, effects.entries)
        if after.role == _LEADER and before.persisted_index != after.persisted_index:
            if _keeps_to_itself(before) and not _keeps_to_itself(after):
                kept = after.log.entries(before.persisted_index + 1, after.log.last_index)
                self._check_entries(node_id, after, kept)
                self._check_elected(node_id, after)
        if after.role == _LEADER and (before.role != _LEADER or before.current_term != after.current_term):
            if not _keeps_to_itself(after):
                self._check_elected(node_id, after)
        if after.commit_index != before.commit_index:
            self._check_commit(node_id, before.commit_index, after)
            if after.role == _LEADER:
                check_decided(node_id, after)
        if after.commit_index > after.log.last_index:
            raise _beyond_log(node_id, after)
        if after.leadership is not None and after.leadership is not before.leadership:
            self._check_matches(before, after)
        if effects.configuration is not None:
            self._check_configuration(node_id, effects.configuration)

    def read_asked(self, node_id: int, context: int) -> None:
        """A client of ``node_id`` asks now; ``context`` is unique in the whole run."""
        self._reads[context] = (node_id, len(self.committed))

    def read_confirmed(self, node_id: int, context: int, read_index: int) -> None:
        """The answer must cover all that was committed anywhere when the read was asked."""
        asker, floor = self._reads.get(context, (0, 0))
        if asker != node_id:
            raise Violation("read", f"node {node_id} got an answer to read {context} of node {asker}")
        if read_index < floor:
            raise Violation(
                "read linearizability",
                f"node {node_id} may read at {read_index}, but {floor} was committed when it asked",
            )

    def _check_append_only(
        self, node_id: int, before: RaftState, after: RaftState, effects: Effects
    ) -> None:
        last = before.log.last_index
        if (effects.entries and effects.entries[0].index != last + 1) or after.log.last_index < last:
            raise Violation("leader append-only", f"node {node_id} changed its log before {last + 1}")

    def _check_entries(self, node_id: int, after: RaftState, entries: tuple[Entry, ...]) -> None:
        if not entries:
            return
        known = self._entries
        previous = after.log.term_at(entries[0].index - 1)
        if previous == 0 and entries[0].index > 1:
            return  # the base of a log whose first entry was forgotten without its term
        for entry in entries:
            mine = (previous, entry.data)
            theirs = known.setdefault((entry.index, entry.term), mine)
            if theirs is not mine and theirs != mine:
                place = f"index {entry.index} of term {entry.term}"
                raise Violation("log matching", f"node {node_id} holds {mine} at {place}, another {theirs}")
            previous = entry.term

    def _check_elected(self, node_id: int, after: RaftState) -> None:
        term = after.current_term
        leader = self.leaders.setdefault(term, node_id)
        if leader != node_id:
            raise Violation("election safety", f"nodes {leader} and {node_id} both lead term {term}")
        log = after.log
        for entry, commit_term in zip(self.committed, self._commit_terms, strict=True):
            if entry.index < log.base_index:
                continue  # a snapshot stands for it, of committed entries only
            if commit_term < term and log.term_at(entry.index) != entry.term:
                raise Violation(
                    "leader completeness",
                    f"node {node_id} leads term {term} without entry {entry.index} of term {entry.term}, "
                    f"committed in term {commit_term}",
                )

    def _check_commit(self, node_id: int, old_commit: int, after: RaftState) -> None:
        commit = after.commit_index
        if commit < old_commit:
            raise Violation("commit index", f"node {node_id} fell from {old_commit} to {commit}")
        if commit > after.log.last_index:
            raise _beyond_log(node_id, after)
        committed = self.committed
        log = after.log
        if log.base_index > old_commit:
            self._check_base(node_id, after)
        for entry in log.entries(max(old_commit, log.base_index) + 1, commit):
            if entry.index > len(committed):
                committed.append(entry)
                self._commit_terms.append(after.current_term)
                continue
            other = committed[entry.index - 1]
            if other is not entry and other != entry:
                raise Violation(
                    "state machine safety",
                    f"node {node_id} commits {entry} where another committed {other}",
                )


    def _check_base(self, node_id: int, state: RaftState) -> None:
        """A snapshot stands for committed entries only, and for the right ones."""
        base, term = state.log.base_index, state.log.base_term
        if base > len(self.committed):
            story = f"node {node_id} has a snapshot up to {base} of {len(self.committed)} committed entries"
            raise Violation("snapshot", story)
        if term and self.committed[base - 1].term != term:
            right = self.committed[base - 1].term
            story = f"node {node_id} has a snapshot at {base} of term {term} instead of {right}"
            raise Violation("snapshot", story)

    def _check_matches(self, before: RaftState, after: RaftState) -> None:
        """A match index newly raised is true: the member's log agrees with the leader's up to there."""
        assert after.leadership is not None
        progress = after.leadership.progress
        known: tuple[Progress, ...] = () if before.leadership is None else before.leadership.progress
        if known is progress:
            return
        aligned = len(known) == len(progress)
        for old, peer in zip(known if aligned else progress, progress, strict=True):
            match = peer.match_index
            if aligned and (old is peer or (old.match_index == match and old.node_id == peer.node_id)):
                continue
            other = self._states.get(peer.node_id)
            if match == 0 or other is None or other is after or other.current_term > after.current_term:
                continue
            log = other.log
            if match < log.base_index or match < after.log.base_index:
                continue
            if log.term_at(match) != after.log.term_at(match):
                raise Violation(
                    "match index",
                    f"leader {after.config.node_id} believes that node {peer.node_id} holds its log up to "
                    f"{match}, but that log ends at {log.last_index}",
                )

    def _check_configuration(self, node_id: int, meta: SnapshotMeta) -> None:
        """Every node that applies one entry comes to the same configuration, in touch with the one before."""
        known = self._configurations.setdefault(meta.index, meta)
        if known != meta:
            story = f"node {node_id} comes to {meta} where another came to {known}"
            raise Violation("configuration", story)


def check_decided(node_id: int, leader: RaftState) -> None:
    """Joint safety: a leader commits what a majority of each group of its configuration holds, no less."""
    assert leader.leadership is not None
    commit, configuration = leader.commit_index, leader.configuration
    held = [peer.node_id for peer in leader.leadership.progress if peer.match_index >= commit]
    for group in (configuration.voters, configuration.outgoing):
        if group and 2 * sum([voter in held for voter in group]) <= len(group):
            story = f"leader {node_id} committed {commit}, held by {held} only, under {configuration}"
            raise Violation("joint safety", story)


def _beyond_log(node_id: int, state: RaftState) -> Violation:
    story = f"node {node_id} committed {state.commit_index} of {state.log.last_index} entries"
    return Violation("commit beyond log", story)
