"""The explored world: one seed is one run, everywhere; failures shrink and replay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tercet.core.raft import (
    NO_EFFECTS,
    AppendReply,
    AppendRequest,
    Change,
    ChangeKind,
    Effects,
    Entry,
    Event,
    HardState,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    RaftState,
    Receive,
    SnapshotInstalled,
    SnapshotMeta,
    TimeoutNow,
    following,
)
from tercet.core.raft.quorum import configuration_of
from tercet.core.raft.state import Duty
from tercet.core.trace import Note, read_trace, verify
from tercet.jepsen_like.mutations import MUTATIONS, resolve_mutation
from tercet.jepsen_like.mutations.mutation import rerouted
from tercet.sim.explorer.commands import explore_command, schedule_from_text, schedule_to_text
from tercet.sim.explorer.configurations import quorums_meet
from tercet.sim.explorer.disk import Disk
from tercet.sim.explorer.many import explore_in_processes
from tercet.sim.explorer.random import explore, replay, run_seed
from tercet.sim.explorer.schedule import (
    Act,
    Deviation,
    Schedule,
    Settings,
    describe,
    pack_changes,
    unpack_changes,
)
from tercet.sim.explorer.shrink import shrink
from tercet.sim.explorer.tracing import trace_schedule

from .found import FOUND


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5])
def test_the_shipped_core_survives_random_schedules(nodes: int) -> None:
    found = explore(first_seed=40_000, schedules=60, nodes=nodes, seconds=5.0)
    assert found.failure is None, found.failure
    assert found.schedules == 60


def test_a_run_and_its_replay_from_data_have_one_digest() -> None:
    for seed in range(40):
        outcome = run_seed(seed)
        again = replay(outcome.schedule)
        assert (again.digest, again.steps) == (outcome.digest, outcome.steps)


def test_a_digest_is_the_same_in_another_process_and_hash_seed() -> None:
    program = (
        "from tercet.sim.explorer.random import explore\n"
        "print(explore(first_seed=7, schedules=5, seconds=3.0).digest)"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True,
        ).stdout.strip()
        for seed in ("3", "4")
    ]
    assert seen == [explore(first_seed=7, schedules=5, seconds=3.0).digest] * 2


def test_other_seeds_are_other_runs() -> None:
    assert len({run_seed(seed, seconds=2.0).digest for seed in range(20)}) == 20


def test_a_run_without_deviations_elects_and_commits() -> None:
    outcome = replay(Schedule(Settings(seed=1), ()))
    assert outcome.valid
    assert outcome.virtual_us < 12_000_000


def test_random_schedules_contain_every_kind_of_deviation() -> None:
    seen = {deviation.act for seed in range(120) for deviation in run_seed(seed).schedule.deviations}
    assert seen == set(Act)


def test_every_deviation_can_be_said_in_words() -> None:
    for act in Act:
        amount = pack_changes((Change(ChangeKind.ADD_LEARNER, 4),)) if act == Act.CHANGE else 3000
        assert str(act.value) not in ("", describe(Deviation(act, 1, 2, amount, 1)))


def test_a_schedule_fits_a_command_line() -> None:
    schedule = run_seed(3, seconds=2.0).schedule
    assert schedule_from_text(schedule_to_text(schedule)) == schedule


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", "a"])
def test_what_is_not_a_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a schedule"):
        schedule_from_text(text)


def test_a_torn_write_between_the_commit_hint_and_its_entries_is_survived() -> None:
    """Seed 1921 of an early explorer: half of a write survived, with a hint for the other half."""
    acts = (
        Deviation(Act.PROPOSE, 1218513, 2), Deviation(Act.CRASH_WRITE, 1283729, 1, 800000, 1),
        Deviation(Act.PROPOSE, 1281729, 2), Deviation(Act.PROPOSE, 1284665, 2),
        Deviation(Act.PROPOSE, 1618217, 2), Deviation(Act.HURRY, 1660647, 3, 20),
        Deviation(Act.PROPOSE, 1706433, 2), Deviation(Act.PROPOSE, 1734515, 2),
        Deviation(Act.PARTITION, 1890923, 36, 2928000), Deviation(Act.PROPOSE, 2210087, 2),
        Deviation(Act.PROPOSE, 2269119, 2), Deviation(Act.PROPOSE, 2307229, 2),
        Deviation(Act.CRASH, 2798189, 4, 200000, 1), Deviation(Act.CRASH_WRITE, 4952000, 2, 800000, 2),
    )
    settings = Settings(seed=1921, election_ticks=3, write_us=16_000, max_append_entries=1)
    assert replay(Schedule(settings, acts)).rule == ""


def test_a_voter_alone_sends_nothing_before_its_own_term_is_durable() -> None:
    """Seed 202300: it led a term, crashed before that was durable, and a learner was ahead for ever."""
    leave, demote = 0, pack_changes((Change(ChangeKind.ADD_LEARNER, 1),))
    acts = (
        Deviation(Act.CRASH_WRITE, 510409, 1, 2000, 3), Deviation(Act.CHANGE, 2016833, 2, demote, 2),
        Deviation(Act.CRASH, 2200125, 2, 20000, 3), Deviation(Act.HURRY, 4545161, 1, 20, 5),
        Deviation(Act.CHANGE, 5054201, 1, leave), Deviation(Act.CRASH_WRITE, 5058201, 2, 800000, 5),
        Deviation(Act.CRASH_WRITE, 7828000, 2, 800000, 0),
    )
    settings = Settings(seed=202300, check_quorum=False, latency_us=4000, voters=2)
    assert replay(Schedule(settings, acts)).rule == ""


@pytest.mark.parametrize("seed", FOUND)
def test_what_a_search_has_found_is_repaired(seed: int) -> None:
    schedule = schedule_from_text(FOUND[seed])
    assert schedule.settings.seed == seed
    assert replay(schedule).rule == ""


def test_a_crash_loses_what_waits_and_keeps_what_was_written() -> None:
    disk = Disk()
    disk.add(Effects(hard_state=HardState(1, 2, 0), entries=(Entry(1, 1), Entry(1, 2))))
    assert disk.begin(1)
    disk.complete()
    disk.add(Effects(hard_state=HardState(2, 0, 0), entries=(Entry(2, 2), Entry(2, 3))))
    assert disk.begin(2)
    disk.add(Effects(entries=(Entry(2, 4),)))
    disk.crash(2)
    assert disk.hard_state == HardState(2, 0, 0)
    assert disk.entries == [Entry(1, 1), Entry(2, 2)]
    assert not disk.begin(2)


def test_changes_of_the_configuration_fit_one_integer() -> None:
    kinds = (ChangeKind.ADD_VOTER, ChangeKind.REMOVE, ChangeKind.ADD_LEARNER)
    changes = tuple([Change(kind, node) for kind, node in zip(kinds, (9, 1, 4), strict=True)])
    assert unpack_changes(pack_changes(changes)) == changes
    assert unpack_changes(pack_changes(())) == ()


def test_a_snapshot_takes_the_place_of_the_log_when_its_write_ends() -> None:
    disk = Disk()
    meta = SnapshotMeta(7, 2, (1, 2, 3))
    disk.add(Effects(hard_state=HardState(2, 0, 0), entries=(Entry(1, 1),)))
    disk.begin(2)
    disk.complete()
    disk.add(Effects(install=meta))
    disk.begin(2)
    assert (disk.last_index, disk.snapshot) == (1, None)
    disk.complete()
    assert (disk.last_index, disk.term_at(7), disk.snapshot) == (7, 2, meta)
    disk.add(Effects(entries=(Entry(2, 8), Entry(2, 9))))
    disk.begin(2)
    disk.complete()
    disk.save(SnapshotMeta(9, 2, (1, 2, 3)), 8)
    assert (disk.base_index, disk.last_index, disk.term_at(8), disk.term_at(9)) == (8, 9, 2, 2)


class Unexplained:
    """Gathers messages that a node took in without any consequence and without naming a rule."""

    def __init__(self) -> None:
        self.states: dict[int, RaftState] = {}
        self.received = 0
        self.unexplained: list[Message] = []

    def step(self, now_us: int, event: Event | None, effects: Effects, state: RaftState) -> None:
        before = self.states.get(state.config.node_id)
        self.states[state.config.node_id] = state
        if before is None or not isinstance(event, Receive):
            return
        self.received += 1
        if effects == NO_EFFECTS and timeless(before) == timeless(state):
            if not says_nothing_new(event.message, before):
                self.unexplained.append(event.message)

    def note(self, now_us: int, deviation: Deviation) -> None:
        pass


def timeless(state: RaftState) -> RaftState:
    return replace(state, election_elapsed=0, lease_guard=0)


def says_nothing_new(message: Message, state: RaftState) -> bool:
    """Whether there is nothing to refuse: what the message tells is known."""
    match message:
        case HeartbeatRequest():
            return message.quiet and message.leader_commit <= state.commit_index
        case AppendReply():
            leadership = state.leadership
            held = {peer.node_id: peer.match_index for peer in leadership.progress} if leadership else {}
            return message.success and message.match_index == held[message.sender]
        case HeartbeatReply():
            leadership = state.leadership
            assert leadership is not None
            return not leadership.reads or message.context == leadership.read_round
    return False


def test_whatever_a_node_ignores_it_names_a_rule_for() -> None:
    seen = Unexplained()
    for seed in range(120):
        seen.states.clear()
        assert run_seed(seed, recorder=seen).valid
    assert seen.received > 50_000
    assert seen.unexplained == []


class Seen:
    """Counts what a run contains."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def step(self, now_us: int, event: Event | None, effects: Effects, state: RaftState) -> None:
        self.counts["installed"] += isinstance(event, SnapshotInstalled)
        self.counts["joint"] += effects.configuration is not None and bool(effects.configuration.outgoing)
        self.counts["changed"] += effects.configuration is not None
        self.counts["handed over"] += isinstance(event, Receive) and isinstance(event.message, TimeoutNow)
        self.counts["leased"] += state.config.read_only_lease and bool(effects.reads)

    def note(self, now_us: int, deviation: Deviation) -> None:
        self.counts["wiped"] += deviation.act == Act.WIPE


