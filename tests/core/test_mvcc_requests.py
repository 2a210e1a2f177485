"""What requests answer and what they are refused for, as recorded from etcd 3.4.23."""

from __future__ import annotations

import pytest

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.mvcc.checks import check_put, check_range, check_txn
from tercet.core.mvcc.evaluate import is_read_only
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

Put, Delete, Range = rpc.PutRequest, rpc.DeleteRangeRequest, rpc.RangeRequest


class Shop:
    """A machine with the requests spelled short."""

    def __init__(self, **pairs: str) -> None:
        self.machine = Machine()
        for key, value in pairs.items():
            self.put(key.encode(), value.encode())

    def apply(self, kind: Command, request: object) -> Outcome:
        payload = request.SerializeToString()  # type: ignore[attr-defined]
        entry = Entry(1, self.machine.applied_index + 1, encode_command(kind, 7, 9, payload))
        return self.machine.apply(entry)

    def put(self, key: bytes, value: bytes = b"", **options: object) -> Outcome:
        return self.apply(Command.PUT, Put(key=key, value=value, **options))  # type: ignore[arg-type]

    def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        outcome = self.apply(Command.TXN, request)
        assert outcome.error is None
        return rpc.TxnResponse.FromString(outcome.body)

    def range(self, **options: object) -> rpc.RangeResponse:
        request = Range(**options)  # type: ignore[arg-type]
        return rpc.RangeResponse.FromString(self.machine.range(request)[1])

    def keys(self, **options: object) -> list[bytes]:
        return [kv.key for kv in self.range(**options).kvs]


def put_op(key: bytes, value: bytes = b"v", **options: object) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=Put(key=key, value=value, **options))  # type: ignore[arg-type]


def delete_op(key: bytes, end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=Delete(key=key, range_end=end))


def range_op(key: bytes, revision: int = 0) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=Range(key=key, revision=revision))


def nested(*success: rpc.RequestOp, failure: tuple[rpc.RequestOp, ...] = ()) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(success=success, failure=failure))


def test_a_put_counts_versions_and_a_deletion_starts_them_anew() -> None:
    shop = Shop(foo="bar")
    shop.put(b"foo", b"bar2")
    shop.apply(Command.DELETE_RANGE, Delete(key=b"foo"))
    shop.put(b"foo", b"bar3")
    kv = shop.range(key=b"foo").kvs[0]
    assert (kv.create_revision, kv.mod_revision, kv.version, kv.value) == (5, 5, 1, b"bar3")


def test_prev_kv_shows_what_a_put_replaced_and_nothing_for_a_new_key() -> None:
    shop = Shop(foo="bar")
    assert rpc.PutResponse.FromString(shop.put(b"foo", b"x", prev_kv=True).body).prev_kv.value == b"bar"
    assert shop.put(b"fresh", b"x", prev_kv=True).body == b""
    assert shop.put(b"foo", b"y").body == b"", "nobody asked"
    asked, unasked, fresh = shop.txn(rpc.TxnRequest(success=[
        put_op(b"foo", b"z", prev_kv=True), put_op(b"fresh"), put_op(b"other", prev_kv=True),
    ])).responses  # fmt: skip
    assert asked.response_put.prev_kv.value == b"y"
    assert not unasked.response_put.HasField("prev_kv") and not fresh.response_put.HasField("prev_kv")


def test_ignore_value_and_ignore_lease_keep_what_is_there() -> None:
    shop = Shop()
    shop.apply(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=5, TTL=10))
    shop.put(b"foo", b"bar", lease=5)
    shop.put(b"foo", ignore_value=True)
    kv = shop.range(key=b"foo").kvs[0]
    assert (kv.value, kv.lease) == (b"bar", 0)
    shop.put(b"foo", b"bar", lease=5)
    shop.put(b"foo", b"new", ignore_lease=True)
    kv = shop.range(key=b"foo").kvs[0]
    assert (kv.value, kv.lease) == (b"new", 5)


