"""The exhaustive search: small scopes hold, planted bugs are found by the shortest run, and it replays."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from click.testing import CliRunner

from tercet.core.raft import AppendRequest, Entry, EntryKind, VoteRequest, encode_conf_change
from tercet.core.raft.types import Change, ChangeKind, ConfChange
from tercet.core.trace import read_trace, verify
from tercet.jepsen_like.mutations import MUTATIONS, resolve_mutation
from tercet.sim.explorer.commands import _scope, explore_command
from tercet.sim.explorer.exhaustive import cells, report, tables
from tercet.sim.explorer.exhaustive.counterexample import moves_of, replay_moves
from tercet.sim.explorer.exhaustive.digests import Digests
from tercet.sim.explorer.exhaustive.facts import Fact, History, remember
from tercet.sim.explorer.exhaustive.local import digest_of
from tercet.sim.explorer.exhaustive.renaming import rename
from tercet.sim.explorer.exhaustive.report import changes_of, command_of
from tercet.sim.explorer.exhaustive.scope import Scope
from tercet.sim.explorer.exhaustive.search import Search
from tercet.sim.explorer.exhaustive.tables import Tables
from tercet.sim.invariants import Violation

LARGE = ("B6", "B9", "B11", "B16")  # 87,000 to 1,100,000 states: ``tercet campaign zoo --exhaustive``
WITH_SCOPE = [name for name, one in MUTATIONS.items() if one.scope is not None and name not in LARGE]
command = explore_command(lambda name: resolve_mutation(name).apply())


@pytest.mark.parametrize(
    "scope",
    [
        Scope(terms=1, entries=1, crashes=1),
        Scope(terms=2, entries=0),
        Scope(terms=1, entries=1, duplicates=1, lasting=False),
        Scope(nodes=2, terms=2, entries=1, beats=1, batch=1),
        Scope(nodes=2, joining=1, terms=1, entries=0, changes=(((0, 3),),)),
        Scope(terms=2, entries=1),
        Scope(terms=1, entries=1, pre_vote=True),
        Scope(nodes=2, terms=2, entries=2, crashes=1),
        Scope(nodes=1, terms=2, entries=1, crashes=1, reads=1, slow_writes=1),
    ],
)
def test_the_shipped_core_holds_in_every_interleaving(scope: Scope) -> None:
    finding = Search(scope, max_states=100_000).run()
    assert finding.verdict == "valid", finding


def test_a_search_is_the_same_every_time() -> None:
    scope = Scope(terms=1, entries=1, crashes=1)
    findings = [Search(scope).run() for _ in range(2)]
    assert len({(one.states, one.transitions, one.depth) for one in findings}) == 1


def test_symmetry_leaves_out_states_but_loses_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    scope = Scope(terms=1, entries=0)
    with MUTATIONS["B1"].apply():
        finding = Search(scope).run()
        monkeypatch.setattr(tables, "permutations", lambda nodes: [tuple(nodes)])
        everything = Search(scope).run()
    assert finding.rule == everything.rule == "election safety"
    assert len(finding.labels) == len(everything.labels)
    assert finding.states < everything.states


class Remembering(Search):
    """A search that remembers what its nodes and its history were in each state."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.met: set[tuple[bytes, ...]] = set()

    def _visit(self, state: tuple[int, ...], parent: int, label: int) -> None:
        nodes = [digest_of(self.tables.node(self.cells.nodes[cell])) for cell in state[2:]]
        self.met.add((repr(self.tables.histories[state[1]]).encode(), *nodes))
        super()._visit(state, parent, label)


def without_echoes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "normal", lambda _self, message, _node: message)
    patch.setattr(Tables, "echoes", lambda *_: ())
    patch.setattr(cells, "is_echo", lambda *_: False)


def without_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "is_dead", lambda *_: False)


def without_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "answers", lambda *_: None)


