"""gofail's terms and its page, without a process that dies."""

from __future__ import annotations

from collections.abc import Callable

import h11
import pytest

from tercet.net import fail_points
from tercet.net.fail_points import PLACES, FailPoints
from tercet.net.server.http_pages import Request
from tercet.net.world import World
from tercet.sim.contract import run_in_world


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the program has slept, each time."""
    found: list[float] = []
    monkeypatch.setattr(fail_points.time, "sleep", found.append)
    return found


@pytest.mark.parametrize(("terms", "naps"), [
    ("sleep(20)", [0.02, 0.02, 0.02, 0.02]),
    ('sleep("1s")', [1.0, 1.0, 1.0, 1.0]),
    ("2*sleep(20)", [0.02, 0.02]),
    ("1*sleep(20)->1*sleep(30)", [0.02, 0.03]),
    ("1*off->sleep(5)", [0.005, 0.005, 0.005]),
    ("0%sleep(5)", []),
    ("100%sleep(5)", [0.005] * 4),
    ('return("x")', []),
])  # fmt: skip
def test_terms_are_used_up_in_order(slept: list[float], terms: str, naps: list[float]) -> None:
    points = FailPoints(f"raftBeforeSave={terms};")
    for _ in range(4):
        points.reach("wal.append.before")
        points.reach("wal.append.after")
    assert slept == naps


def test_a_panic_ends_the_process_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fail_points.os, "_exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    points = FailPoints("beforeCommit=panic")
    with pytest.raises(SystemExit) as caught:
        points.reach(PLACES["beforeCommit"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "panic: failpoint panic: beforeCommit\n"


@pytest.mark.parametrize("initial", ["nope=panic", "beforeCommit=explode", 'beforeCommit=sleep("x")'])
def test_what_cannot_be_set_is_refused(initial: str) -> None:
    with pytest.raises(ValueError, match=r"failpoint|parse error"):
        FailPoints(initial)


def asking(points: FailPoints) -> Callable[[str, str, bytes], tuple[int, bytes]]:
    def ask(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        async def run(world: World) -> tuple[int, bytes]:
            event = h11.Request(method=method, target=path, headers=[("Host", "h")])
            request = Request(event, "r:1")
            request.body = body
            answer = await points.answer(world, request)
            return answer.status, answer.body

        return run_in_world(run)

    return ask


def test_the_page_lists_sets_and_clears(slept: list[float]) -> None:
    points = FailPoints()
    ask = asking(points)
    status, listed = ask("GET", "/", b"")
    assert (status, listed.split()) == (200, [f"{name}=".encode() for name in sorted(PLACES)])
    assert ask("GET", "/afterCommit", b"")[0] == 404
    assert ask("PUT", "/afterCommit", b"sleep(7)") == (204, b"")
    assert ask("GET", "/afterCommit", b"") == (200, b"sleep(7)\n")
    points.reach("keeper.commit.after")
    assert ask("DELETE", "/afterCommit", b"") == (204, b"")
    points.reach("keeper.commit.after")
    assert slept == [0.007]
    wrong = [("DELETE", "/afterCommit"), ("PUT", "/nope"), ("PUT", "/afterCommit"), ("POST", "/")]
    assert [ask(method, path, b"?")[0] for method, path in wrong] == [400, 400, 400, 405]