@pytest.mark.parametrize("option", ["ignore_value", "ignore_lease"])
def test_there_must_be_something_to_keep(option: str) -> None:
    shop = Shop()
    assert shop.put(b"nokey", **{option: True}).error == rpc_errors.KEY_NOT_FOUND
    assert shop.machine.revision == 1


def test_a_deletion_that_finds_nothing_takes_no_revision() -> None:
    shop = Shop(a="1")
    outcome = shop.apply(Command.DELETE_RANGE, Delete(key=b"zz"))
    assert (outcome.revision, outcome.body, outcome.events) == (2, b"", ())


def test_a_deletion_of_a_range_is_one_revision_and_shows_what_went() -> None:
    shop = Shop(d1="1", d2="2", e="3")
    outcome = shop.apply(Command.DELETE_RANGE, Delete(key=b"d", range_end=b"e", prev_kv=True))
    response = rpc.DeleteRangeResponse.FromString(outcome.body)
    assert (outcome.revision, response.deleted) == (5, 2)
    assert [kv.value for kv in response.prev_kvs] == [b"1", b"2"]
    assert [(e.record.mod_revision, e.record.sub) for e in outcome.events] == [(5, 0), (5, 1)]


def test_a_limit_counts_all_and_says_that_there_is_more() -> None:
    shop = Shop(a="b", a1="1", a2="2", a3="3", b="x")
    response = shop.range(key=b"a", range_end=b"b", limit=2)
    assert ([kv.key for kv in response.kvs], response.more, response.count) == ([b"a", b"a1"], True, 4)


def test_the_largest_limit_is_no_limit_in_the_present_the_past_and_a_transaction() -> None:
    shop = Shop(a="1", b="2")
    most = Range(key=b"a", range_end=b"\0", limit=2**63 - 1)
    assert shop.keys(key=b"a", range_end=b"\0", limit=2**63 - 1) == [b"a", b"b"]
    assert shop.keys(key=b"a", range_end=b"\0", limit=2**63 - 1, revision=2) == [b"a"]
    both = shop.txn(rpc.TxnRequest(success=[put_op(b"c"), rpc.RequestOp(request_range=most)]))
    assert [kv.key for kv in both.responses[1].response_range.kvs] == [b"a", b"b", b"c"]


def test_orders_sort_by_every_target() -> None:
    shop = Shop(a="b", a1="1", a2="v2", a3="v3")
    shop.put(b"a1", b"zz")
    span = {"key": b"a", "range_end": b"b", "sort_order": Range.DESCEND}
    assert shop.keys(sort_target=Range.CREATE, **span) == [b"a3", b"a2", b"a1", b"a"]
    assert shop.keys(sort_target=Range.MOD, **span) == [b"a1", b"a3", b"a2", b"a"]
    assert shop.keys(sort_target=Range.VALUE, **span) == [b"a1", b"a3", b"a2", b"a"]
    assert shop.keys(sort_target=Range.VERSION, **span) == [b"a1", b"a", b"a2", b"a3"]
    assert shop.keys(sort_target=Range.KEY, **span) == [b"a3", b"a2", b"a1", b"a"]


def test_a_sort_target_without_an_order_sorts_upwards_what_the_limit_left() -> None:
    shop = Shop(a="b", a1="1", a2="2")
    shop.put(b"a", b"again")
    assert shop.keys(key=b"a", range_end=b"b", sort_target=Range.MOD) == [b"a1", b"a2", b"a"]
    assert shop.keys(key=b"a", range_end=b"b", sort_target=Range.MOD, limit=1) == [b"a1"]


def test_revision_bounds_are_inclusive_and_do_not_change_the_count() -> None:
    shop = Shop(a="1", b="2", c="3")
    everything = {"key": b"\x00", "range_end": b"\x00"}
    response = shop.range(min_mod_revision=3, max_mod_revision=3, **everything)
    assert ([kv.key for kv in response.kvs], response.count) == ([b"b"], 3)
    assert shop.keys(min_create_revision=3, **everything) == [b"b", b"c"]
    assert shop.keys(max_create_revision=3, **everything) == [b"a", b"b"]