@pytest.mark.parametrize("without", [without_echoes, without_dead, without_answers])
@pytest.mark.parametrize(
    "scope",
    [
        Scope(nodes=2, terms=1, entries=1, crashes=1),
        Scope(nodes=2, terms=2, entries=0, crashes=1),
        Scope(nodes=2, terms=2, entries=1),
        Scope(nodes=2, terms=1, entries=1, pre_vote=True),
    ],
)
def test_what_is_left_out_leads_nowhere_else(
    scope: Scope, without: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the reductions of what is under way: without it, nodes come into the very same states."""
    monkeypatch.setattr(tables, "permutations", lambda nodes: [tuple(nodes)])
    reduced = Remembering(scope)
    found = reduced.run()
    without(monkeypatch)
    everything = Remembering(scope)
    more = everything.run()
    assert found.verdict == more.verdict == "valid"
    assert reduced.met == everything.met


def test_digests_are_a_set_that_grows() -> None:
    seen, twin = Digests(), set()
    for number in range(20_000):
        digest = hash((number % 7_000, "some"[: number % 2]))
        assert seen.add(digest) == (digest not in twin)
        twin.add(digest)
    assert len(seen) == len(twin)
    assert seen.add(0) and not seen.add(0) and not seen.add(1)


def test_a_scope_tells_the_command_that_searches_it() -> None:
    scope = Scope(nodes=3, joining=1, terms=2, entries=1, crashes=1, slow_writes=1, batch=1, lasting=False,
                  strict=False, pre_vote=True, changes=(((1, 2), (0, 4)), ((1, 3),)))  # fmt: skip
    words = shlex.split(command_of(scope, "B1"))
    assert words[:4] == ["tercet", "sim", "explore", "--exhaustive"]
    assert words[-2:] == ["--mutation", "B1"]
    context = command.make_context("explore", words[3:])
    assert _scope(context.params) == scope


def test_every_planted_bug_of_the_core_has_a_scope_or_a_reason() -> None:
    for mutation in MUTATIONS.values():
        if mutation.world == "both":
            assert (mutation.scope is None) == bool(mutation.outside), mutation.name


@pytest.mark.parametrize("name", WITH_SCOPE)
def test_a_planted_bug_within_a_small_scope_is_found_and_replays(name: str) -> None:
    scope = MUTATIONS[name].scope
    assert scope is not None
    with MUTATIONS[name].apply():
        search = Search(scope, max_states=1_000_000)
        finding = search.run()
        assert finding.verdict == "invalid", finding
        moves = moves_of(search, finding)
        runs = [replay_moves(scope, moves) for _ in range(3)]
    assert len(moves) >= len(finding.labels)
    assert {run.rule for run in runs} == {finding.rule}
    assert len({run.trace for run in runs}) == 1


def test_no_shorter_run_shows_two_leaders() -> None:
    """Two candidates need two timeouts, and one voter who hears both and is heard by both."""
    with MUTATIONS["B1"].apply():
        finding = Search(Scope(terms=1, entries=0)).run()
    assert len(finding.labels) == 6


def test_a_search_that_hits_a_limit_says_so() -> None:
    finding = Search(Scope(), max_states=5_000).run()
    assert finding.verdict == "unknown" and finding.reason.startswith("states")
    assert Search(Scope(), memory_mb=1).run().reason.startswith("memory")


def test_a_scope_has_bounds() -> None:
    with pytest.raises(ValueError, match="crashes"):
        Scope(crashes=16)
    with pytest.raises(ValueError, match="nodes"):
        Scope(nodes=9)


def test_renaming_reaches_the_configuration_changes_in_a_log() -> None:
    def entry(node: int) -> Entry:
        data = encode_conf_change(ConfChange((Change(ChangeKind.ADD_VOTER, node),)))
        return Entry(1, 1, data, EntryKind.CONF_CHANGE)

    def request(sender: int, to: int, node: int) -> AppendRequest:
        return AppendRequest(
            sender=sender, to=to, term=1, prev_log_index=0, prev_log_term=0, entries=(entry(node),),
            leader_commit=0,
        )

    assert rename(request(1, 2, 3), {1: 2, 2: 3, 3: 1}) == request(2, 3, 1)


def test_every_renaming_of_a_message_has_its_own_number_and_they_compose() -> None:
    every = Tables(Scope())
    vote = VoteRequest(sender=1, to=2, term=1, last_log_index=0, last_log_term=0)
    number = every.message_number(vote)
    assert len(every.messages) == len(list(permutations((1, 2, 3), 2)))
    for first in range(every.count):
        for second in range(every.count):
            once = every.renamed_messages[first][number]
            twice = every.renamed_messages[second][once]
            assert twice == every.renamed_messages[every.after[second][first]][number]


def test_history_refuses_a_leader_without_a_committed_entry() -> None:
    history = remember(History(), Fact(1, commits=(Entry(1, 1),)))
    assert remember(history, Fact(2, elected=True, terms=(1,), node_id=3)).elected == ((2, 3),)
    with pytest.raises(Violation, match="leader completeness"):
        remember(history, Fact(2, elected=True, terms=(2,)))
    with pytest.raises(Violation, match="state machine safety"):
        remember(history, Fact(2, commits=(Entry(2, 1),)))
    with pytest.raises(Violation, match="election safety"):
        first = remember(history, Fact(2, elected=True, terms=(1,), node_id=1))
        remember(first, Fact(2, elected=True, terms=(1,), node_id=2))


def test_changes_are_written_in_words() -> None:
    assert changes_of("remove 1, add 4") == ((1, 1), (0, 4))
    for text in ("", "add", "add x", "promote 3", "add 0"):
        with pytest.raises(ValueError, match="need changes"):
            changes_of(text)


def test_the_command_writes_a_trace_that_the_shipped_core_refutes(tmp_path: Path) -> None:
    path = tmp_path / "b1.trace"
    words = ["--exhaustive", "--mutation", "B1", "--terms", "1", "--entries", "0", "--json"]
    result = CliRunner().invoke(command, [*words, "--trace", str(path)])
    assert result.exit_code == 1
    row = json.loads(result.stdout)
    assert row["verdict"] == "invalid" and row["violation"].startswith("election safety")
    assert len(row["trace"]) == 6 and row["states"] > 10
    assert verify(read_trace(path.read_bytes()).records).verdict == "invalid"
    with MUTATIONS["B1"].apply():
        assert verify(read_trace(path.read_bytes()).records).verdict == "valid"


def test_without_a_terminal_a_long_search_tells_in_lines_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "_LINE_EVERY", 10_000)
    result = CliRunner().invoke(command, ["--exhaustive", "--entries", "1"])
    lines = result.stderr.splitlines()
    assert [line.split()[0][:-4] for line in lines] == ["1", "2", "3"]  # thousands of tens


def test_the_command_has_three_exit_codes() -> None:
    small = ["--exhaustive", "--terms", "1", "--entries", "0"]
    done = CliRunner().invoke(command, small)
    assert done.exit_code == 0 and "valid: every interleaving" in done.stdout
    assert CliRunner().invoke(command, ["--exhaustive", "--minutes", "0.0001"]).exit_code == 2
    assert CliRunner().invoke(command, [*small, "--change", "promote 3"]).exit_code == 2
