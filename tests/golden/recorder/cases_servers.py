"""Servers with quotas, limits, several members, TLS."""

from __future__ import annotations

import subprocess

from cases import FMT, b, lead
from groups import CALM, group

__all__: list[str] = []


@group(flags=["--quota-backend-bytes=1"])
def m3_quota(r):
    """There is no room from the start: what is refused, what is not, and how the alarm is told."""
    c = r.ctl
    c("put", "put k v")
    c("put-again", "put k v2")
    c("get", "get k")
    c("del", "del k")
    c("txn-put", "txn", stdin="\nput k v\n\n\n")
    c("txn-get", "txn", stdin="\nget k\n\n\n")
    c("txn-del", "txn", stdin="\ndel k\n\n\n")
    c("lease-grant", "lease grant 100")
    c("lease-list", "lease list")
    for f in FMT:
        if f != "fields":  # etcdctl crashes with it
            c("alarm-list-" + f, f"alarm list -w {f}")
    c("status", "endpoint status", norm=["status"])
    c("status-json", "endpoint status -w json", norm=["status"])
    c("health", "endpoint health", norm=["dur"])
    c("user-add", "user add u:p")
    c("role-add", "role add r")
    c("compaction", "compaction 1")
    c("defrag", "defrag")
    c("disarm", "alarm disarm")
    c("alarm-list-after", "alarm list")
    c("put-after", "put k v")
    c("alarm-list-again", "alarm list")
    r.http("http-health", "GET", "/health")
    r.http("http-health-exclude", "GET", "/health?exclude=NOSPACE")
    r.v3("http-put", "kv/put", {"key": b("k"), "value": b("v")})
    r.v3("http-alarm", "maintenance/alarm", {})
    r.v3("http-disarm", "maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"})
    r.v3("http-disarm-other", "maintenance/alarm", {"action": "DEACTIVATE", "alarm": "CORRUPT", "memberID": "77"})
    r.v3("http-lease", "lease/grant", {"TTL": "60", "ID": "5"})
    r.v3("http-delete", "kv/deleterange", {"key": b("k")})


@group(flags=["--max-txn-ops=2", "--max-request-bytes=1000"])
def m3_limits(r):
    """Smaller limits than usual."""
    c = r.ctl
    c("put-fits", ["put", "k", "v" * 900])
    c("put-too-large", ["put", "k", "v" * 1100])
    c("txn-two", "txn", stdin="\nput a 1\nput b 2\n\n\n")
    c("txn-three", "txn", stdin="\nput a 1\nput b 2\nput c 3\n\n\n")
    c("txn-three-failing", "txn", stdin="\n\nput a 1\nput b 2\nput c 3\n\n")
    c("txn-three-compares", "txn", stdin='mod("a") > "0"\nmod("b") > "0"\nmod("c") = "0"\n\nget a\n\n\n')
    c("txn-too-large", "txn", stdin="\nput a " + "v" * 600 + "\nput b " + "v" * 600 + "\n\n\n")
    c("get-large", "get k --print-value-only")
    c("lease", "lease grant 10000000000")
    r.v3("http-put-too-large", "kv/put", {"key": b("k"), "value": b("v" * 1200)})
    r.v3("http-txn-three", "kv/txn", {"success": [{"request_range": {"key": b(k)}} for k in "abc"]})
    r.v3("http-nested-three", "kv/txn", {"success": [{"request_txn": {
        "success": [{"request_range": {"key": b(k)}} for k in "abc"]}}]})


@group(nodes=3, flags=CALM)
def m3_cluster(r):
    """Three members, asked in other ways."""
    c = r.ctl
    lead(r, 1)
    r.do("put a 1")
    c("get-all-endpoints", "get a", eps="@EPS@")
    c("get-second", "get a", eps="@EP2@")
    c("put-third", "put b 2 -w json", eps="@EP3@")
    c("del-second-fields", "del b --prev-kv -w fields", eps="@EP2@")
    c("txn-third", "txn", stdin='mod("a") > "0"\n\nput c 3\nget a\n\n\n', eps="@EP3@")
    c("lease-second", "lease grant 600", eps="@EP2@")
    c("lease-third-timetolive", "lease timetolive @L1@ --keys", eps="@EP3@", norm=["ttl"])
    c("lease-third-keep-alive", "lease keep-alive @L1@ --once", eps="@EP3@")
    c("lease-list-first", "lease list")
    c("lease-revoke-third", "lease revoke @L1@", eps="@EP3@")
    r.caught_up()
    for f in ("simple", "table"):  # the others tell the compaction, which is -1 or none as it happens
        c("hashkv-all-" + f, f"endpoint hashkv -w {f}", eps="@EPS@")
    for f in FMT:
        c("health-all-" + f, f"endpoint health -w {f}", eps="@EPS@", norm=["dur", "jsonsort" if f == "json" else "sortlines"])
    c("alarm-list-second", "alarm list", eps="@EP2@")
    c("compaction-second", "compaction 3", eps="@EP2@")
    c("get-compacted-third", "get a --rev=1", eps="@EP3@")
    c("watch-second", "watch w", pokes=["put w 1", "del w"], eps="@EP2@")
    c("lock-third", "lock l -- echo got", eps="@EP3@")
    c("user-add-second", "user add u:p", eps="@EP2@")
    c("user-list-third", "user list", eps="@EP3@")
    c("move-leader-follower-only", "move-leader @MID_n3@", eps="@EP2@")
    c("move-leader-json", "move-leader @MID_n2@ -w json", eps="@EPS@")
    c("defrag-two", "defrag", eps="@EP1@,@EP2@")


