"""Every format prints what etcdctl prints; the texts are those of a real one."""

from __future__ import annotations

from typing import Any

import pytest

from tercet.core.wire.proto import auth_pb2, kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.ctl.do_endpoint import Health
from tercet.net.ctl.failures import BAD_FEATURE, Failure
from tercet.net.ctl.show import printer_for

HEADER = rpc.ResponseHeader(cluster_id=7, member_id=8, revision=9, raft_term=2)
FIELDS_HEADER = '"ClusterID" : 7\n"MemberID" : 8\n"Revision" : 9\n"RaftTerm" : 2\n'
JSON_HEADER = '"cluster_id":7,"member_id":8,"revision":9,"raft_term":2'
KV = kv_pb2.KeyValue(key=b"k<", value=b"v", create_revision=3, mod_revision=4, version=2)
MEMBER = rpc.Member(ID=255, name="n1", peerURLs=["http://p"], clientURLs=["http://c"])


def shown(capfd: pytest.CaptureFixture[str], form: str, kind: str, answer: Any, *more: Any) -> str:
    printer = printer_for(form, False)
    assert printer is not None
    printer.show(kind, answer, *more)
    return capfd.readouterr().out


def test_a_get_in_three_formats(capfd: pytest.CaptureFixture[str]) -> None:
    answer = rpc.RangeResponse(header=HEADER, kvs=[KV], count=1)
    assert shown(capfd, "simple", "get", answer) == "k<\nv\n"
    assert shown(capfd, "json", "get", answer) == (
        f'{{"header":{{{JSON_HEADER}}},"kvs":[{{"key":"azw=","create_revision":3,"mod_revision":4,'
        '"version":2,"value":"dg=="}],"count":1}\n'
    )
    assert shown(capfd, "fields", "get", answer) == (
        FIELDS_HEADER + '"Key" : "k<"\n"CreateRevision" : 3\n"ModRevision" : 4\n"Version" : 2\n'
        '"Value" : "v"\n"Lease" : 0\n"More" : false\n"Count" : 1\n'
    )


def test_hexadecimal_is_for_the_simple_format(capfd: pytest.CaptureFixture[str]) -> None:
    printer = printer_for("simple", True)
    assert printer is not None
    printer.show("get", rpc.RangeResponse(kvs=[KV]))
    assert capfd.readouterr().out == "\\x6b\\x3c\n\\x76\n"


def test_a_transaction_shows_each_answer(capfd: pytest.CaptureFixture[str]) -> None:
    inner = rpc.ResponseHeader(revision=9)
    answer = rpc.TxnResponse(
        header=HEADER,
        succeeded=True,
        responses=[
            rpc.ResponseOp(response_put=rpc.PutResponse(header=inner)),
            rpc.ResponseOp(response_range=rpc.RangeResponse(header=inner, kvs=[KV], count=1)),
            rpc.ResponseOp(response_delete_range=rpc.DeleteRangeResponse(header=inner, deleted=1)),
        ],
    )
    assert shown(capfd, "simple", "txn", answer) == "SUCCESS\n\nOK\n\nk<\nv\n\n1\n"
    text = shown(capfd, "json", "txn", answer)
    assert '"responses":[{"Response":{"ResponsePut":{"header":{"revision":9}}}},' in text
    assert '{"Response":{"ResponseDeleteRange":{"header":{"revision":9},"deleted":1}}}]}' in text


def test_texts_in_json_are_safe_in_html(capfd: pytest.CaptureFixture[str]) -> None:
    answer = rpc.AuthUserListResponse(users=["<&>\u2028\x01ü"])
    assert shown(capfd, "json", "user_list", answer) == '{"users":["\\u003c\\u0026\\u003e\\u2028\\u0001ü"]}\n'


def test_a_watch_in_json_has_the_client_librarys_names(capfd: pytest.CaptureFixture[str]) -> None:
    answer = rpc.WatchResponse(header=HEADER, events=[kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=KV)])
    assert shown(capfd, "json", "watch", answer).startswith(
        f'{{"Header":{{{JSON_HEADER}}},"Events":[{{"type":1,"kv":{{"key":"azw=",'
    )
    assert shown(capfd, "json", "watch", rpc.WatchResponse(canceled=True, compact_revision=5)) == (
        '{"Header":{},"Events":[],"CompactRevision":5,"Canceled":true,"Created":false}\n'
    )
    assert shown(capfd, "simple", "watch", answer) == "DELETE\nk<\nv\n"


def test_a_lease_has_its_shapes(capfd: pytest.CaptureFixture[str]) -> None:
    grant = rpc.LeaseGrantResponse(header=HEADER, ID=16, TTL=30)
    assert shown(capfd, "simple", "grant", grant) == "lease 0000000000000010 granted with TTL(30s)\n"
    assert shown(capfd, "json", "grant", grant) == f'{{{JSON_HEADER},"ID":16,"TTL":30,"Error":""}}\n'
    life = rpc.LeaseTimeToLiveResponse(header=HEADER, ID=16, TTL=29, grantedTTL=30, keys=[b"a", b"b"])
    assert shown(capfd, "simple", "time_to_live", life, True) == (
        "lease 0000000000000010 granted with TTL(30s), remaining(29s), attached keys([a b])\n"
    )
    gone = rpc.LeaseTimeToLiveResponse(header=HEADER, ID=16, TTL=-1)
    assert shown(capfd, "simple", "time_to_live", gone, False) == "lease 0000000000000010 already expired\n"
    assert shown(capfd, "json", "time_to_live", gone).endswith('"ttl":-1,"granted-ttl":0,"keys":null}\n')


