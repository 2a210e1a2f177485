"""The JSON gateway and the pages beside it, and bodies that cannot be read."""

from __future__ import annotations

import json

from cases import b
from groups import group
from servers import simple_http

__all__: list[str] = []


@group()
def m3_http(r):
    """The JSON gateway's services that the other groups do not call."""
    v = r.v3
    v("put", "kv/put", {"key": b("a"), "value": b("1")})
    v("put-prev", "kv/put", {"key": b("a"), "value": b("2"), "prev_kv": True})
    v("put-camel", "kv/put", {"key": b("a"), "value": b("2"), "prevKv": True})
    v("put-ignore-value", "kv/put", {"key": b("a"), "ignore_value": True})
    v("put-lease-string", "kv/put", {"key": b("a"), "value": b("x"), "lease": "77"})
    v("put-lease-number", "kv/put", {"key": b("a"), "value": b("x"), "lease": 77})
    v("put-no-key", "kv/put", {"value": b("x")})
    v("put-empty", "kv/put", {})
    v("put-null", "kv/put", {"key": None, "value": None})
    v("put-unknown-field", "kv/put", {"key": b("a"), "frob": 1})
    v("put-bad-base64", "kv/put", {"key": "%%%"})
    v("put-url-base64", "kv/put", {"key": "-_-_", "value": "-_8="})
    v("put-unpadded", "kv/put", {"key": "YQ", "value": "YWI"})
    v("put-key-number", "kv/put", {"key": 5})
    v("put-bool-text", "kv/put", {"key": b("a"), "prev_kv": "true"})
    v("put-array", "kv/put", "[]")
    v("put-text", "kv/put", "junk")
    v("put-trailing", "kv/put", '{"key":"YQ=="} x')
    v("put-two-documents", "kv/put", '{"key":"YQ=="}{"key":"Yg=="}')
    v("put-no-body", "kv/put", None)
    v("range", "kv/range", {"key": b("a")})
    v("range-all", "kv/range", {"key": b("\0"), "range_end": b("\0")})
    v("range-count", "kv/range", {"key": b("a"), "count_only": True})
    v("range-sort-name", "kv/range", {"key": b("a"), "range_end": b("z"), "sort_order": "DESCEND", "sort_target": "MOD"})
    v("range-sort-number", "kv/range", {"key": b("a"), "range_end": b("z"), "sort_order": 2, "sort_target": 3})
    v("range-sort-bad", "kv/range", {"key": b("a"), "sort_order": "UP"})
    v("range-revision-string", "kv/range", {"key": b("a"), "revision": "2"})
    v("range-revision-float", "kv/range", {"key": b("a"), "revision": 2.0})
    v("range-revision-bad", "kv/range", {"key": b("a"), "revision": "two"})
    v("range-limit-overflow", "kv/range", {"key": b("a"), "limit": "9223372036854775808"})
    v("range-min-max", "kv/range", {"key": b("a"), "range_end": b("z"), "min_mod_revision": 3, "max_create_revision": "9"})
    v("range-get", "kv/range", None)
    v("delete", "kv/deleterange", {"key": b("a"), "prev_kv": True})
    v("delete-none", "kv/deleterange", {"key": b("a")})
    v("txn", "kv/txn", {"compare": [{"key": b("a"), "target": "VERSION", "version": "0"}],
      "success": [{"request_put": {"key": b("a"), "value": b("t")}}, {"requestRange": {"key": b("a")}}],
      "failure": [{"request_delete_range": {"key": b("a")}}]})
    v("txn-fail", "kv/txn", {"compare": [{"key": b("a"), "target": 0, "result": "GREATER", "version": "9"}],
      "success": [], "failure": [{"request_range": {"key": b("a")}}]})
    v("txn-nested", "kv/txn", {"success": [{"request_txn": {"success": [{"request_put": {"key": b("n"), "value": b("1")}}]}}]})
    v("txn-empty", "kv/txn", {})
    v("txn-duplicate", "kv/txn", {"success": [{"request_put": {"key": b("d")}}, {"request_put": {"key": b("d")}}]})
    v("txn-empty-op", "kv/txn", {"success": [{}]})
    v("compaction-future", "kv/compaction", {"revision": 1000})
    v("compaction", "kv/compaction", {"revision": "3"})
    v("compaction-again", "kv/compaction", {"revision": 3, "physical": True})
    v("range-compacted", "kv/range", {"key": b("a"), "revision": 2})
    v("member-list", "cluster/member/list", {})
    v("member-add-bad", "cluster/member/add", {"peerURLs": ["nope"]})
    v("member-add-none", "cluster/member/add", {})
    v("member-remove-unknown", "cluster/member/remove", {"ID": "123"})
    v("member-update-unknown", "cluster/member/update", {"ID": 123, "peerURLs": ["http://127.0.0.1:1"]})
    v("member-promote-unknown", "cluster/member/promote", {"ID": "123"})
    v("alarm", "maintenance/alarm", {})
    v("alarm-activate", "maintenance/alarm", {"action": "ACTIVATE", "memberID": "5", "alarm": "CORRUPT"})
    v("alarm-get", "maintenance/alarm", {"action": 0})
    v("alarm-put-while", "kv/put", {"key": b("z"), "value": b("z")})
    v("alarm-deactivate", "maintenance/alarm", {"action": 2, "memberID": 5, "alarm": 2})
    v("alarm-bad", "maintenance/alarm", {"action": "FROB"})
    v("defragment", "maintenance/defragment", {})
    v("transfer-unknown", "maintenance/transfer-leadership", {"targetID": "1"})
    v("hash", "maintenance/hash", {}, norm=["hash"])
    v("users-empty", "auth/user/list", {})
    v("user-add", "auth/user/add", {"name": "u", "password": "p"})
    v("user-add-again", "auth/user/add", {"name": "u", "password": "p"})
    v("user-add-empty", "auth/user/add", {})
    v("user-add-no-password", "auth/user/add", {"name": "np", "options": {"no_password": True}})
    v("user-get", "auth/user/get", {"name": "u"})
    v("user-get-missing", "auth/user/get", {"name": "none"})
    v("users", "auth/user/list", {})
    v("user-changepw", "auth/user/changepw", {"name": "u", "password": "q"})
    v("user-changepw-missing", "auth/user/changepw", {"name": "none", "password": "q"})
    v("role-add", "auth/role/add", {"name": "r"})
    v("role-add-again", "auth/role/add", {"name": "r"})
    v("role-grant", "auth/role/grant", {"name": "r", "perm": {"permType": "READWRITE", "key": b("a"), "range_end": b("b")}})
    v("role-grant-missing", "auth/role/grant", {"name": "none", "perm": {"permType": 1, "key": b("a")}})
    v("role-get", "auth/role/get", {"role": "r"})
    v("roles", "auth/role/list", {})
    v("user-grant", "auth/user/grant", {"user": "u", "role": "r"})
    v("user-grant-missing", "auth/user/grant", {"user": "u", "role": "none"})
    v("user-get-roles", "auth/user/get", {"name": "u"})
    v("user-revoke", "auth/user/revoke", {"name": "u", "role": "r"})
    v("user-revoke-again", "auth/user/revoke", {"name": "u", "role": "r"})
    v("role-revoke", "auth/role/revoke", {"role": "r", "key": b("a"), "range_end": b("b")})
    v("role-revoke-again", "auth/role/revoke", {"role": "r", "key": b("a"), "range_end": b("b")})
    v("role-delete", "auth/role/delete", {"role": "r"})
    v("role-delete-again", "auth/role/delete", {"role": "r"})
    v("user-delete", "auth/user/delete", {"name": "u"})
    v("authenticate-off", "auth/authenticate", {"name": "u", "password": "p"})
    v("enable-no-root", "auth/enable", {})
    v("disable-off", "auth/disable", {})
    v("user-root", "auth/user/add", {"name": "root", "password": "rpw"})
    v("user-root-grant", "auth/user/grant", {"user": "root", "role": "root"})
    v("role-root", "auth/role/add", {"name": "root"})
    v("user-root-grant-2", "auth/user/grant", {"user": "root", "role": "root"})
    v("enable", "auth/enable", {})
    v("no-token", "kv/range", {"key": b("a")})
    v("bad-token", "kv/range", {"key": b("a")}, headers={"Authorization": "nonsense"})
    v("bad-password", "auth/authenticate", {"name": "root", "password": "x"})
    v("unknown-user", "auth/authenticate", {"name": "zz", "password": "x"})
    got = v("authenticate", "auth/authenticate", {"name": "root", "password": "rpw"}, volatile=["body"])
    r.vars["TOKEN"] = json.loads(got["bytes"]).get("token", "")
    token = {"Authorization": "@TOKEN@"}
    v("with-token", "kv/range", {"key": b("a")}, headers=token)
    v("with-token-bearer", "kv/range", {"key": b("a")}, headers={"Authorization": "Bearer @TOKEN@"})
    v("disable", "auth/disable", {}, headers=token)
    r.http("get-method", "GET", "/v3/kv/range")
    r.http("put-method", "PUT", "/v3/kv/put", {"key": b("a")})
    r.http("delete-method", "DELETE", "/v3/kv/range")
    r.http("unknown-path", "POST", "/v3/kv/frob", {})
    r.http("v3beta", "POST", "/v3beta/kv/range", {"key": b("a")})
    r.http("v3alpha", "POST", "/v3alpha/kv/range", {"key": b("a")})
    r.http("root-path", "GET", "/")
    r.http("health", "GET", "/health")
    r.http("health-post", "POST", "/health", "")
    r.http("health-serializable", "GET", "/health?serializable=true")
    r.http("version", "GET", "/version", norm=["ver"])
    r.http("version-post", "POST", "/version", "")
    r.http("debug-vars", "GET", "/debug/vars", volatile=["body"])
    r.http("metrics-post", "POST", "/metrics", "", volatile=["body"])
    r.http("content-type-text", "POST", "/v3/kv/range", '{"key":"YQ=="}', headers={"Content-Type": "text/plain"})
    r.http("accept-text", "POST", "/v3/kv/range", '{"key":"YQ=="}', headers={"Accept": "text/plain"})
    r.http("cors", "OPTIONS", "/v3/kv/range", headers={"Origin": "http://example.com"})