def certificates(r):
    """Two authorities, and what they have signed: a server, a client, a client of the other; made anew, for a day."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=r.tmp, check=True, capture_output=True)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    for ca in ("ca", "other"):
        openssl("req", "-x509", *new, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
    for name, ca, extra in (("server", "ca", "subjectAltName=IP:127.0.0.1"), ("root", "ca", ""), ("alice", "ca", ""),
                            ("stranger", "other", ""), ("elsewhere", "ca", "subjectAltName=DNS:elsewhere.example")):
        with open(f"{r.tmp}/{name}.ext", "w") as file:
            file.write(extra or "basicConstraints=CA:FALSE")
        openssl("req", *new[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    r.setup.append("ca and other are authorities; server, root, alice and elsewhere are signed by ca, stranger by other")


def tls_server(r, *flags):
    """A server whose certificate the authority ``ca`` has signed."""
    certificates(r)
    r.c = r.new_cluster(1, [f"--cert-file={r.tmp}/server.pem", f"--key-file={r.tmp}/server.key", *flags], r.cfg.port_base)
    r.c.start()
    return "https://@EP1@"


@group(nodes=0, slow=True)
def m3_tls(r):
    """A server with a certificate: whom the client trusts."""
    ep = tls_server(r)
    served = ["--endpoints", ep, "--command-timeout=30s", "--dial-timeout=30s"]
    refused = ["--endpoints", ep, "--command-timeout=1500ms"]

    def c(id, *words, **kw):
        r.ctl(id, [*served, *words], eps=False, timeout=60, **kw)

    def no(id, *words, **kw):
        r.ctl(id, [*refused, *words], eps=False, timeout=60, **kw)

    ca = ["--cacert", "@TMP@/ca.pem"]
    c("put", *ca, "put", "k", "v")
    c("get-json", *ca, "get", "k", "--print-value-only")
    c("health", *ca, "endpoint", "health", norm=["dur"])
    c("watch", *ca, "watch", "k", "--rev=2", pokes=[], settle=1.0)
    no("no-ca", "get", "k")
    no("other-ca", "--cacert", "@TMP@/other.pem", "get", "k")
    no("skip-verify", "--insecure-skip-tls-verify", "get", "k")
    c("skip-verify-and-other-ca", "--insecure-skip-tls-verify", "--cacert", "@TMP@/other.pem", "get", "k")
    c("client-cert-too", *ca, "--cert", "@TMP@/alice.pem", "--key", "@TMP@/alice.key", "get", "k")
    c("key-of-another", *ca, "--cert", "@TMP@/alice.pem", "--key", "@TMP@/root.key", "get", "k")
    c("cert-for-key", *ca, "--cert", "@TMP@/alice.key", "--key", "@TMP@/alice.key", "get", "k")
    c("key-for-cert", *ca, "--cert", "@TMP@/alice.pem", "--key", "@TMP@/alice.pem", "get", "k")
    c("cert-alone", *ca, "--cert", "@TMP@/alice.pem", "get", "k")
    c("key-alone", *ca, "--key", "@TMP@/alice.key", "get", "k")
    r.ctl("no-scheme", ["--endpoints", "@EP1@", *served[2:], *ca, "get", "k"], eps=False)
    r.ctl("no-scheme-no-ca", ["--endpoints", "@EP1@", "--command-timeout=1500ms", "get", "k"], eps=False)
    r.ctl("http-scheme", ["--endpoints", "http://@EP1@", "--command-timeout=1500ms", *ca, "get", "k"], eps=False)
    r.ctl("environment", ["get", "k"], eps=False, env={
        "ETCDCTL_ENDPOINTS": ep, "ETCDCTL_CACERT": "@TMP@/ca.pem", "ETCDCTL_CERT": "@TMP@/alice.pem",
        "ETCDCTL_KEY": "@TMP@/alice.key"})
    r.ctl("environment-and-flag", ["--cacert", "@TMP@/ca.pem", "get", "k"], eps=False, env={
        "ETCDCTL_ENDPOINTS": ep, "ETCDCTL_CACERT": "@TMP@/ca.pem"})


@group(nodes=0, slow=True)
def m3_mutual(r):
    """A server that asks for certificates, and takes their names for users."""
    ep = tls_server(r, "--client-cert-auth", f"--trusted-ca-file={r.tmp}/ca.pem")
    def c(id, who, *words, patience="30s"):
        mine = ["--cert", f"@TMP@/{who}.pem", "--key", f"@TMP@/{who}.key"] if who else []
        times = [f"--command-timeout={patience}", f"--dial-timeout={patience}"]
        return r.ctl(id, ["--endpoints", ep, *times, "--cacert", "@TMP@/ca.pem", *mine, *words], eps=False)
    c("root-put", "root", "put", "k", "v")
    c("nobody", "", "get", "k", patience="2s")
    c("stranger", "stranger", "get", "k", patience="2s")
    for words in ("user add root --no-password", "user add alice --no-password", "role add root", "role add reader",
                  "role grant-permission reader read k", "user grant-role root root", "user grant-role alice reader",
                  "auth enable"):
        c("setup-" + words.replace(" ", "-"), "root", *words.split())
    c("root-get", "root", "get", "k")
    c("alice-get", "alice", "get", "k")
    c("alice-put", "alice", "put", "k", "x")
    c("alice-get-other", "alice", "get", "other")
    c("alice-user-list", "alice", "user", "list")
    c("unknown-name", "elsewhere", "get", "k")
    c("alice-with-password", "alice", "get", "k", "--user", "root:x")
    c("disable", "root", "auth", "disable")
