"""The trace player: what the page holds, and what a browser does with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from tercet.core.trace import Note, Step, Trace
from tercet.reports.trace_player import render_player
from tercet.reports.trace_still import render_still
from tercet.reports.trace_view import view_of

from .browser import PROGRAM, Browser

SHIFT = 8

# -- the view -------------------------------------------------------------------------------------


def test_every_record_is_a_step_of_the_view(trace: Trace) -> None:
    view = view_of(trace)
    assert len(view.steps) == len(trace.records)
    assert [name for name, _ in view.nodes] == ["n1", "n2", "n3"]
    assert ("replay", f"all {sum(isinstance(r, Step) for r in trace.records)} steps equal") in view.facts


def test_messages_leave_before_they_arrive_and_some_are_lost(trace: Trace) -> None:
    view = view_of(trace)
    arrived = [flight for flight in view.flights if flight.arrived >= 0]
    assert all(flight.left < flight.arrived for flight in arrived)
    assert all(view.steps[flight.arrived].node == flight.to for flight in arrived)
    assert 0 < len(view.flights) - len(arrived) < len(arrived)
    received = [step for step in view.steps if step.kind == "receive"]
    assert [step.flight for step in received if step.flight < 0] == []


def test_the_changes_of_the_view_add_up_to_equal_logs(trace: Trace) -> None:
    logs: dict[int, list[str]] = {0: [], 1: [], 2: []}
    commits = {0: 0, 1: 0, 2: 0}
    for step in view_of(trace).steps:
        change: dict[str, Any] = step.change
        if "cut" in change:
            del logs[step.node][change["cut"] :]
            logs[step.node] += [label for _, label in change["add"]]
        commits[step.node] = change.get("commit", commits.get(step.node, 0))
    assert logs[0] == logs[1] == logs[2] == ["no-op", "x=1", "x=2", "x=3", "no-op", "y=1", "y=2"]
    assert [commits[node] for node in (0, 1, 2)] == [7, 7, 7]


def test_a_step_that_the_core_does_not_repeat_is_marked(trace: Trace) -> None:
    place = next(at for at, record in enumerate(trace.records) if isinstance(record, Step))
    records = list(trace.records)
    records[place] = replace(records[place], digest=bytes(16))
    view = view_of(replace(trace, records=tuple(records)))
    assert view.steps[place].mismatch.startswith("digest")
    assert dict(view.facts)["replay"].startswith("differs")
    commits = [step.change["commit"] for step in view.steps if "commit" in step.change]
    assert 7 in commits


# -- the page -------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_holds_the_trace(trace: Trace) -> None:
    page = render_player(trace, title="a <title> & more")
    assert "%%" not in page
    assert not re.search(r'(src|href)\s*=\s*"|@import|url\(|https?://(?!www\.w3\.org/2000/svg)', page)
    assert "<title>a &lt;title&gt; &amp; more</title>" in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert len(json.loads(data.group(1))["steps"]) == len(trace.records)


def test_text_in_a_trace_cannot_end_the_script(trace: Trace) -> None:
    note = Note(0, 0, "other", "</script><script>alert(1)</script>")
    page = render_player(replace(trace, records=(*trace.records, note)))
    assert page.count("</script>") == 2


def test_rendering_is_a_function_of_the_trace(trace: Trace) -> None:
    assert render_player(trace) == render_player(trace)
    assert render_still(trace) == render_still(trace)


def test_the_still_picture_is_well_formed_and_shows_the_election(trace: Trace) -> None:
    picture = render_still(trace, title="one & two")
    root = ElementTree.fromstring(picture)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "one & two" in texts
    assert {"n1", "n2", "n3", "leader, term 1"} <= set(texts)
    notes = [at for at, record in enumerate(trace.records) if isinstance(record, Note)]
    fault = next(at for at in notes if trace.records[at].node == 0)
    assert "⚡ cut off: n1" in "".join(ElementTree.fromstring(render_still(trace, fault)).itertext())


def test_an_empty_trace_can_be_shown(trace: Trace) -> None:
    nothing = replace(trace, records=())
    ElementTree.fromstring(render_still(nothing))
    assert "all 0 steps" not in render_player(nothing)


# -- in a browser ---------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, trace_bytes: bytes) -> Iterator[Browser]:
    from tercet.core.trace import read_trace

    folder = tmp_path_factory.mktemp("browser")
    file = folder / "player.html"
    file.write_text(render_player(read_trace(trace_bytes)), encoding="utf-8")
    with Browser(folder / "profile") as browser:
        browser.open(file.as_uri())
        yield browser


def position(page: Browser) -> int:
    return int(page.evaluate("document.body.dataset.step"))


def roles(page: Browser) -> dict[str, str]:
    nodes = "[...document.querySelectorAll('.node')].map(node => [node.dataset.node, node.dataset.role])"
    return dict(page.evaluate(nodes))


def choose(page: Browser, name: str, value: int, event: str = "change") -> None:
    """Set a form's control as a hand would."""
    page.evaluate(
        f"(control => {{ control.value = {value}; control.dispatchEvent(new Event('{event}')) }})"
        f"(document.getElementById('{name}'))"
    )