#: Bodies that are not JSON, or not of the message.
BAD_BODIES = (
    "", " ", "{", "{ ", "}", "[", "[1,", '{"key"', '{"key":', '{"key":"YQ=="', '{"key":"YQ==",', '{"key":"YQ',
    '{"key" "YQ=="}', '{"key"}', '{key:"YQ=="}', "{'key':'YQ=='}", '{"key":"YQ==",}', '{"key":"YQ=="]',
    '{"key":"YQ=="', '{"key":"YQ=="}}', '{"key":"YQ=="},', '{,}', '{"key":YQ}', '{"key":tru}', '{"key":trux}',
    '{"key":nul}', '{"key":falsy}', '{"key":null}', '{"limit":01}', '{"limit":1.}', '{"limit":1.x}', '{"limit":1e}',
    '{"limit":1e+}', '{"limit":-}', '{"limit":-x}', '{"limit":+1}', '{"limit":.5}', '{"limit":1 2}', '{"limit":0x10}',
    '{"limit":NaN}', '{"limit":Infinity}', '{"limit":"1x"}', '{"limit":"x"}', '{"limit":""}', '{"limit":" 1"}',
    '{"limit":"1 "}', '{"limit":"01"}', '{"limit":"-"}', '{"limit":"1.5"}', '{"limit":1.0}', '{"limit":1e2}',
    '{"limit":"1e2"}', '{"limit":true}', '{"limit":[1]}', '{"limit":{}}', '{"limit":"null"}', '{"limit":"true"}',
    '{"key":"a\\x"}', '{"key":"\\u12"}', '{"key":"\\u12zz"}', '{"key":"a\tb"}', '{"key":"a\nb"}', '{"key":5}',
    '{"key":["YQ=="]}', '{"key":{}}', '{"key":true}', '{"keys_only":1}', '{"keys_only":"true"}', '{"keys_only":"x"}',
    '{"keys_only":null}', '{"sort_order":"x"}', '{"sort_order":1.5}', '{"sort_order":true}', '{"sort_order":"1"}',
    '{"sort_order":null}', "null", "true", "5", '"text"', "[]", "[{}]", "{}{", "{} {}", "{}x", "//", "\u00e9",
    '{"key":"\u00e9"}', '{"\u00e9":1}', '{"a":1 "b":2}', '{"a":[1 2]}', '{"a":[1,]}', '{"a":{"b":}}', '{"a"::1}',
    '{"key":"YQ==" , "limit" : 1}', '{"key":"YQ="}', '{"key":"Y"}', '{"key":"YQ==="}', '{"key":"Y Q=="}', '{"key":" YQ=="}',
    '{"limit":9223372036854775807}', '{"limit":9223372036854775808}', '{"limit":-9223372036854775809}', '{"revision":-1}',
    '{"unknown":{"deep":[1,2,{"x":null}]}}', '{"key":"YQ==","key":"Yg=="}', '{"rangeEnd":"Yg==","range_end":"Yw=="}',
)


