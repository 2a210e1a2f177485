"""What the command line says about itself, about odd spellings, and about watches."""

from __future__ import annotations

from cases import FMT
from groups import group

__all__: list[str] = []

OTHER = FMT[1:]
COMMANDS = (
    "alarm", "alarm disarm", "alarm list", "auth", "auth disable", "auth enable", "check", "check datascale",
    "check perf", "compaction", "completion", "completion bash", "completion fish", "completion powershell",
    "completion zsh", "defrag", "del", "elect", "endpoint", "endpoint hashkv", "endpoint health",
    "endpoint status", "get", "help", "lease", "lease grant", "lease keep-alive", "lease list",
    "lease revoke", "lease timetolive", "lock", "make-mirror", "member", "member add", "member list",
    "member promote", "member remove", "member update", "migrate", "move-leader", "put", "role", "role add",
    "role delete", "role get", "role grant-permission", "role list", "role revoke-permission", "snapshot",
    "snapshot restore", "snapshot save", "snapshot status", "txn", "user", "user add", "user delete",
    "user get", "user grant-role", "user list", "user passwd", "user revoke-role", "version", "watch",
)


@group(nodes=0)
def m3_help(r):
    """Every help text, by the flag and by the command, and what is wrong with a command line."""
    c = r.ctl
    for name in COMMANDS:
        c("flag-" + name.replace(" ", "-"), name + " --help")
    for name in COMMANDS[::8]:
        c("help-" + name.replace(" ", "-"), "help " + name)
        c("bad-flag-" + name.replace(" ", "-"), name + " --nosuchflag")
    c("short-h", "get -h")
    c("help-unknown", "help frob")
    c("help-unknown-child", "help member frob")
    c("group-unknown-child-user", "user frob", cap=600)
    c("group-unknown-child-role", "role frob", cap=600)
    c("group-unknown-child-lease", "lease frob", cap=600)
    c("group-unknown-child-auth", "auth frob", cap=600)
    c("group-unknown-child-alarm", "alarm frob", cap=600)
    c("group-unknown-child-snapshot", "snapshot frob", cap=600)
    c("flag-without-value", "get x --limit")
    c("short-flag-unknown", "get x -q")
    c("short-flags-together", "watch -iq")
    c("flag-single-dash-long", "get -prefix x")
    c("flag-bad-int", "get x --limit=many")
    c("flag-bad-int-range", "get x --limit=99999999999999999999")
    c("flag-bad-bool", "get x --prefix=maybe")
    c("flag-bad-duration", "get x --command-timeout=5")
    c("flag-bad-duration-unit", "get x --dial-timeout=5parsecs")
    c("flag-equals-only", "get --=x")
    c("flag-triple-dash", "get ---x")
    c("flag-empty-name", "get --")
    c("unknown-near", "mebmer list")
    c("unknown-near-txn", "tnx")
    c("unknown-prefix", "snap")
    c("unknown-far", "zzzzzz x y")
    c("version-extra", "version extra", norm=["ver"])
    c("global-flag-before", "--hex version", norm=["ver"])
    c("api-2-help", "--help", env={"ETCDCTL_API": "3"}, cap=800)