def test_keys_only_and_count_only_leave_out_what_they_say() -> None:
    shop = Shop(foo="bar")
    kv = shop.range(key=b"foo", keys_only=True).kvs[0]
    assert (kv.value, kv.version, kv.mod_revision) == (b"", 1, 2)
    response = shop.range(key=b"f", range_end=b"g", count_only=True)
    assert (response.count, len(response.kvs)) == (1, 0)


@pytest.mark.parametrize("end", [b"", b"c"])
def test_each_way_to_show_less_works_for_one_key_and_for_many(end: bytes) -> None:
    """a: created at 2, changed at 4; b: created and changed at 3."""
    shop = Shop(a="1", b="2")
    shop.put(b"a", b"3")
    every = [b"a", b"b"] if end else [b"a"]

    def shown(**options: object) -> list[bytes]:
        answer = shop.range(key=b"a", range_end=end, **options)
        assert (answer.count, answer.more) == (len(every), False)
        return [kv.key for kv in answer.kvs]

    assert shown() == shown(keys_only=True) == every
    assert [kv.value for kv in shop.range(key=b"a", range_end=end, keys_only=True).kvs] == [b""] * len(every)
    assert shown(count_only=True) == shown(max_mod_revision=2) == shown(min_mod_revision=5) == []
    assert shown(max_create_revision=1) == shown(min_create_revision=4) == []
    assert shown(min_mod_revision=4) == shown(max_create_revision=2) == [b"a"]
    assert shown(max_mod_revision=3) == shown(min_create_revision=3) == every[1:]
    wide = {"min_mod_revision": 2, "max_mod_revision": 4, "min_create_revision": 1, "max_create_revision": 3}
    assert shown(**wide) == every
    past = shop.range(key=b"a", range_end=end, revision=3)
    assert [kv.value for kv in past.kvs] == [b"1", b"2"][: len(every)]
    assert shop.range(key=b"none", range_end=b"o" if end else b"").count == 0


def test_an_inverted_range_is_empty() -> None:
    shop = Shop(a1="1", a2="2")
    assert shop.range(key=b"a3", range_end=b"a1").count == 0


def test_old_revisions_stay_readable_while_writes_go_on() -> None:
    shop = Shop(foo="1")
    for number in range(2, 50):
        shop.put(b"foo", str(number).encode())
        shop.put(b"other%d" % number)
    assert shop.range(key=b"foo", revision=2).kvs[0].value == b"1"
    assert shop.range(key=b"\x00", range_end=b"\x00", revision=4).count == 2


def test_a_compaction_refuses_older_reads_and_keeps_its_own_revision_readable() -> None:
    shop = Shop()
    for number in range(6):
        shop.put(b"k", b"v%d" % number)
    for revision in (4, 5):
        request = rpc.CompactionRequest(revision=revision)
        assert shop.apply(Command.COMPACTION, request).error is None
        assert shop.apply(Command.COMPACTION, request).error == rpc_errors.COMPACTED
    with pytest.raises(RpcError) as caught:
        shop.range(key=b"k", revision=3)
    assert caught.value == rpc_errors.COMPACTED
    assert shop.range(key=b"k", revision=5).kvs[0].value == b"v3"
    with pytest.raises(RpcError) as caught:
        shop.range(key=b"k", revision=100)
    assert caught.value == rpc_errors.FUTURE_REVISION


def test_operations_of_a_transaction_see_the_writes_before_them_and_share_a_revision() -> None:
    shop = Shop(a="1")
    operations = [range_op(b"a"), put_op(b"b"), range_op(b"b"), delete_op(b"a")]
    response = shop.txn(rpc.TxnRequest(success=operations))
    first, second, third, fourth = response.responses
    assert first.response_range.header.revision == 2
    assert second.response_put.header.revision == 3
    assert third.response_range.kvs[0].mod_revision == 3
    assert (fourth.response_delete_range.deleted, fourth.response_delete_range.header.revision) == (1, 3)
    assert shop.machine.revision == 3


