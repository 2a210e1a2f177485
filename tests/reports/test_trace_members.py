"""The player on members that come and go, snapshots, a handed-over lead, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from tercet.core.raft import RULES
from tercet.core.trace import Trace, read_trace, verify
from tercet.reports.trace_player import render_player
from tercet.reports.trace_still import render_still
from tercet.reports.trace_view import LEARNS, OUTSIDE, VOTES, StepView, View, view_of

from ..core.traced_members import member_history
from .browser import PROGRAM, Browser


@pytest.fixture(scope="module")
def trace() -> Trace:
    return read_trace(bytes(member_history().data))


@pytest.fixture(scope="module")
def view(trace: Trace) -> View:
    return view_of(trace)


def first(view: View, words: str) -> int:
    """The first step that says so in its title, its details or its reasons."""
    for place, step in enumerate(view.steps):
        said = (step.title, *step.details, *(sentence for sentence, _ in step.refused))
        if any(words in each for each in said):
            return place
    raise AssertionError(f"nobody says {words!r}")


def seats(view: View, node: int) -> list[object]:
    return [step.change["seat"] for step in view.steps if step.node == node and "seat" in step.change]


# -- the view -------------------------------------------------------------------------------------


def test_the_history_is_one_that_the_core_repeats(trace: Trace) -> None:
    assert verify(trace.records).verdict == "valid"


def test_a_member_is_outside_then_learns_then_votes(view: View) -> None:
    assert [name for name, _ in view.nodes] == ["n1", "n2", "n3", "n4", "n5"]
    assert seats(view, 3) == [OUTSIDE, LEARNS, VOTES]
    assert seats(view, 4)[-1] == VOTES
    assert seats(view, 0) == [VOTES, OUTSIDE]


def test_a_joint_configuration_begins_and_ends_at_every_member_that_lives_through_it(view: View) -> None:
    for node in (0, 1, 2, 3):
        joint = [step.change["joint"] for step in view.steps if step.node == node and "joint" in step.change]
        assert joint[-2:] == [1, 0], node


def test_a_snapshot_replaces_the_beginning_of_a_log(view: View) -> None:
    """Following the changes as the page does gives equal logs from each member's snapshot on."""
    logs: dict[int, list[str]] = {node: [] for node in range(5)}
    bases = dict.fromkeys(range(5), 0)
    for step in view.steps:
        change: dict[str, Any] = step.change
        base, cut = change.get("base", bases.get(step.node, 0)), change.get("cut")
        if cut is None:
            del logs.setdefault(step.node, [])[: base - bases.get(step.node, 0)]
        bases[step.node] = base
        if cut is not None:
            del logs[step.node][max(0, cut - base) :]
            logs[step.node] += [label for _, label in change.get("add", ())]
    whole = logs[2]
    assert whole[:7] == ["+n1 +n2 +n3", "no-op", "x=1", "x=2", "x=3", "x=4", "~n4"]
    assert whole[7:] == ["y=1", "+n4", "no-op", "+n5 -n1", "leave joint", "y=2"]
    assert [bases[node] for node in range(5)] == [0, 6, 0, 8, 10]
    for node in (1, 3, 4):
        assert logs[node] == whole[bases[node] :]
    assert logs[0] == whole[:-1]


def test_everything_that_is_refused_says_why_and_where_that_is_written(view: View) -> None:
    said = {sentence.split(" (")[0]: source for step in view.steps for sentence, source in step.refused}
    for rule in (
        "append/no-match",  # an append
        "append/installing",
        "vote/leader-alive",  # a vote
        "conf/pending",  # a change
        "read/no-leader",  # a read
    ):
        assert said[RULES[rule].sentence] == f"Raft {RULES[rule].source}"


def test_what_was_asked_for_is_no_small_talk(view: View) -> None:
    orders: list[StepView] = [
        step for step in view.steps if step.kind in ("transferleader", "snapshotready", "snapshotsent")
    ]
    assert len(orders) == 5
    assert all(step.weight >= 2 for step in orders)


