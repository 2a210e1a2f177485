"""Each promise of a watch, kept and broken."""

import msgspec
import pytest

from tercet.jepsen_like.checking import check_history
from tercet.jepsen_like.history import Answer, History, Kv, Operation, Watch, WatchBatch, WatchEvent

A2 = Kv("a", "1", 2, 2, 1)
A3 = Kv("a", "2", 2, 3, 2)
B4 = Kv("b", "1", 4, 4, 1)
A6 = Kv("a", "3", 6, 6, 1)
GONE = Kv("a", "", 0, 5, 0)
A3_ANEW = Kv("a", "2", 3, 3, 1)
GONE_EARLY = Kv("a", "", 0, 3, 0)


def put(at: int, kv: Kv) -> Operation:
    return Operation(1, "put", at, at + 1, "ok", key=kv.key, value=kv.value, result=Answer(kv.mod_revision))


OPERATIONS = (
    put(10, A2),
    put(20, A3),
    put(30, B4),
    Operation(1, "delete", 40, 41, "ok", key="a", result=Answer(5, count=1)),
    put(50, A6),
)
EVENTS = (
    WatchEvent("put", A2),
    WatchEvent("put", A3, A2),
    WatchEvent("delete", GONE, A3),
    WatchEvent("put", A6),
)


def batches(*events: WatchEvent) -> tuple[WatchBatch, ...]:
    return tuple(WatchBatch(100 + n, event.kv.mod_revision, (event,)) for n, event in enumerate(events))


def check(watch: Watch) -> str:
    verdict = check_history(History(OPERATIONS, (watch,)))
    assert (verdict.verdict == "valid") == (not verdict.reason)
    return verdict.reason


def watch(*told: WatchBatch, **asked: object) -> Watch:
    fields: dict[str, object] = {"start_revision": 2, "prev_kv": True, **asked}
    return Watch(7, "a", 1, batches=told, **fields)  # type: ignore[arg-type]


def test_a_watch_that_keeps_every_promise_is_valid() -> None:
    progress = WatchBatch(200, 6)
    assert check(watch(*batches(*EVENTS), progress)) == ""


def test_a_watch_may_end_early() -> None:
    assert check(watch(*batches(*EVENTS[:2]))) == ""


def test_a_watch_from_now_on_starts_after_its_creation() -> None:
    assert check(watch(*batches(*EVENTS[2:]), start_revision=0, created_revision=3)) == ""
    assert "reliable" in check(watch(*batches(*EVENTS[3:]), start_revision=0, created_revision=3))


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        ("unique", batches(EVENTS[0], EVENTS[1], EVENTS[1])),
        ("ordered", batches(EVENTS[1], EVENTS[0])),
        ("reliable", batches(EVENTS[0], *EVENTS[2:])),
        ("reliable", (*batches(*EVENTS[:3]), WatchBatch(200, 6))),
        ("bookmarkable", (WatchBatch(90, 3), *batches(*EVENTS[1:]))),
        ("reliable", batches(WatchEvent("put", msgspec.structs.replace(A2, value="9")))),
        ("reliable", batches(EVENTS[0], WatchEvent("delete", GONE_EARLY, A2))),
        ("is_create", batches(EVENTS[0], WatchEvent("put", A3_ANEW, A2))),
        ("prev_kv", batches(EVENTS[0], WatchEvent("put", A3))),
        ("prev_kv", batches(EVENTS[0], EVENTS[1], WatchEvent("delete", GONE, A2))),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(promise: str, told: tuple[WatchBatch, ...]) -> None:
    reason = check(watch(*told))
    assert reason, "the watch must not pass"
    # What a watch shows is evidence, so a lie about a value may be found as a wrong revision instead.
    assert promise in reason or "revision" in reason


def test_events_before_the_start_are_not_wanted() -> None:
    assert "resumable" in check(watch(*batches(*EVENTS), start_revision=3))


def test_filtered_events_must_not_come() -> None:
    assert "filtered" in check(watch(*batches(*EVENTS), filters=("delete",)))
    wanted = batches(EVENTS[0], EVENTS[1], EVENTS[3])
    assert check(watch(*wanted, filters=("delete",))) == ""


def test_all_events_of_a_revision_come_in_one_batch() -> None:
    swap = (
        Operation(1, "put", 10, 11, "ok", key="a", value="1", result=Answer(2)),
        Operation(1, "put", 20, 21, "ok", key="b", value="1", result=Answer(3)),
        Operation(1, "delete", 30, 31, "ok", key="a", range_end="c", result=Answer(4, count=2)),
    )
    gone = [WatchEvent("delete", Kv(key, "", 0, 4, 0)) for key in "ab"]
    together = Watch(7, "a", 1, range_end="c", start_revision=4, batches=(WatchBatch(50, 4, tuple(gone)),))
    apart = Watch(7, "a", 1, range_end="c", start_revision=4, batches=batches(*gone))
    assert check_history(History(swap, (together,))).verdict == "valid"
    assert "atomic" in check_history(History(swap, (apart,))).reason


def test_nobody_reads_less_than_a_watch_has_told() -> None:
    heard = Watch(7, "a", 1, start_revision=2, batches=batches(*EVENTS[:2]))  # told at 100 and 101
    old = Operation(2, "get", 15, 16, "ok", key="a", result=Answer(2, kvs=(A2,), count=1))
    stale = msgspec.structs.replace(old, invoke=105, returned=106)
    lost = (OPERATIONS[0], Operation(1, "put", 20, key="a", value="2"))
    assert check_history(History((*lost, old), (heard,))).verdict == "valid"
    found = check_history(History((*lost, stale), (heard,)))
    assert "a watch had already been told revision 3" in found.reason


def test_no_event_comes_before_its_cause() -> None:
    early = Watch(7, "a", 1, start_revision=2, batches=(WatchBatch(5, 2, EVENTS[:1]),))
    found = check_history(History(OPERATIONS, (early,)))
    assert found.verdict == "invalid"
    assert "when it began" in found.reason


def test_a_watch_tells_what_a_lost_answer_did() -> None:
    lost = (OPERATIONS[0], Operation(1, "put", 20, key="a", value="2"), *OPERATIONS[2:])
    heard = Watch(7, "a", 1, start_revision=2, batches=batches(*EVENTS))
    assert check_history(History(lost, (heard,))).verdict == "valid"
    wrong = (EVENTS[0], WatchEvent("put", msgspec.structs.replace(A3, value="other")), *EVENTS[2:])
    found = check_history(History(lost, (msgspec.structs.replace(heard, batches=batches(*wrong)),)))
    assert found.verdict == "invalid"
    assert "other" in found.reason
