"""Odd spellings: of numbers, of empty keys, of variables, of transactions' lines, and of times that are none."""

from __future__ import annotations

from groups import group

__all__: list[str] = []

#: Only for what etcdctl runs without a time limit, and what needs no server at all.
NO_TIME = (
    "user list", "user get u", "user add x:y", "user grant-role u r", "user revoke-role u r", "user delete x", "role list",
    "role add q", "role get r", "role grant-permission r read k", "role revoke-permission r k", "role delete q", "lease list",
    "lease timetolive 1", "lease keep-alive --once 1", "lock l echo hi", "get k", "put k v", "del k", "compaction 1",
    "lease grant 9", "lease revoke 1", "member list", "endpoint status", "endpoint hashkv", "alarm list", "alarm disarm",
    "auth enable", "auth disable", "defrag", "move-leader 1",
)
COMPARES = (
    'value ("k") = "v"', "value(", "(", "value(`k`) = `v`", 'value( "k") = "v"', 'value("k" ) = "v"', 'value("k")= "v"',
    'value("k") ="v"', 'value("k")  =  "v"', 'value("k") = "v" trailing', 'value("k") = "v"x', 'mod("k") = 2', 'mod("k") = "+2"',
    'mod("k") = "0x2"', 'mod("k") = "99999999999999999999"', 'value("\\x6b") = "\\u0076"', 'value("k") = "open', 'VALUE("k") = "v"',
)
OPERATIONS = (
    "d k9", "g k", "p k v", "GET k", "get", "get k a b", "put k", "put k v w", "del k a b", "get --nope k", "get k --order=UP",
    "get k --sort-by=SIZE", "get k --consistency=x", "put k v --lease=zz", "put -- k -v", "get k --prefix=false", 'get "k"',
    "get k --prefix --from-key", "del k k2 --prefix", "defrag k", "get k --limit=1_0",
)
KEYS = (["a"], ["a", "c"], [""], ["", "c"], ["a", ""], ["--prefix", "a"], ["--prefix", ""], ["--prefix", "", "c"], ["--from-key", "a"],
        ["--from-key", ""], ["--prefix", "--from-key", "a"], ["--prefix", "--from-key", ""], ["--prefix", "--from-key", "a", "c"])


@group()
def m3_spelling(r):
    c = r.ctl
    r.do("put k v")
    r.do("role add r")
    for i, words in enumerate(KEYS):
        c(f"grant-{i}", ["role", "grant-permission", "r", "readwrite", *words])
        c(f"granted-{i}", "role get r -w json")
        c(f"revoke-{i}", ["role", "revoke-permission", "r", *words])
    for i, line in enumerate(COMPARES):
        c(f"compare-{i}", "txn", stdin=f"{line}\n\nget k\n\nget other\n\n")
    for i, line in enumerate(OPERATIONS):
        c(f"operation-{i}", "txn", stdin=f"\n{line}\n\n\n")
    for word in ("1_0", "1__0", "_1", "0x_1", "0_1", "0b1_0", "0o17", "1_"):
        c("limit-" + word, f"get k --limit={word}")
    r.do("user add u:pw")
    for words in NO_TIME:
        c("no-time-" + words.replace(" ", "-"), [*words.split(), "--command-timeout=0s"], norm=["status", "dur"])
    c("no-time-txn", "txn --command-timeout=0s", stdin="\n\n\n")
    c("no-time-snapshot", "snapshot save @TMP@/no.db --command-timeout=0s")
    c("unknown-binary", ["a\nb"])
    c("unknown-quote", ['a"b'])
    c("elect-no-proposal", "elect e")


@group()
def m3_variables(r):
    """Environment variables, and what is complained of first."""
    c = r.ctl
    r.do("put k v")
    for words in ("user list", "role list", "alarm disarm", "lease list", "member list"):
        c("format-" + words.replace(" ", "-"), words, env={"ETCDCTL_WRITE_OUT": "json"})
        c("no-format-" + words.replace(" ", "-"), words, env={"ETCDCTL_WRITE_OUT": "yaml"})
    c("cluster", "endpoint status", env={"ETCDCTL_CLUSTER": "true"}, norm=["status"])
    c("cluster-elsewhere", "get k", env={"ETCDCTL_CLUSTER": "true"})
    c("watch-key-elsewhere", "get k", env={"ETCDCTL_WATCH_KEY": "k"})
    c("empty", "get k", env={"ETCDCTL_USER": ""})
    c("empty-and-flag", "get k --user=a:b", env={"ETCDCTL_USER": ""})
    c("hex-yes", "get k", env={"ETCDCTL_HEX": "yes"})
    for version in ("", "3", "4"):
        c("api-" + version, "get k", env={"ETCDCTL_API": version})
    c("child-sees", ["lock", "l", "sh", "-c", "echo $ETCDCTL_API $ETCDCTL_FROB $ETCD_LOCK_REV"], env={"ETCDCTL_DIAL_TIMEOUT": "3s"})
    for i, words in enumerate((
        "get k --endpoints=", "endpoint status --endpoints=", "endpoint health --endpoints=", "defrag --endpoints=",
        "move-leader 1 --endpoints=", "snapshot save no.db --endpoints=", "get k -w yaml --cert=", "endpoint health -w yaml --cert=",
        "get k --cacert= --key= --cert=", "get k --cacert=/no/ca --cert=/no/cert", "get k --cacert=/no/ca --key=/no/key",
        "get k --cert=/no/cert -w yaml", "make-mirror 127.0.0.1:1 --dest-cert= --cert=/no/cert",
        "make-mirror 127.0.0.1:1 --dest-cert=/no/dest --cert=/no/cert", "get k --user=:pw --endpoints=127.0.0.1:1", "get k --user=a: --endpoints=127.0.0.1:1",
    )):
        c(f"first-{i}", words.split(), eps=False)
    for i, words in enumerate(("watch k l m", "watch k l m --prefix", "watch k l m -- echo ran")):
        c(f"watch-{i}", words, pokes=["put k 1", "put kk 2", "put l 3"], settle=1.0)
    for i, line in enumerate(("watch k l m", "watch -- echo ran", "watch k --", "watch --rev=2", "watch k l --prefix", "watch k -w json")):
        c(f"watch-line-{i}", "watch -i", chunks=[line + "\n"], pokes=["put k 1", "put kk 2"], settle=1.0)
    for line in ("watch", "watch k"):
        c("watch-line-variable-" + line[6:], "watch -i", chunks=[line + "\n"], env={"ETCDCTL_WATCH_KEY": "k"}, pokes=["put k 1"], settle=1.0)
    c("watch-end-without-key", "watch -i", env={"ETCDCTL_WATCH_RANGE_END": "l"})