def test_the_still_picture_of_a_change_is_well_formed(trace: Trace, view: View) -> None:
    picture = render_still(trace, first(view, "jointly with"))
    root = ElementTree.fromstring(picture)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"joint", "joint no more", "no member", "not started"} <= set(texts)


# -- in a browser ---------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, trace: Trace) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    file = folder / "player.html"
    file.write_text(render_player(trace), encoding="utf-8")
    with Browser(folder / "profile") as browser:
        browser.open(file.as_uri())
        browser.evaluate("document.getElementById('filter').value = 0")
        browser.evaluate("document.getElementById('filter').dispatchEvent(new Event('change'))")
        yield browser


def go(page: Browser, place: int) -> None:
    page.evaluate(
        f"(scrub => {{ scrub.value = {place}; scrub.dispatchEvent(new Event('input')) }})"
        "(document.getElementById('scrub'))"
    )
    assert page.evaluate("Number(document.body.dataset.step)") == place


def badges(page: Browser) -> dict[str, str]:
    shown = (
        "[...document.querySelectorAll('.node')]"
        ".map(node => [node.dataset.node, node.querySelector('.badge')])"
        ".filter(row => row[1].style.display !== 'none').map(row => [row[0], row[1].textContent])"
    )
    return dict(page.evaluate(shown))


@needs_browser
def test_badges_tell_who_learns_who_is_no_member_and_who_is_joint(page: Browser, view: View) -> None:
    go(page, first(view, "is started with an empty disk") + 1)
    assert badges(page) == {"n4": "no member"}
    go(page, first(view, "y=1"))
    assert badges(page) == {"n4": "learner"}
    go(page, first(view, "jointly with"))
    assert badges(page) == {"n4": "joint", "n5": "no member"}
    go(page, len(view.steps) - 1)
    assert badges(page) == {"n1": "no member"}
    words = "document.querySelector('[data-node=n5] .role').textContent"
    go(page, 0)
    assert page.evaluate(words) == "not started"


@needs_browser
def test_a_snapshot_is_one_cell_as_wide_as_the_entries_it_stands_for(page: Browser, view: View) -> None:
    go(page, first(view, "loads the snapshot"))
    cells = "[...document.querySelectorAll('.cell.snapshot')]"
    found = page.evaluate(f"{cells}.map(cell => [cell.textContent, cell.offsetWidth])")
    assert [text for text, _ in found] == ["snapshot up to 6"] * 2
    entry = page.evaluate("document.querySelector('.cell:not(.snapshot)').offsetWidth")
    assert all(width > 5 * entry for _, width in found)
    flights = page.evaluate("[...document.querySelectorAll('.flight.snapshot text')].map(t => t.textContent)")
    assert flights == ["snapshot"]


@needs_browser
@pytest.mark.parametrize("rule", ["append/no-match", "vote/leader-alive", "conf/pending", "read/no-leader"])
def test_the_reason_of_a_refusal_stands_out_with_its_source(page: Browser, view: View, rule: str) -> None:
    go(page, first(view, RULES[rule].sentence))
    why = page.evaluate("document.querySelector('#now .why').textContent")
    assert why.startswith(RULES[rule].sentence)
    assert why.endswith(f"Raft {RULES[rule].source}")
    assert RULES[rule].source in page.evaluate("document.querySelector('#events .current .why').textContent")


@needs_browser
def test_handing_over_is_drawn_and_named_in_the_legend(page: Browser, view: View) -> None:
    go(page, first(view, "campaign at once"))
    words = "[...document.querySelectorAll('.flight.transfer text')].map(t => t.textContent)"
    assert page.evaluate(words) == ["lead!"]
    legend = page.evaluate("[...document.querySelectorAll('#legend li')].map(item => item.textContent)")
    assert {"hand over", "snapshot"} <= set(legend)
