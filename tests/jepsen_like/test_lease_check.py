"""A lease's key must not go early, nor stay long after."""

import msgspec

from tercet.jepsen_like.checkers.lease import check_leases
from tercet.jepsen_like.checking import check_history
from tercet.jepsen_like.history import Answer, Header, History, Kv, Operation, Watch, WatchBatch, WatchEvent

SECOND = 1_000_000_000
LEASE = 77


def at(seconds: float) -> int:
    return int(seconds * SECOND)


GRANT = Operation(0, "grant", at(1), at(1.1), "ok", value=2, result=(LEASE, 2))
EXPIRY = Operation(0, "revoke", at(1.2), lease=LEASE)
PUT = Operation(0, "put", at(1.3), at(1.4), "ok", key="k", value="v", lease=LEASE, result=Answer(2))
RENEW = Operation(0, "keepalive", at(2), at(2.1), "ok", lease=LEASE, result=2)


def gone(seconds: float) -> Watch:
    batches = (
        WatchBatch(at(1.5), 2, (WatchEvent("put", Kv("k", "v", 2, 2, 1, LEASE)),)),
        WatchBatch(at(seconds), 3, (WatchEvent("delete", Kv("k", "", 0, 3, 0)),)),
    )
    return Watch(1, "k", at(0.5), start_revision=2, batches=batches)


def look(seconds: float, *kvs: Kv) -> Operation:
    revision = 2 if kvs else 3
    return Operation(
        1,
        "get",
        at(seconds),
        at(seconds + 0.1),
        "ok",
        key="k",
        result=Answer(revision, kvs=kvs, count=len(kvs)),
    )


def test_a_key_that_goes_when_its_lease_ends_is_fine() -> None:
    history = History((GRANT, EXPIRY, PUT, RENEW, look(6)), (gone(4.2),), Header(healed=at(1)))
    assert check_history(history).verdict == "valid"


def test_a_key_must_not_go_before_its_renewed_lease_can_end() -> None:
    history = History((GRANT, EXPIRY, PUT, RENEW), (gone(3.5),))
    found = check_history(history)
    assert (found.verdict, found.checker) == ("invalid", "lease")
    assert "0.500 s before" in found.reason
    assert found.core == (GRANT, RENEW)


def test_clocks_that_may_run_fast_are_allowed_for() -> None:
    history = History((GRANT, EXPIRY, PUT, RENEW), (gone(3.95),), Header(fast_clocks=0.05))
    assert check_history(history).verdict == "valid"
    strict = msgspec.structs.replace(history, header=Header())
    assert check_history(strict).verdict == "invalid"


def test_a_lease_that_was_revoked_on_purpose_may_go_at_once() -> None:
    revoke = Operation(0, "revoke", at(2.2), at(2.4), "ok", lease=LEASE, result=Answer())
    history = History((GRANT, EXPIRY, PUT, RENEW, revoke), (gone(2.3),))
    assert check_history(history).verdict == "valid"


def test_a_key_must_not_outlive_its_lease_in_a_healed_cluster() -> None:
    there = look(20, Kv("k", "v", 2, 2, 1, LEASE))
    history = History((GRANT, EXPIRY, PUT, RENEW, there), (), Header(healed=at(10)))
    found = check_leases(history)
    assert found.verdict == "invalid"
    assert "5.000 s after" in found.reason
    assert check_leases(msgspec.structs.replace(history, header=Header())).verdict == "valid"


def test_the_expiry_of_a_lease_explains_a_revision() -> None:
    after = Operation(2, "put", at(7), at(7.1), "ok", key="x", value="y", result=Answer(4))
    assert check_history(History((GRANT, EXPIRY, PUT, after))).verdict == "valid"
    assert check_history(History((GRANT, PUT, after))).verdict == "invalid"