def test_random_schedules_change_members_install_snapshots_hand_over_and_read_under_leases() -> None:
    seen = Seen()
    for seed in range(80):
        assert run_seed(seed, recorder=seen).valid
    assert all(
        seen.counts[what] for what in ("installed", "joint", "changed", "handed over", "leased", "wiped")
    ), seen.counts


def test_shrinking_needs_a_failure() -> None:
    with pytest.raises(ValueError, match="fails again"):
        shrink(run_seed(0, seconds=1.0))


def test_a_shrunk_schedule_needs_each_of_its_deviations() -> None:
    with MUTATIONS["B8"].apply():
        failure = explore(schedules=50).failure
        assert failure is not None
        short = shrink(failure).schedule
        assert len(short.deviations) < len(failure.schedule.deviations) // 2
        for position in range(len(short.deviations)):
            rest = short.deviations[:position] + short.deviations[position + 1 :]
            assert replay(Schedule(short.settings, rest)).rule != failure.rule


def plant(name: str) -> AbstractContextManager[None]:
    return resolve_mutation(name).apply() if name else nullcontext()


def test_the_command_finds_shrinks_and_says_how_to_see_it_again() -> None:
    command = explore_command(plant)
    result = CliRunner().invoke(command, ["--mutation", "B1", "--seed", "0", "--json"])
    assert result.exit_code == 1
    row = json.loads(result.stdout)
    assert row["verdict"] == "invalid" and row["violation"].startswith("election safety")
    words = row["replay"].split()
    again = CliRunner().invoke(command, [*words[3:], "--json"])
    assert again.exit_code == 1
    assert json.loads(again.stdout)["violation"] == row["violation"]
    shipped = CliRunner().invoke(command, [*words[5:], "--json"])
    assert shipped.exit_code == 0