@pytest.mark.parametrize(("key", "range_end", "now", "then"), [
    (b"b", b"d", [b"b", b"c"], [b"c"]), (b"a", b"b", [b"a"], [b"a"]),
    (b"b", b"\0", [b"b", b"c", b"e"], [b"c", b"d"]),
    (b"\0", b"\0", [b"a", b"b", b"c", b"e"], [b"a", b"c", b"d"]), (b"d", b"e", [], [b"d"]),
    (b"b", b"", [b"b"], []), (b"d", b"", [], [b"d"]),
])  # fmt: skip
def test_a_range_of_a_transaction_sees_its_writes_exactly_within_its_ends(
    key: bytes, range_end: bytes, now: list[bytes], then: list[bytes]
) -> None:
    shop = Shop(a="1", c="1", d="1")
    writes = [put_op(b"b"), put_op(b"c"), put_op(b"e"), delete_op(b"d")]
    ranges = [
        rpc.RequestOp(request_range=Range(key=key, range_end=range_end, limit=limit, revision=revision))
        for revision in (0, 4)
        for limit in (0, 1)
    ]
    answers = [one.response_range for one in shop.txn(rpc.TxnRequest(success=writes + ranges)).responses[4:]]
    assert [[kv.key for kv in one.kvs] for one in answers] == [now, now[:1], then, then[:1]]
    assert [one.count for one in answers] == [len(now), len(now), len(then), len(then)]
    assert [one.more for one in answers] == [False, len(now) > 1, False, len(then) > 1]


def test_nested_comparisons_are_judged_before_anything_is_written() -> None:
    shop = Shop(a="1")
    inner = rpc.TxnRequest(
        compare=[rpc.Compare(key=b"b", target=rpc.Compare.VERSION, version=0)],
        success=[put_op(b"was-missing")],
        failure=[put_op(b"was-there")],
    )
    request = rpc.TxnRequest(success=[put_op(b"b"), rpc.RequestOp(request_txn=inner)])
    response = shop.txn(request)
    assert response.responses[1].response_txn.succeeded
    assert shop.keys(key=b"\x00", range_end=b"\x00") == [b"a", b"b", b"was-missing"]


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (rpc.Compare(key=b"a", target=rpc.Compare.VALUE, value=b"1"), True),
        (rpc.Compare(key=b"a", target=rpc.Compare.VALUE, value=b"0", result=rpc.Compare.GREATER), True),
        (rpc.Compare(key=b"a", target=rpc.Compare.CREATE, create_revision=2), True),
        (rpc.Compare(key=b"a", target=rpc.Compare.MOD, mod_revision=3, result=rpc.Compare.LESS), True),
        (rpc.Compare(key=b"a", target=rpc.Compare.VERSION, version=1, result=rpc.Compare.NOT_EQUAL), False),
        (rpc.Compare(key=b"a", target=rpc.Compare.LEASE, lease=0), True),
        (rpc.Compare(key=b"no", target=rpc.Compare.CREATE, create_revision=0), True),
        (rpc.Compare(key=b"no", target=rpc.Compare.VALUE, value=b""), False),
        (rpc.Compare(key=b"a", range_end=b"c", target=rpc.Compare.VERSION, version=1), True),
        (rpc.Compare(key=b"a", range_end=b"c", target=rpc.Compare.VALUE, value=b"1"), False),
        (rpc.Compare(key=b"x", range_end=b"\x00", target=rpc.Compare.MOD, mod_revision=0), True),
    ],
)
def test_comparisons_decide_the_branch(compare: rpc.Compare, holds: bool) -> None:
    shop = Shop(a="1", b="2")
    assert shop.txn(rpc.TxnRequest(compare=[compare])).succeeded is holds