def click(page: Browser, name: str) -> None:
    page.evaluate(f"document.getElementById('{name}').click()")


@needs_browser
def test_stepping_changes_the_state_and_back_restores_it(page: Browser) -> None:
    click(page, "first")
    assert roles(page) == {"n1": "follower", "n2": "down", "n3": "down"}
    seen = [page.evaluate("document.getElementById('left').innerHTML")]
    for _ in range(12):
        page.press("ArrowRight")
        seen.append(page.evaluate("document.getElementById('left').innerHTML"))
    assert roles(page)["n1"] == "leader"
    assert len(set(seen)) == len(seen)
    for expected in reversed(seen[:-1]):
        click(page, "back")
        assert page.evaluate("document.getElementById('left').innerHTML") == expected
    click(page, "forward")
    assert position(page) == 1


@needs_browser
def test_the_end_shows_the_final_logs(page: Browser) -> None:
    page.press("End")
    assert roles(page) == {"n1": "follower", "n2": "leader", "n3": "follower"}
    committed = "row.querySelectorAll('.cell.committed').length"
    rows = page.evaluate(f"[...document.querySelectorAll('.log')].map(row => {committed})")
    assert rows == [7, 7, 7]
    assert page.evaluate("document.querySelector('[data-node=n2]').dataset.term") == "2"


@needs_browser
def test_scrubbing_the_list_and_the_filter_move_the_same_cursor(page: Browser) -> None:
    choose(page, "scrub", 20, "input")
    scrubbed = position(page)
    page.press("ArrowRight", SHIFT)
    assert position(page) > scrubbed
    page.evaluate("[...document.querySelectorAll('#events li')][3].click()")
    clicked = position(page)
    choose(page, "filter", 0)
    assert position(page) == clicked
    page.press("ArrowRight")
    assert position(page) == clicked + 1
    choose(page, "filter", 2)


@needs_browser
def test_messages_are_drawn_under_way_and_refusals_explained(page: Browser) -> None:
    click(page, "first")
    for _ in range(3):
        page.press("ArrowRight")
    labels = page.evaluate("[...document.querySelectorAll('.flight text')].map(t => t.textContent)")
    assert labels == ["pre-vote?", "pre-vote?"]
    words = page.evaluate("document.getElementById('events').textContent")
    assert "The reply answers a question this node no longer asks." in words


@needs_browser
def test_playing_moves_on_by_itself_and_pauses(page: Browser) -> None:
    click(page, "first")
    choose(page, "speed", 16)
    page.press(" ")
    page.wait("Number(document.body.dataset.step) > 20")
    page.press(" ")
    assert page.evaluate("document.getElementById('play').textContent") == "▶ play"


@needs_browser
def test_light_and_dark_differ(page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    click(page, "theme")
    assert page.evaluate(background) != before
    click(page, "theme")
    assert page.evaluate(background) == before
