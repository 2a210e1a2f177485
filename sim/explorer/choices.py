"""Where deviations come from: drawn from a seed, or read from a list.

Both answer the same questions, so a recorded run and its replay take the same path. Random draws follow
the swarm idea: every seed first decides which kinds of faults this run has at all, and how often; runs
with few kinds go deeper than runs with all of them.

Some runs also give every node a priority, as a scheduler for finding concurrency bugs does: messages to a
node of low priority take longer, and at a few random moments the priorities change.

Source: Groce et al. 2012, "Swarm testing"; Burckhardt et al. 2010, "A randomized scheduler with probabilistic
guarantees of finding bugs" (PCT).
"""

from __future__ import annotations

import random
from typing import Protocol

from msgspec.structs import replace

from tercet.core.raft import Change, ChangeKind, TransitionKind

from .schedule import WAITING_ACTS, Act, Deviation, Schedule, Settings, pack_changes

__all__ = ["Choices", "FixedChoices", "RandomChoices", "draw_settings"]

_MESSAGE_ACTS = (Act.DROP, Act.DUPLICATE, Act.DELAY)
_FAULTS = (Act.CRASH, Act.PARTITION, Act.PAUSE, Act.HURRY)
_GROUPS: dict[int, int] = {  # acts that answer the same question
    Act.DUPLICATE: Act.DROP,
    Act.DELAY: Act.DROP,
    Act.CRASH_WRITE: Act.SLOW_WRITE,
}


class Choices(Protocol):
    """Answers of chance. ``nth`` counts, from 0, what begins at one moment on one link or node."""

    taken: list[Deviation]  # all that were answered, in order
    calm: int  # not 0: nothing happens to the next message; whoever sends it counts down instead of asking

    def next_act(self, now: int, leader: int) -> Deviation | None:
        """The next act, at a moment after ``now``; None: no more. ``leader`` is 0 when there is none."""

    def elected(self, now: int, leader: int) -> tuple[Deviation, ...]:
        """Acts that answer an election, at moments after ``now``."""

    def message(self, link: int, now: int, nth: int) -> Deviation | None:
        """What happens to the message that leaves on a link; None: it arrives after the usual time."""

    def write(self, node: int, now: int) -> Deviation | None:
        """What happens to the write that begins; None: it takes the usual time."""

    def apply(self, node: int, now: int, nth: int) -> Deviation | None:
        """What happens to the application that begins; None: it takes the usual time."""

    def finale(self, now: int) -> Deviation:
        """Who goes on at the end (a mask of nodes), and whether one follower is cut off from the leader."""


def draw_settings(seed: int, nodes: int, seconds: float, strict: bool = True) -> Settings:
    """The settings of a random run: mostly the shipped ones, at times with a protection switched off."""
    rng = random.Random(f"{seed}/settings")
    if rng.random() < 0.2:  # churn: leaders fall while their first entries travel, one by one
        return Settings(
            seed=seed,
            nodes=nodes,
            duration_us=int(seconds * 1_000_000),
            pre_vote=False,
            check_quorum=False,
            election_ticks=5,
            latency_us=rng.choice((5_000, 10_000)) * 2,
            write_us=rng.choice((200, 1_000)) * 2,
            max_append_entries=1,
            strict=strict,
        )
    plain = Settings(
        seed=seed,
        nodes=nodes,
        duration_us=int(seconds * 1_000_000),
        pre_vote=rng.random() < 0.6,
        check_quorum=rng.random() < 0.7,
        election_ticks=rng.choice((3, 5, 10, 10)),
        latency_us=rng.choice((500, 2_000, 10_000)) * 2,
        write_us=rng.choice((200, 1_000, 8_000)) * 2,
        max_append_entries=rng.choice((1, 2, 1024, 1024)),
        max_inflight_appends=rng.choice((1, 3, 256, 256)),
        strict=strict,
    )
    return _with_features(plain, rng)


def _with_features(plain: Settings, rng: random.Random) -> Settings:
    """Draw which of membership changes, snapshots, leases, slow state machines and limits a run has."""
    nodes = plain.nodes
    changes: dict[str, object] = {}
    if nodes > 1 and rng.random() < 0.4:
        changes["voters"] = max(1, nodes - rng.randint(1, 3))
    if rng.random() < 0.35:
        changes["snapshot_every"] = rng.choice((1, 2, 3, 8))
        changes["snapshot_keep"] = rng.choice((0, 0, 1, 4))
    if rng.random() < 0.15:
        changes |= {"lease": True, "check_quorum": True, "election_ticks": rng.choice((5, 10))}
        changes["drift_permille"] = rng.choice((0, 50, 150))
    if rng.random() < 0.2:
        changes["apply_us"] = rng.choice((20_000, 150_000))
    if rng.random() < 0.15:  # an entry's data is one to three bytes
        changes["max_inflight_bytes"] = rng.choice((0, 1, 4, 16))
        changes["max_uncommitted_bytes"] = rng.choice((0, 3, 12))
    return replace(plain, **changes)