@group()
def m3_corrupt(r):
    """While data is held for corrupt: what goes on, and how an administrator ends it who has to log in first."""
    v = r.v3
    v("put", "kv/put", {"key": b("a"), "value": b("1")})
    v("grant", "lease/grant", {"TTL": 1000, "ID": "7"})
    v("activate", "maintenance/alarm", {"action": "ACTIVATE", "memberID": "5", "alarm": "CORRUPT"})
    for name, path, body in (
        ("put", "kv/put", {"key": b("a")}), ("range", "kv/range", {"key": b("a")}),
        ("range-serializable", "kv/range", {"key": b("a"), "serializable": True}), ("delete", "kv/deleterange", {"key": b("a")}),
        ("txn-range", "kv/txn", {"success": [{"request_range": {"key": b("a")}}]}),
        ("txn-put", "kv/txn", {"success": [{"request_put": {"key": b("a")}}]}), ("compaction", "kv/compaction", {"revision": "2"}),
        ("grant", "lease/grant", {"TTL": 1000, "ID": "9"}), ("revoke", "lease/revoke", {"ID": "7"}), ("leases", "lease/leases", {}),
        ("lock", "lock/lock", {"name": b("l"), "lease": "7"}), ("members", "cluster/member/list", {}),
        ("user-add", "auth/user/add", {"name": "root", "password": "p"}), ("users", "auth/user/list", {}),
        ("role-add", "auth/role/add", {"name": "root"}), ("user-grant", "auth/user/grant", {"user": "root", "role": "root"}),
        ("role-grant", "auth/role/grant", {"name": "root", "perm": {"permType": "READ", "key": b("a")}}),
        ("change-password", "auth/user/changepw", {"name": "root", "password": "q"}), ("auth-enable", "auth/enable", {}),
    ):
        v("while-" + name, path, body)
    status, _, body = simple_http(r.eps[0], "POST", "/v3/auth/authenticate", '{"name": "root", "password": "q"}', timeout=30)
    rooted = {"Authorization": json.loads(body).get("token", ""), "Content-Type": "application/json"}
    r.setup.append(["log in as root", status])
    v("while-put-as-root", "kv/put", {"key": b("a")}, headers=rooted)
    v("deactivate", "maintenance/alarm", {"action": "DEACTIVATE", "memberID": "5", "alarm": "CORRUPT"}, headers=rooted)
    v("put-as-root", "kv/put", {"key": b("a"), "value": b("2")}, headers=rooted)
    v("range-as-root", "kv/range", {"key": b("a")}, headers=rooted)


@group()
def m3_json(r):
    """What the JSON gateway says about bodies that it cannot read."""
    for i, body in enumerate(BAD_BODIES):
        r.v3(f"body-{i:03}", "kv/range", body)