def test_the_command_passes_the_shipped_core() -> None:
    result = CliRunner().invoke(explore_command(plant), ["--random", "--seed", "9", "--schedules", "10"])
    assert result.exit_code == 0
    assert "valid" in result.stdout


def test_a_traced_run_verifies_through_the_core_and_a_bug_in_it_shows(tmp_path: Path) -> None:
    schedule = run_seed(12, seconds=2.0).schedule
    outcome, data = trace_schedule(schedule, "why")
    trace = read_trace(data)
    assert outcome.valid and not trace.truncated
    assert verify(trace.records).verdict == "valid"
    assert any(isinstance(record, Note) and record.kind == "client" for record in trace.records)
    path = tmp_path / "b8.trace"
    arguments = ["--mutation", "B8", "--seed", "0", "--json", "--trace", str(path)]
    assert CliRunner().invoke(explore_command(plant), arguments).exit_code == 1
    assert verify(read_trace(path.read_bytes()).records).verdict == "invalid"


@pytest.mark.parametrize("arguments", [["--mutation", "B99"], ["--replay", "nonsense"], ["--nodes", "0"]])
def test_the_command_says_when_it_did_not_run(arguments: list[str]) -> None:
    assert CliRunner().invoke(explore_command(plant), arguments).exit_code == 2


def test_the_number_of_processes_changes_nothing() -> None:
    alone = explore(first_seed=31, schedules=130, seconds=1.0)
    for jobs in (1, 2):
        found = explore_in_processes(jobs, first_seed=31, schedules=130, seconds=1.0)
        assert (found.schedules, found.steps, found.digest) == (130, alone.steps, alone.digest)


def test_entries_that_replace_others_are_durable_before_they_are_acknowledged() -> None:
    """A log that is long enough may still hold the old entries: those are not what is acknowledged."""
    careful = following.on_append_request

    def hasty(state: RaftState, request: AppendRequest, duty: Duty) -> RaftState:
        after = careful(state, request, duty)
        if duty.entries and duty.entries[0].index <= state.log.last_index:
            duty.send += duty.send_after_persist
            duty.send_after_persist = ()
        return after

    with rerouted(sys.modules["tercet.core.raft.step"]._MESSAGES, AppendRequest, hasty):
        failure = explore(schedules=400).failure
    assert failure is not None and failure.rule == "promise before disk"


def test_every_process_has_the_planted_bug_and_the_first_failure_is_told() -> None:
    with resolve_mutation("B3").apply():
        alone = explore(first_seed=5, schedules=300).failure
        found = explore_in_processes(2, first_seed=5, schedules=300).failure
    assert alone is not None and found is not None
    assert (found.seed, found.digest) == (alone.seed, alone.digest)


def test_configurations_that_follow_each_other_cannot_decide_apart() -> None:
    old = configuration_of((1, 2, 3))
    assert quorums_meet(old, configuration_of((1, 2, 3, 4)))
    assert quorums_meet(old, configuration_of((3, 4, 5), (1, 2, 3)))
    assert not quorums_meet(old, configuration_of((1, 4, 5)))
    assert not quorums_meet(configuration_of((1, 2)), configuration_of((3, 4)))