@group()
def m3_watch(r):
    c = r.ctl
    for i in range(3):
        r.do(["put", "old", f"v{i}"])
    for f in FMT:
        c("rev-" + f, f"watch old --rev=2 -w {f}", pokes=["del old"], settle=1.0)
        r.do("put old back")
        c("prev-" + f, f"watch w --prev-kv -w {f}", pokes=["put w 1", "put w 2", "del w"], settle=1.0)
    c("hex", "watch hx --hex", pokes=["put hx v"], settle=1.0)
    c("hex-json", "watch hx --hex -w json", pokes=["put hx v"], settle=1.0)
    c("hex-fields", "watch hx --hex -w fields", pokes=["put hx v"], settle=1.0)
    c("from-key-flag", "watch a --from-key")
    c("range-prefix", "watch a b --prefix")
    c("bad-w", "watch a -w yaml")
    c("rev-negative", "watch a --rev=-1", pokes=["put a 1"], settle=1.0)
    c("rev-bad", "watch a --rev=x")
    c("exec", ["watch", "ex", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE-$ETCD_WATCH_KEY-$ETCD_WATCH_VALUE"], pokes=["put ex 1"], settle=1.0)
    c("exec-json", ["watch", "ex", "-w", "json", "--", "echo", "ran"], pokes=["put ex 1"], settle=1.0)
    c("exec-prefix", ["watch", "--prefix", "ex", "--", "echo", "ran"], pokes=["put ex1 1"], settle=1.0)
    c("exec-range", ["watch", "ex1", "ex5", "--", "echo", "ran"], pokes=["put ex3 1"], settle=1.0)
    c("exec-no-command", ["watch", "ex", "--"], pokes=["put ex 1"], settle=1.0)
    c("exec-status", ["watch", "ex", "--", "sh", "-c", "exit 3"], pokes=["put ex 1"], settle=1.0)
    c("env-key-exec", ["watch", "--", "echo", "ran"], env={"ETCDCTL_WATCH_KEY": "ek"}, pokes=["put ek 1"], settle=1.0)
    c("env-range-only", ["watch"], env={"ETCDCTL_WATCH_RANGE_END": "ek"})
    c("interactive-two", "watch -i", chunks=["watch one\n", "watch two --prefix --prev-kv\n"], pokes=["put one 1", "put two1 2", "put two1 3"], settle=1.0)
    c("interactive-json", "watch -i -w json", chunks=["watch ij\n"], pokes=["put ij 1"], settle=1.0)
    c("interactive-exec", "watch -i", chunks=["watch ie -- echo ran\n"], pokes=["put ie 1"], settle=1.0)
    c("interactive-range", "watch -i", chunks=["watch r1 r5\n"], pokes=["put r3 1"], settle=1.0)
    c("interactive-rev", "watch -i", chunks=["watch old --rev 2\n"], pokes=[], settle=1.0)
    c("interactive-quoted", "watch -i", chunks=['watch "a b"\n'], pokes=[["put", "a b", "1"]], settle=1.0)
    c("interactive-empty-line", "watch -i", chunks=["\n"], pokes=[], settle=1.0)
    c("interactive-no-key", "watch -i", chunks=["watch\n"], pokes=[], settle=1.0)
    c("interactive-not-watch", "watch -i", chunks=["get foo\n"], pokes=[], settle=1.0)
    c("interactive-many", "watch -i", chunks=["watch a b c\n"], pokes=[], settle=1.0)
    c("interactive-prefix-range", "watch -i", chunks=["watch a b --prefix\n"], pokes=[], settle=1.0)
    c("interactive-progress", "watch -i", chunks=["watch pr\n", "progress\n"], pokes=[], settle=1.5)
    c("interactive-eof", "watch -i", stdin="watch q\n")
    c("interactive-with-args", "watch -i foo", chunks=["watch ij\n"], pokes=["put ij 2", "put foo 1"], settle=1.0)
    r.do("compaction 4")
    for f in FMT:
        c("compacted-" + f, f"watch old --rev=2 -w {f}")
    c("sigterm", "watch st", pokes=["put st 1"], settle=0.6, sig=15)


@group()
def m3_misc(r):
    c = r.ctl
    r.do("put x y")
    down = ["--endpoints", "127.0.0.1:1", "--command-timeout=600ms", "--dial-timeout=500ms"]
    # (etcdctl waits for ever with lease list, timetolive and keep-alive, txn, and what lists users and roles)
    for name in ("get x", "put x y", "del x", "compaction 1", "lease grant 5", "lease revoke 1",
                 "member list", "member remove 1",
                 "member add n --peer-urls=http://127.0.0.1:9", "member update 1 --peer-urls=http://127.0.0.1:9",
                 "member promote 1", "alarm list", "alarm disarm", "auth enable", "auth disable", "endpoint status", "endpoint hashkv",
                 "endpoint health", "defrag", "move-leader 1"):
        c("down-" + name.replace(" ", "-").replace("/", "")[:30], [*down, *name.split()], eps=False, norm=["dur"])
    for f in OTHER:
        c("down-status-" + f, [*down, "endpoint", "status", "-w", f], eps=False)
        c("down-health-" + f, [*down, "endpoint", "health", "-w", f], eps=False, norm=["dur"])
        c("down-hashkv-" + f, [*down, "endpoint", "hashkv", "-w", f], eps=False)
        c("health-" + f, f"endpoint health -w {f}", norm=["dur"])
        c("version-" + f, f"version -w {f}", norm=["ver"])
        c("defrag-" + f, f"defrag -w {f}")
    c("two-endpoints-one-down", ["--endpoints", "127.0.0.1:1,@EP1@", "get", "x"], eps=False)
    c("two-endpoints-status", ["--endpoints", "@EP1@,127.0.0.1:1", "endpoint", "status", "--command-timeout=15s"], eps=False, norm=["status"])
    c("two-endpoints-health", ["--endpoints", "@EP1@,127.0.0.1:1", "endpoint", "health", "--command-timeout=15s"], eps=False, norm=["dur"])
    c("two-endpoints-hashkv", ["--endpoints", "@EP1@,127.0.0.1:1", "endpoint", "hashkv", "--command-timeout=15s"], eps=False)
    c("two-endpoints-defrag", ["--endpoints", "@EP1@,127.0.0.1:1", "defrag", "--command-timeout=15s"], eps=False)
    c("same-endpoint-twice", ["--endpoints", "@EP1@,@EP1@", "endpoint", "hashkv"], eps=False)
    c("endpoints-repeated-flag", ["--endpoints", "127.0.0.1:1", "--endpoints", "@EP1@", "get", "x"], eps=False)
    c("endpoints-spaces", ["--endpoints", " @EP1@", "get", "x", "--command-timeout=15s"], eps=False, volatile=["stderr"])
    c("endpoints-http", ["--endpoints", "http://@EP1@", "endpoint", "status"], eps=False, norm=["status"])
    c("endpoints-slash", ["--endpoints", "http://@EP1@/", "get", "x", "--command-timeout=15s"], eps=False)
    c("endpoints-localhost", ["--endpoints", "localhost:1", "get", "x", "--command-timeout=600ms"], eps=False)
    c("endpoints-env-http", "get x", env={"ETCDCTL_ENDPOINTS": "http://@EP1@"})
    c("endpoints-env-and-flag", ["--endpoints", "@EP1@", "get", "x"], env={"ETCDCTL_ENDPOINTS": "127.0.0.1:1"})
    c("env-timeout", "get x", env={"ETCDCTL_COMMAND_TIMEOUT": "3s"})
    c("env-timeout-bad", "get x", env={"ETCDCTL_COMMAND_TIMEOUT": "abc"})
    c("env-dial-timeout", "get x", env={"ETCDCTL_DIAL_TIMEOUT": "1s"})
    c("env-hex", "get x", env={"ETCDCTL_HEX": "true"})
    c("env-debug", "get x", env={"ETCDCTL_DEBUG": "true"}, volatile=["stderr"])
    c("env-unknown", "get x", env={"ETCDCTL_FROB": "1"})
    c("env-write-out-and-flag", "get x -w json", env={"ETCDCTL_WRITE_OUT": "fields"})
    c("env-write-out-bad", "get x", env={"ETCDCTL_WRITE_OUT": "yaml"})
    c("env-cacert-missing", "get x", env={"ETCDCTL_CACERT": "/no/such.pem"})
    c("env-insecure", "get x", env={"ETCDCTL_INSECURE_TRANSPORT": "false", "ETCDCTL_COMMAND_TIMEOUT": "1s"}, volatile=["stderr"])
    c("debug-user", "get x --debug --user root:secret", volatile=["stderr"])
    c("key-without-cert", ["--key", "/no/such.pem", "get", "x"])
    c("cert-and-key-missing", ["--cert", "/no/a.pem", "--key", "/no/b.pem", "get", "x"])
    c("cacert-empty", ["--cacert", "", "get", "x"])
    c("cert-empty", ["--cert=", "get", "x"])
    c("key-empty", ["--key=", "get", "x"])
    open(f"{r.tmp}/junk.pem", "w").write("junk")
    r.setup.append("junk.pem holds the word junk")
    c("cacert-junk", ["--cacert", "@TMP@/junk.pem", "get", "x"])
    c("cert-junk", ["--cert", "@TMP@/junk.pem", "--key", "@TMP@/junk.pem", "get", "x"])
    c("insecure-transport-false", ["--insecure-transport=false", "get", "x", "--command-timeout=1s"], volatile=["stderr"])
    c("skip-verify-plain", ["--insecure-skip-tls-verify", "get", "x", "--command-timeout=15s"])
    c("discovery-missing", ["--discovery-srv", "no.such.invalid", "get", "x"], volatile=["stderr"])
    c("timeout-zero", "get x --command-timeout=0s")
    c("timeout-tiny", "get x --command-timeout=1ns")
    c("snapshot-two-endpoints", ["--endpoints", "@EP1@,@EP1@", "snapshot", "save", "@TMP@/z.db"], eps=False)
    c("snapshot-status-json-missing", "snapshot status @TMP@/nope.db -w json")
    c("snapshot-status-two", "snapshot status a b")
    c("snapshot-restore-two", "snapshot restore a b")
    c("check-perf-args", "check perf x --load=zz")
    c("check-datascale-bad", "check datascale --load=zzz")
    c("completion-none", "completion")
    c("completion-bad", "completion tcsh")
    c("make-mirror-two", "make-mirror a b")
    c("elect-listen-no-name", "elect -l")
    c("elect-listen-proposal", "elect -l name proposal")
    c("lock-ttl-bad", "lock x --ttl=abc")
    c("lock-ttl-zero", "lock x --ttl=0", pokes=[], settle=1.0)
    c("member-list-two", "member list x")
    for f in FMT:
        c("member-list-" + f, f"member list -w {f}")
        c("member-list-hex-" + f, f"member list --hex -w {f}")
    c("member-update-two", "member update 1 2 --peer-urls=http://127.0.0.1:1")
    c("member-add-two-names", "member add a b --peer-urls=http://127.0.0.1:1")
    c("member-add-http-word", "member add a http://127.0.0.1:1")
    c("member-add-no-scheme", "member add a --peer-urls=localhost:1")
    c("member-add-path", "member add a --peer-urls=http://127.0.0.1:1/x")
    c("member-add-no-port", "member add a --peer-urls=http://127.0.0.1")
    c("member-add-ftp", "member add a --peer-urls=ftp://127.0.0.1:1")
    c("member-add-empty-part", "member add a --peer-urls=http://127.0.0.1:1,")
    c("member-remove-two", "member remove 1 2")
    c("member-remove-self-last", "member remove @MID_n1@")
    c("member-promote-none", "member promote")
    c("migrate-none", "migrate")
    c("migrate-missing", "migrate --data-dir=@TMP@/none", volatile=["stderr"])