@pytest.mark.parametrize(("revision", "value"), [(0, b"4"), (3, b"1"), (4, b"3")])
def test_a_range_of_a_transaction_may_be_of_any_revision_there_is(revision: int, value: bytes) -> None:
    shop = Shop(a="1", b="2")
    shop.put(b"a", b"3")
    shop.apply(Command.COMPACTION, rpc.CompactionRequest(revision=3))
    _, found = shop.txn(rpc.TxnRequest(success=[put_op(b"a", b"4"), range_op(b"a", revision)])).responses
    assert found.response_range.kvs[0].value == value


def test_a_put_of_a_transaction_hangs_its_key_on_the_lease() -> None:
    shop = Shop(a="1")
    shop.apply(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=5, TTL=10))
    shop.txn(rpc.TxnRequest(success=[put_op(b"b", lease=5), put_op(b"a", lease=5)]))
    shop.txn(rpc.TxnRequest(success=[
        put_op(b"b", b"kept", ignore_lease=True), put_op(b"a", b"", ignore_value=True),
    ]))  # fmt: skip
    found = {kv.key: (kv.value, kv.lease) for kv in shop.range(key=b"a", range_end=b"c").kvs}
    assert found == {b"a": (b"v", 0), b"b": (b"kept", 5)}
    shop.apply(Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5))
    assert shop.keys(key=b"a", range_end=b"c") == [b"a"]


def test_a_transaction_with_one_bad_operation_does_nothing() -> None:
    shop = Shop(a="1")
    shop.apply(Command.COMPACTION, rpc.CompactionRequest(revision=2))
    for bad, error in [
        (range_op(b"a", revision=1), rpc_errors.COMPACTED),
        (put_op(b"x", lease=99), rpc_errors.LEASE_NOT_FOUND),
        (put_op(b"x", ignore_lease=True), rpc_errors.KEY_NOT_FOUND),
        (range_op(b"a", revision=3), rpc_errors.FUTURE_REVISION),
        (nested(put_op(b"x", lease=99)), rpc_errors.LEASE_NOT_FOUND),
    ]:
        outcome = shop.apply(Command.TXN, rpc.TxnRequest(success=[put_op(b"y"), bad]))
        assert (outcome.error, outcome.revision, outcome.events) == (error, 2, ())


def test_a_put_cannot_keep_what_its_own_transaction_has_deleted() -> None:
    """Real 3.4.23 panics when it applies this, on every member; here the whole transaction is refused."""
    shop = Shop(a="1")
    keep = nested(put_op(b"a", b"", ignore_value=True))
    request = rpc.TxnRequest(success=[delete_op(b"\x00", b"\x00"), keep])
    assert check_txn(request, 128) is None
    outcome = shop.apply(Command.TXN, request)
    assert (outcome.error, outcome.revision, outcome.events) == (rpc_errors.KEY_NOT_FOUND, 2, ())