def test_members_in_a_table_are_aligned(capfd: pytest.CaptureFixture[str]) -> None:
    unstarted = rpc.Member(ID=1, peerURLs=["http://longer-name"], isLearner=True)
    text = shown(capfd, "table", "member_list", rpc.MemberListResponse(members=[MEMBER, unstarted]))
    assert text == (
        "+----+-----------+------+--------------------+--------------+------------+\n"
        "| ID |  STATUS   | NAME |     PEER ADDRS     | CLIENT ADDRS | IS LEARNER |\n"
        "+----+-----------+------+--------------------+--------------+------------+\n"
        "| ff |   started |   n1 |           http://p |     http://c |      false |\n"
        "|  1 | unstarted |      | http://longer-name |              |       true |\n"
        "+----+-----------+------+--------------------+--------------+------------+\n"
    )


def test_a_new_member_is_told_how_to_start(capfd: pytest.CaptureFixture[str]) -> None:
    new = rpc.Member(ID=1, peerURLs=["http://q"])
    answer = rpc.MemberAddResponse(header=HEADER, member=new, members=[MEMBER, new])
    assert shown(capfd, "simple", "member_add", answer, "n2", "http://q") == (
        "Member                1 added to cluster                7\n\n"
        'ETCD_NAME="n2"\nETCD_INITIAL_CLUSTER="n1=http://p,n2=http://q"\n'
        'ETCD_INITIAL_ADVERTISE_PEER_URLS="http://q"\nETCD_INITIAL_CLUSTER_STATE="existing"\n'
    )


def test_health_goes_to_standard_error_in_the_simple_format(capfd: pytest.CaptureFixture[str]) -> None:
    answers = [Health("a:1", True, "1.2ms", ""), Health("b:1", False, "5s", "context deadline exceeded")]
    printer = printer_for("simple", False)
    assert printer is not None
    printer.show("health", answers)
    assert capfd.readouterr() == (
        "",
        "a:1 is healthy: successfully committed proposal: took = 1.2ms\n"
        "b:1 is unhealthy: failed to commit proposal: context deadline exceeded\n",
    )
    assert shown(capfd, "json", "health", answers) == (
        '[{"endpoint":"a:1","health":true,"took":"1.2ms"},'
        '{"endpoint":"b:1","health":false,"took":"5s","error":"context deadline exceeded"}]\n'
    )


def test_a_roles_permissions_are_sorted_by_what_they_allow(capfd: pytest.CaptureFixture[str]) -> None:
    permissions = [
        auth_pb2.Permission(permType=auth_pb2.Permission.READ, key=b"a"),
        auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=b"b", range_end=b"c"),
        auth_pb2.Permission(permType=auth_pb2.Permission.WRITE, key=b"c", range_end=b"\0"),
        auth_pb2.Permission(permType=auth_pb2.Permission.WRITE, key=b"c", range_end=b"x"),
    ]
    answer = rpc.AuthRoleGetResponse(header=HEADER, perm=permissions)
    assert shown(capfd, "simple", "role_get", answer, "r1") == (
        "Role r1\nKV Read:\n\ta\n\t[b, c) (prefix b)\nKV Write:\n\t[b, c) (prefix b)\n\t[c, <open ended>\n"
        "\t[c, x)\n"
    )
    assert '"PermType" :  READWRITE\n' in shown(capfd, "fields", "role_get", answer, "r1")


def test_an_alarm_has_a_text_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    answer = rpc.AlarmResponse(alarms=[rpc.AlarmMember(memberID=5, alarm=rpc.NOSPACE)])
    assert shown(capfd, "simple", "alarm", answer) == "memberID:5 alarm:NOSPACE \n"
    assert shown(capfd, "fields", "alarm", rpc.AlarmResponse()) == ""


def test_protobuf_is_the_answer_itself(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printer = printer_for("protobuf", False)
    assert printer is not None
    answer = rpc.RangeResponse(header=HEADER, kvs=[KV], count=1)
    printer.show("get", answer)
    assert capfdbinary.readouterr().out == answer.SerializeToString()
    printer.show("grant", rpc.LeaseGrantResponse(header=HEADER, ID=1))
    assert capfdbinary.readouterr().out == HEADER.SerializeToString()


@pytest.mark.parametrize(
    ("form", "kind"),
    [("table", "get"), ("table", "user_add"), ("fields", "user_get"), ("fields", "member_add"),
     ("protobuf", "status"), ("protobuf", "health")],
)  # fmt: skip
def test_a_format_that_cannot_show_a_kind_says_so(form: str, kind: str) -> None:
    printer = printer_for(form, False)
    assert printer is not None
    with pytest.raises(Failure) as caught:
        printer.show(kind, rpc.RangeResponse())
    assert (caught.value.status, caught.value.text) == (
        BAD_FEATURE, f"{form} not supported as output format",
    )  # fmt: skip


def test_an_unknown_format_has_no_printer() -> None:
    assert printer_for("yaml", False) is None
