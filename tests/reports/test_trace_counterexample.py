"""The shortest run to a wrong majority in a joint configuration, found by exhaustive search, in the player.

Planted is B10: a joint configuration decides by a majority of all its voters. Two voters of three are to go;
they elect one of themselves although the one that stays, a majority of the new configuration by itself, has
long gone on. The search of the whole scope takes a quarter of a minute, so its run is kept here as data.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec
import pytest

from tercet.core.trace import Trace, read_trace, verify
from tercet.jepsen_like.mutations import MUTATIONS
from tercet.reports.trace_player import render_player
from tercet.reports.trace_view import view_of
from tercet.sim.explorer.exhaustive.counterexample import Replayed, replay_moves
from tercet.sim.explorer.exhaustive.report import command_of
from tercet.sim.explorer.exhaustive.scope import Move

from .browser import PROGRAM, Browser

RUN = (  # msgpack of the moves; ``tercet sim explore`` with the options in ``COMMAND`` finds them
    "npYBAcAAAMKWAAKaq1ZvdGVSZXF1ZXN0AQIBAADCwgAAAADClgABmalWb3RlUmVwbHkCAQHDwqAAAAAAwpYAApmtQXBwZW5kUmVxdWVz"
    "dAECAQAAkZQBAcQAAAAAAADClgABm6tBcHBlbmRSZXBseQIBAcMBAAAAoAAAAMKWBwHAAAHClgACma1BcHBlbmRSZXF1ZXN0AQIBAQGR"
    "lAECxAuTkpIBApIBAwDEAAEBAAAAwpYAAZurQXBwZW5kUmVwbHkCAQHDAgAAAKAAAADClgIBwAABwpYAApmtQXBwZW5kUmVxdWVzdAEC"
    "AQIBkZQBA8QFk5AAxAABAgAAAMKWAAGbq0FwcGVuZFJlcGx5AgEBwwMAAACgAAAAwpYBAsAAAMKWAAOaq1ZvdGVSZXF1ZXN0AgMCAwHC"
    "wgIBAADClgACmalWb3RlUmVwbHkDAgLDwqAAAAAAwg=="
)
BUG = MUTATIONS["B10"]
COMMAND = (
    "tercet sim explore --exhaustive --nodes 3 --terms 2 --entries 1 --change 'remove 2, remove 3' "
    "--mutation B10"
)


@pytest.fixture(scope="module")
def replayed() -> Replayed:
    assert BUG.scope is not None
    moves = msgspec.msgpack.decode(base64.b64decode(RUN), type=tuple[Move, ...])
    with BUG.apply():
        return replay_moves(BUG.scope, moves, command_of(BUG.scope, BUG.name))


@pytest.fixture(scope="module")
def history(replayed: Replayed) -> Trace:
    return read_trace(replayed.trace)


def test_the_run_breaks_leader_completeness_and_only_with_the_bug(replayed: Replayed, history: Trace) -> None:
    assert replayed.rule == "leader completeness"
    assert len(replayed.digests) == 14
    assert history.header.comment == COMMAND
    assert verify(history.records).verdict == "invalid"
    with BUG.apply():
        assert verify(history.records).verdict == "valid"


def test_every_message_that_arrives_was_sent(history: Trace) -> None:
    view = view_of(history)
    received = [step for step in view.steps if step.kind == "receive"]
    assert len(received) == 10
    assert all(step.flight >= 0 for step in received)


needs_browser = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, history: Trace) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    file = folder / "player.html"
    file.write_text(render_player(history), encoding="utf-8")
    with Browser(folder / "profile") as browser:
        browser.open(file.as_uri())
        yield browser


@needs_browser
def test_the_end_shows_two_leaders_and_two_entries_in_one_place(page: Browser) -> None:
    page.press("End")
    nodes = "[...document.querySelectorAll('.node')].map(node => [node.dataset.node, node.dataset.role])"
    assert dict(page.evaluate(nodes)) == {"n1": "leader", "n2": "leader", "n3": "follower"}
    assert "joint" in page.evaluate("document.querySelector('[data-node=n2]').textContent")
    logs = page.evaluate(
        "[...document.querySelectorAll('.log')].map(row => [...row.querySelectorAll('.cell')]"
        ".map(cell => cell.textContent))"
    )
    assert [len(log) for log in logs] == [4, 4, 0]
    assert logs[0][:2] == logs[1][:2]
    assert "no-op" in logs[1][3] and "no-op" not in logs[0][3]


@needs_browser
def test_the_words_tell_the_change_the_wrong_vote_and_what_it_breaks(page: Browser) -> None:
    words = page.evaluate("document.getElementById('events').textContent")
    for part in (
        "remove n2 and remove n3",
        "counts with n1, jointly with n1, n2, n3",
        "hears from n3: vote granted",
        "leader completeness: the leader of term 2 lacks entry 4 of term 1, committed in term 1",
    ):
        assert part in words