class RandomChoices:
    """Deviations drawn from the seed and recorded in ``taken``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.taken: list[Deviation] = []
        rng = self._rng = random.Random(f"{settings.seed}/choices")
        self._message_acts = [act for act in _MESSAGE_ACTS if rng.random() < 0.6]
        mean = rng.choice((12, 40, 150))
        self._message_rate = 1.0 / mean if self._message_acts else 0.0
        self._disk_rate = rng.choice((0.0, 0.02, 0.1))
        self.calm = self._gap(self._message_rate) - 1
        self._until_write = self._gap(self._disk_rate)
        self._until_apply = self._gap(self._disk_rate / 2)
        faults = [act for act in _FAULTS if rng.random() < 0.6]
        if settings.lease:  # a lease bears clocks that drift, not clocks that jump or stand still
            faults = [act for act in faults if act not in (Act.PAUSE, Act.HURRY)]
        self._faults = faults
        self._crashes = Act.CRASH in faults
        self._fault_share = rng.choice((0.1, 0.25, 0.5)) if faults else 0.0
        self._act_gap_us = rng.choice((60_000, 120_000, 250_000))
        self._leader_share = rng.choice((0.2, 0.5, 0.8))
        self._long = rng.random() < 0.3  # delays of the order of election timeouts
        self._coups = rng.choice((0.0, 0.0, 0.4, 0.8)) if faults else 0.0
        self._churn = not settings.pre_vote and not settings.check_quorum and settings.max_append_entries == 1
        self._moments: set[int] = set()  # of acts: no two at once
        self._changes = rng.choice((0.1, 0.3, 0.5)) if 0 < settings.voters < settings.nodes else 0.0
        self._transfers = 0.0 if self._churn else rng.choice((0.0, 0.0, 0.1, 0.2))
        self._reads = 0.35 if self._churn else rng.choice((0.35, 0.35, 0.7))
        self._planned: list[Deviation] = []  # acts to come, the next one last
        if not self._churn and rng.random() < 0.3:
            self._plan_priorities()

    def _gap(self, rate: float) -> int:
        if rate <= 0.0:
            return -1  # counts down for ever
        gap = 1
        random_ = self._rng.random
        while random_() >= rate:
            gap += 1
        return gap

    def _delay(self) -> int:
        top = 3_000 if self._long else 400
        return 2_000 * self._rng.randint(1, max(1, int(top * self._rng.random() ** 3)))

    def _node(self, leader: int) -> int:
        if leader and self._rng.random() < self._leader_share:
            return leader
        return self._rng.randint(1, self.settings.nodes)

    def _take(self, deviation: Deviation) -> Deviation:
        self.taken.append(deviation)
        return deviation

    def next_act(self, now: int, leader: int) -> Deviation | None:
        rng = self._rng
        at = now + int(rng.expovariate(1.0) * self._act_gap_us)
        if self._planned and self._planned[-1].at <= at:
            planned = self._planned.pop()
            planned = replace(planned, at=self._moment(max(now, planned.at)))
            return self._take(planned) if planned.at < self.settings.duration_us else None
        at = self._moment(at)
        if at >= self.settings.duration_us:
            return None
        if self._changes and rng.random() < self._changes:
            return self._take(self._change(at, leader))
        if self._transfers and rng.random() < self._transfers:
            target = rng.randint(0, self.settings.nodes)
            return self._take(Deviation(Act.TRANSFER, at, self._node(leader), target))
        if rng.random() >= self._fault_share:
            act = Act.READ if rng.random() < self._reads else Act.PROPOSE
            return self._take(Deviation(act, at, self._node(leader)))
        return self._take(self._fault(rng.choice(self._faults), at, leader))

    def _plan(self, acts: list[Deviation]) -> None:
        self._planned = sorted([*self._planned, *acts], key=lambda act: -act.at)

    def _plan_priorities(self) -> None:
        """Every node its own delay from the start, and one to five moments at which somebody gets another.

        PCT (Burckhardt et al. 2010) gives threads priorities and changes them at a few points. Nodes have no
        scheduler to share, only messages to wait for: whose messages are slower has the lower priority.
        """
        rng, settings = self._rng, self.settings
        steps = [settings.latency_us * factor for factor in (0, 1, 3, 10, 30, 100)]
        acts = [Deviation(Act.PRIORITY, 1, node, rng.choice(steps)) for node in range(1, settings.nodes + 1)]
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(settings.duration_us)
            acts.append(Deviation(Act.PRIORITY, at, rng.randint(1, settings.nodes), rng.choice(steps)))
        self._plan(acts)

    def _change(self, at: int, leader: int) -> Deviation:
        """A change of the configuration, or the first act of a removal, wipe and return."""
        rng, settings = self._rng, self.settings
        where = leader or self._node(leader)
        draw = rng.random()
        spares = range(settings.voters + 1, settings.nodes + 1)
        if draw < 0.15 and leader:
            return self._grow_behind_a_back(at, where)
        if draw < 0.35 and leader:
            return self._return_wiped(at, where, rng.choice(spares))
        if draw < 0.55:
            changes = tuple([self._one_change() for _ in range(rng.randint(2, 3))])
            return Deviation(Act.CHANGE, at, where, pack_changes(changes), rng.choice((0, 1, 1, 2)))
        if draw < 0.6:
            return Deviation(Act.CHANGE, at, where)
        transition = TransitionKind.AUTO if rng.random() < 0.8 else rng.choice((1, 2))
        return Deviation(Act.CHANGE, at, where, pack_changes((self._one_change(),)), transition)

    def _one_change(self) -> Change:
        kinds = (ChangeKind.ADD_VOTER, ChangeKind.ADD_VOTER, ChangeKind.REMOVE, ChangeKind.ADD_LEARNER)
        return Change(self._rng.choice(kinds), self._rng.randint(1, self.settings.nodes))

    def _grow_behind_a_back(self, at: int, where: int) -> Deviation:
        """One state machine stands still while voters come, one after the other; then somebody campaigns."""
        rng, settings = self._rng, self.settings
        behind = rng.randint(1, settings.voters)
        acts = [Deviation(Act.STALL, at, behind, 2_000 * rng.choice((100, 300, 1000)))]
        for node in rng.sample(range(1, settings.nodes + 1), settings.nodes):
            at += rng.randint(2, 12) * settings.latency_us
            change = pack_changes((Change(ChangeKind.ADD_VOTER, node),))
            acts.append(Deviation(Act.CHANGE, at, where, change))
        at += rng.randint(0, 12) * settings.latency_us
        acts.append(Deviation(Act.HURRY, at, behind, 20, rng.randint(0, settings.nodes)))
        self._plan(acts[1:])
        return acts[0]

    def _return_wiped(self, at: int, where: int, node: int) -> Deviation:
        """A learner comes, is removed, loses its disk and comes again, perhaps to vote."""
        rng, step = self._rng, self.settings.latency_us
        learn = ChangeKind.ADD_LEARNER
        kinds = (learn, ChangeKind.REMOVE, None, learn, ChangeKind.ADD_VOTER)
        acts = []
        for kind in kinds:
            change = 0 if kind is None else pack_changes((Change(kind, node),))
            if kind is None:
                acts.append(Deviation(Act.WIPE, at, node, 2_000 * rng.choice((1, 5, 50))))
            else:
                acts.append(Deviation(Act.CHANGE, at, where, change))
            at += rng.randint(2 * step, 40 * step)
        self._plan(acts[1:])
        return acts[0]

    def _moment(self, at: int) -> int:
        at = (at + 1) | 1
        while at in self._moments:
            at += 2
        self._moments.add(at)
        return at

    def elected(self, now: int, leader: int) -> tuple[Deviation, ...]:
        """Often strike the new leader while its first entries travel, and set up the next candidate."""
        rng = self._rng
        step = self.settings.latency_us
        if self._churn:
            return self._coup(now, leader, step)
        if rng.random() >= self._coups:
            return ()
        strike = now + rng.randint(0, 10 * step)
        act = rng.choice(self._faults)
        if act == Act.HURRY:
            fault = Deviation(act, self._moment(strike), rng.randint(1, self.settings.nodes), 20)
        else:
            fault = self._fault(act, self._moment(strike), leader)
            if act != Act.PARTITION:
                fault = replace(fault, node=leader)
        after = self._moment(strike + rng.randint(step, 20 * step))
        heir = Deviation(Act.HURRY, after, rng.randint(1, self.settings.nodes), 20)
        return self._take(fault), self._take(heir)

    def _coup(self, now: int, leader: int, step: int) -> tuple[Deviation, ...]:
        """Cut the leader off, alone or with one other, and let somebody campaign against it."""
        rng = self._rng
        strike = now + rng.randint(0, 8 * step)
        mask = 1 << leader
        if rng.random() < 0.5:
            mask |= 1 << rng.randint(1, self.settings.nodes)
        span = 2_000 * rng.randint(20, 200)
        cut = Deviation(Act.PARTITION, self._moment(strike), mask, span, rng.choice((0, 0, 1, 2)))
        after = self._moment(strike + rng.randint(0, 6 * step))
        heir = Deviation(Act.HURRY, after, rng.randint(1, self.settings.nodes), 20)
        return self._take(cut), self._take(heir)

    def _fault(self, act: Act, at: int, leader: int) -> Deviation:
        rng = self._rng
        if act == Act.CRASH:
            down = 2_000 * rng.choice((10, 100, 400, 900))
            return Deviation(act, at, self._node(leader), down, rng.randint(0, 5))
        if act == Act.PAUSE:
            return Deviation(act, at, self._node(leader), 2_000 * rng.randint(20, 700))
        if act == Act.HURRY:
            other = rng.randint(1, self.settings.nodes) if rng.random() < 0.5 else 0
            return Deviation(act, at, self._node(0), rng.choice((5, 10, 20)), other)
        nodes = self.settings.nodes
        mask = 1 << self._node(leader)
        for _ in range(rng.randint(0, nodes // 2)):
            mask |= 1 << rng.randint(1, nodes)
        return Deviation(act, at, mask, 2_000 * rng.randint(50, 1500), rng.choice((0, 0, 0, 1, 2)))

    def message(self, link: int, now: int, nth: int) -> Deviation | None:
        self.calm = self._gap(self._message_rate) - 1
        act = self._rng.choice(self._message_acts)
        return self._take(Deviation(act, now, link, 0 if act == Act.DROP else self._delay(), nth))

    def write(self, node: int, now: int) -> Deviation | None:
        self._until_write -= 1
        if self._until_write:
            return None
        self._until_write = self._gap(self._disk_rate)
        rng = self._rng
        if self._crashes and rng.random() < 0.5:
            down = 2_000 * rng.choice((1, 5, 50, 400))
            return self._take(Deviation(Act.CRASH_WRITE, now, node, down, rng.randint(0, 5)))
        return self._take(Deviation(Act.SLOW_WRITE, now, node, self._delay()))

    def apply(self, node: int, now: int, nth: int) -> Deviation | None:
        self._until_apply -= 1
        if self._until_apply:
            return None
        self._until_apply = self._gap(self._disk_rate / 2)
        return self._take(Deviation(Act.SLOW_APPLY, now, node, self._delay(), nth))

    def finale(self, now: int) -> Deviation:
        nodes = self.settings.nodes
        size = self._rng.randint(nodes // 2 + 1, nodes)
        mask = sum(1 << node for node in self._rng.sample(range(1, nodes + 1), size))
        calm = self.settings.pre_vote and self.settings.check_quorum
        return self._take(Deviation(Act.FINALE, now, mask, 0, int(calm and self._rng.random() < 0.25)))


class FixedChoices:
    """Deviations from a schedule, and nothing else."""

    def __init__(self, schedule: Schedule) -> None:
        self.taken: list[Deviation] = list(schedule.deviations)
        self.calm = 0
        self._acts: list[Deviation] = []
        self._waiting: dict[tuple[int, int], list[Deviation]] = {}  # by group and link or node, next one last
        self._finale: Deviation | None = None
        self._nodes = schedule.settings.nodes
        for deviation in schedule.deviations:
            act = deviation.act
            if act == Act.FINALE:
                self._finale = deviation
            elif act not in WAITING_ACTS:
                self._acts.append(deviation)
            else:
                key = (_GROUPS.get(act, act), deviation.node)
                self._waiting.setdefault(key, []).append(deviation)
        self._acts.sort(key=lambda deviation: -deviation.at)
        for waiting in self._waiting.values():
            waiting.sort(key=lambda deviation: (-deviation.at, -deviation.extra))

    def next_act(self, now: int, leader: int) -> Deviation | None:
        return self._acts.pop() if self._acts else None

    def elected(self, now: int, leader: int) -> tuple[Deviation, ...]:
        return ()

    def _next(self, group: Act, place: int, now: int, nth: int) -> Deviation | None:
        waiting = self._waiting.get((group, place))
        if not waiting:
            return None
        first = waiting[-1]
        if first.at > now or (first.at == now and first.extra > nth and first.act != Act.CRASH_WRITE):
            return None
        return waiting.pop()

    def message(self, link: int, now: int, nth: int) -> Deviation | None:
        return self._next(Act.DROP, link, now, nth)

    def write(self, node: int, now: int) -> Deviation | None:
        return self._next(Act.SLOW_WRITE, node, now, 0)

    def apply(self, node: int, now: int, nth: int) -> Deviation | None:
        return self._next(Act.SLOW_APPLY, node, now, nth)

    def finale(self, now: int) -> Deviation:
        if self._finale is not None:
            return self._finale
        return Deviation(Act.FINALE, now, (2 << self._nodes) - 2)
