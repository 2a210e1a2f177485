"""The revision-guided check agrees with trying every order, finds every planted lie, and searches gaps."""

import random
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.jepsen_like.checkers.etcd import check_etcd
from tercet.jepsen_like.checkers.verdict import Limits
from tercet.jepsen_like.history import Answer, Comparison, Header, History, Kv, Operation, Request, Txn
from tercet.jepsen_like.synthetic import LIES, etcd_history


class Twin:
    """A naive store: what an honest etcd would answer, one operation after the other."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[str, Kv] = {}

    def put(self, key: str, value: str) -> None:
        self.revision += 1
        old = self.keys.get(key)
        if old is None:
            self.keys[key] = Kv(key, value, self.revision, self.revision, 1)
        else:
            self.keys[key] = Kv(key, value, old.create_revision, self.revision, old.version + 1)

    def do(self, operation: Operation) -> Answer:
        key = operation.key
        if operation.f == "put":
            self.put(key, str(operation.value))
            return Answer(self.revision)
        if operation.f == "get":
            found = self.keys.get(key)
            return Answer(self.revision, kvs=(found,) if found else (), count=int(found is not None))
        if operation.f == "delete":
            existed = self.keys.pop(key, None) is not None
            self.revision += existed
            return Answer(self.revision, count=int(existed))
        assert isinstance(operation.value, Txn)
        (guard,) = operation.value.compare
        found = self.keys.get(key)
        if (found.mod_revision if found else 0) == guard.operand:
            self.put(key, operation.value.then[0].value)
            return Answer(self.revision, succeeded=True, answers=(Answer(),))
        part = Answer(kvs=(found,) if found else (), count=int(found is not None))
        return Answer(self.revision, succeeded=False, answers=(part,))


def by_brute_force(history: History) -> bool:
    """Whether some order of the answered and some of the lost operations gives every answer."""
    known = [o for o in history.operations if o.outcome == "ok"]
    lost = [o for o in history.operations if o.outcome == "info" and o.f != "get"]
    for chosen in range(1 << len(lost)):
        some = known + [o for place, o in enumerate(lost) if chosen >> place & 1]
        if any(explains(order) for order in permutations(some)):
            return True
    return False


def explains(order: tuple[Operation, ...]) -> bool:
    latest = -1
    for operation in order:
        latest = max(latest, operation.invoke)
        if operation.returned is not None and operation.returned < latest:
            return False
    twin = Twin()
    return all(twin.do(operation) == operation.result or operation.outcome == "info" for operation in order)


def disturbed(history: History, draw: random.Random) -> History:
    """Change one thing somewhere: mostly that makes it wrong, sometimes not."""
    operations = list(history.operations)
    place = draw.randrange(len(operations))
    operation = operations[place]
    answer = operation.result
    if not isinstance(answer, Answer):
        return history
    choice = draw.randrange(5)
    if choice == 0:
        answer = msgspec.structs.replace(answer, revision=max(1, answer.revision + draw.choice((-1, 1))))
    elif choice == 1 and answer.kvs:
        kv = answer.kvs[0]
        kv = draw.choice(
            [
                msgspec.structs.replace(kv, value="v1"),
                msgspec.structs.replace(kv, version=kv.version + 1),
                msgspec.structs.replace(kv, mod_revision=kv.mod_revision + 1),
            ]
        )
        answer = msgspec.structs.replace(answer, kvs=(kv,))
    elif choice == 2 and operation.f == "get":
        answer = msgspec.structs.replace(answer, kvs=(), count=0)
    elif choice == 3:
        operations[place] = msgspec.structs.replace(operation, outcome="info", returned=None, result=None)
        return msgspec.structs.replace(history, operations=tuple(operations))
    elif choice == 4:
        operations[place] = msgspec.structs.replace(operation, outcome="fail", result=None)
        return msgspec.structs.replace(history, operations=tuple(operations))
    operations[place] = msgspec.structs.replace(operation, result=answer)
    return msgspec.structs.replace(history, operations=tuple(operations))


@given(
    seed=st.integers(0, 10**9),
    count=st.integers(1, 6),
    lost=st.sampled_from([0.0, 0.3, 0.5]),
    lies=st.integers(0, 2),
)
@settings(max_examples=300, deadline=None)
def test_the_check_agrees_with_brute_force(seed: int, count: int, lost: float, lies: int) -> None:
    history = etcd_history(count, seed, processes=3, keys=2, lost=lost, deletes=0.25, txns=0.25)
    draw = random.Random(seed)
    for _ in range(lies):
        history = disturbed(history, draw)
    found = check_etcd(history)
    assert found.verdict == ("valid" if by_brute_force(history) else "invalid"), found.reason


@pytest.mark.parametrize("seed", range(20))
def test_honest_histories_are_valid_even_when_many_answers_are_lost(seed: int) -> None:
    found = check_etcd(etcd_history(500, seed, processes=8, keys=4, lost=0.25, deletes=0.15))
    assert found.verdict == "valid", found.reason
    assert found.steps < 20_000


@pytest.mark.parametrize("lie", sorted(LIES))
def test_every_lie_is_found_and_explained(lie: str) -> None:
    told = 0
    for seed in range(25):
        honest = etcd_history(150, seed, processes=5, keys=3, lost=0.1)
        broken = LIES[lie](honest, random.Random(seed))
        if broken is None:
            continue
        told += 1
        found = check_etcd(broken)
        assert found.verdict == "invalid", f"seed {seed}"
        assert found.reason and found.core and found.checked < found.total
    assert told >= 20


def ok(process: int, f: str, span: tuple[int, int], answer: Answer, **asked: object) -> Operation:
    return Operation(process, f, span[0], span[1], "ok", key="k", result=answer, **asked)  # type: ignore[arg-type]


def test_a_stale_read_is_fine_when_it_was_asked_for() -> None:
    puts = (
        ok(1, "put", (1, 2), Answer(2), value="a"),
        ok(1, "put", (3, 4), Answer(3), value="b"),
    )
    old = Answer(2, kvs=(Kv("k", "a", 2, 2, 1),), count=1)
    assert check_etcd(History((*puts, ok(2, "get", (5, 6), old)))).verdict == "invalid"
    assert check_etcd(History((*puts, ok(2, "get", (5, 6), old, serializable=True)))).verdict == "valid"


def test_a_stale_read_must_not_see_what_never_was() -> None:
    put = ok(1, "put", (1, 2), Answer(2), value="a")
    read = ok(2, "get", (5, 6), Answer(2, kvs=(Kv("k", "b", 2, 2, 1),), count=1), serializable=True)
    assert check_etcd(History((put, read))).verdict == "invalid"


def test_nobody_reads_from_the_future() -> None:
    read = ok(2, "get", (1, 2), Answer(2, kvs=(Kv("k", "a", 2, 2, 1),), count=1), serializable=True)
    put = ok(1, "put", (3, 4), Answer(2), value="a")
    assert check_etcd(History((read, put))).verdict == "invalid"


def test_a_lost_delete_is_found_by_what_comes_after() -> None:
    operations = (
        ok(1, "put", (1, 2), Answer(2), value="a"),
        Operation(2, "delete", 3, key="k"),
        ok(1, "put", (5, 6), Answer(4), value="b"),
        ok(1, "get", (7, 8), Answer(4, kvs=(Kv("k", "b", 4, 4, 1),), count=1)),
    )
    assert check_etcd(History(operations)).verdict == "valid"
    without = (operations[0], *operations[2:])
    found = check_etcd(History(without))
    assert found.verdict == "invalid"
    assert "nobody can have made revision 3" in found.reason


def test_strangers_may_fill_gaps_when_the_store_is_open() -> None:
    operations = (
        ok(1, "put", (1, 2), Answer(2), value="a"),
        ok(1, "put", (5, 6), Answer(5), value="b"),
        ok(1, "get", (7, 8), Answer(5, kvs=(Kv("k", "b", 2, 5, 3),), count=1)),
    )
    assert check_etcd(History(operations)).verdict == "invalid"
    assert check_etcd(History(operations, header=Header(closed=False))).verdict == "valid"


def test_the_limits_are_honoured() -> None:
    operations = [ok(1, "put", (1, 2), Answer(2), value="a")]
    operations += [Operation(n, "delete", 3 + n, key="k") for n in range(30)]
    operations += [
        Operation(100 + n, "txn", 50 + n, key=f"x{n}", value=Txn((Comparison(f"x{n}", "mod", "=", 0),),
                  (Request("put", f"x{n}", "v"),))) for n in range(30)
    ]  # fmt: skip
    operations.append(ok(1, "put", (200, 201), Answer(25), value="z"))
    operations.append(ok(1, "get", (300, 301), Answer(25, kvs=(Kv("k", "z", 2, 25, 3),), count=1)))
    found = check_etcd(History(tuple(operations)), Limits(steps=3000))
    assert found.verdict == "unknown"
    assert "3000 steps" in found.reason
    assert found.steps < 60_000


def test_a_hundred_thousand_operations_need_no_search() -> None:
    found = check_etcd(etcd_history(100_000, 1))
    assert (found.verdict, found.steps) == ("valid", 0)


@pytest.mark.parametrize(
    "operation",
    [
        Operation(1, "dance", 1, 2, "ok", key="k", result=Answer(2)),
        Operation(1, "put", 1, 2, "ok", key="k", value="a"),
        Operation(1, "txn", 1, 2, "ok", key="k", result=Answer(2, succeeded=True)),
    ],
)
def test_what_etcd_does_not_have_is_refused(operation: Operation) -> None:
    with pytest.raises(ValueError):
        check_etcd(History((operation,)))