def test_bad_operations_of_the_branch_not_taken_do_not_matter() -> None:
    shop = Shop(a="1")
    assert shop.txn(rpc.TxnRequest(failure=[put_op(b"x", lease=99)])).succeeded


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ([put_op(b"a"), put_op(b"a")], rpc_errors.DUPLICATE_KEY),
        ([put_op(b"a"), delete_op(b"a")], rpc_errors.DUPLICATE_KEY),
        ([put_op(b"b"), delete_op(b"a", b"c")], rpc_errors.DUPLICATE_KEY),
        ([put_op(b"a"), nested(put_op(b"a"))], rpc_errors.DUPLICATE_KEY),
        ([nested(put_op(b"a")), nested(put_op(b"a"))], rpc_errors.DUPLICATE_KEY),
        ([nested(put_op(b"a"), failure=(put_op(b"a"),))], None),
        ([nested(put_op(b"a"), put_op(b"a"))], rpc_errors.DUPLICATE_KEY),
        ([nested(failure=(put_op(b"a"), put_op(b"a")))], rpc_errors.DUPLICATE_KEY),
        ([put_op(b"a"), nested(nested(failure=(put_op(b"a"),)))], rpc_errors.DUPLICATE_KEY),
        ([nested(put_op(b"b")), delete_op(b"a", b"c")], rpc_errors.DUPLICATE_KEY),
        ([delete_op(b"a"), nested(failure=(put_op(b"a"),))], rpc_errors.DUPLICATE_KEY),
        ([nested(delete_op(b"a")), nested(put_op(b"a"))], rpc_errors.DUPLICATE_KEY),
        ([nested(put_op(b"a")), nested(delete_op(b"a"))], None),
        ([nested(delete_op(b"a"), failure=(put_op(b"a"),))], None),
        ([nested(delete_op(b"a"), put_op(b"c")), put_op(b"b")], None),
        ([delete_op(b"a"), delete_op(b"a", b"c")], None),
        ([put_op(b"c"), delete_op(b"a", b"c")], None),
        ([put_op(b"b"), delete_op(b"a", b"\x00")], None),  # etcd takes this range for an empty one
        ([put_op(b"")], rpc_errors.EMPTY_KEY),
        ([nested(put_op(b""))], rpc_errors.EMPTY_KEY),
        ([rpc.RequestOp()], rpc_errors.KEY_NOT_FOUND),
        ([put_op(b"%d" % n) for n in range(5)], rpc_errors.TOO_MANY_OPERATIONS),
        ([nested(*[put_op(b"%d" % n) for n in range(4)])], rpc_errors.TOO_MANY_OPERATIONS),
        ([nested(*[put_op(b"%d" % n) for n in range(3)])], None),
    ],
)
def test_transactions_are_checked_before_they_are_proposed(
    operations: list[rpc.RequestOp], error: RpcError | None
) -> None:
    assert check_txn(rpc.TxnRequest(success=operations), 4) == error
    assert check_txn(rpc.TxnRequest(failure=operations), 4) == error


def test_a_comparison_needs_a_key() -> None:
    assert check_txn(rpc.TxnRequest(compare=[rpc.Compare()]), 4) == rpc_errors.EMPTY_KEY


def test_puts_and_ranges_are_checked_before_they_are_proposed() -> None:
    assert check_put(Put()) == rpc_errors.EMPTY_KEY
    assert check_put(Put(key=b"a", value=b"v", ignore_value=True)) == rpc_errors.VALUE_PROVIDED
    assert check_put(Put(key=b"a", lease=1, ignore_lease=True)) == rpc_errors.LEASE_PROVIDED
    assert check_put(Put(key=b"a", value=b"v", lease=1)) is None
    assert check_put(Put(key=b"a", ignore_value=True, ignore_lease=True)) is None
    assert check_put(Put(key=b"a", value=b"v", ignore_lease=True)) is None
    assert check_put(Put(key=b"a", lease=1, ignore_value=True)) is None
    assert check_range(Range()) == rpc_errors.EMPTY_KEY
    odd = Range(key=b"a")
    odd.sort_target = 9  # type: ignore[assignment]
    assert check_range(odd) == rpc_errors.INVALID_SORT_OPTION
    odd = Range(key=b"a", sort_target=Range.VALUE)
    odd.sort_order = 3  # type: ignore[assignment]
    assert check_range(odd) == rpc_errors.INVALID_SORT_OPTION
    assert check_range(Range(key=b"a", sort_target=Range.VALUE, sort_order=Range.DESCEND)) is None


def test_only_ranges_make_a_transaction_read_only() -> None:
    assert is_read_only(rpc.TxnRequest(success=[range_op(b"a"), nested(range_op(b"b"))]))
    assert not is_read_only(rpc.TxnRequest(success=[range_op(b"a")], failure=[delete_op(b"b")]))
    assert not is_read_only(rpc.TxnRequest(success=[nested(put_op(b"b"))]))
