"""The commands and flags of etcdctl for API 3: names, usage lines and defaults are an interface, so data.

Usage lines and one-line texts are those that etcd 3.4's users know; what 3.5 added is taken as well, and
hidden from help texts whose shape scripts and recordings compare.
"""

from __future__ import annotations

from typing import Final

from .access_table import AUTH, ROLE, USER
from .command import Command, Program
from .completion_table import completion
from .flagset import Flag, bool_flag, text_flag

__all__ = ["COMPLETE", "ETCDCTL", "SNAPSHOT_FILES", "help_command"]


GLOBAL: Final = (
    text_flag("cacert", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    text_flag("cert", "identify secure client using this TLS certificate file"),
    Flag("command-timeout", "duration", 5.0, "timeout for short running command (excluding dial timeout)"),
    bool_flag("debug", "enable client-side debug logging"),
    Flag("dial-timeout", "duration", 2.0, "dial timeout for client connections"),
    text_flag(
        "discovery-srv", "domain name to query for SRV records describing cluster endpoints", short="d"
    ),
    text_flag("discovery-srv-name", "service name to query when using DNS discovery"),
    Flag("endpoints", "strings", ("127.0.0.1:2379",), "gRPC endpoints"),
    bool_flag("hex", "print byte strings as hex encoded strings"),
    bool_flag("insecure-discovery", "accept insecure SRV records describing cluster endpoints", True),
    bool_flag(
        "insecure-skip-tls-verify",
        "skip server certificate verification"
        " (CAUTION: this option should be enabled only for testing purposes)",
    ),
    bool_flag("insecure-transport", "disable transport security for client connections", True),
    Flag("keepalive-time", "duration", 2.0, "keepalive time for client connections"),
    Flag("keepalive-timeout", "duration", 6.0, "keepalive timeout for client connections"),
    text_flag("key", "identify secure client using this TLS key file"),
    text_flag(
        "password",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    text_flag("user", "username[:password] for authentication (prompt if password is not supplied)"),
    text_flag("write-out", "set the output format (fields, json, protobuf, simple, table)", "simple", "w"),
)

_KEY_VALUE: Final = (
    Command(
        "get [options] <key> [range_end]",
        "Gets the key or a range of keys",
        "do_kv:get",
        flags=(
            text_flag("consistency", "Linearizable(l) or Serializable(s)", "l"),
            bool_flag("count-only", "Get only the count", hidden=True),
            bool_flag(
                "from-key", "Get keys that are greater than or equal to the given key using byte compare"
            ),
            bool_flag("keys-only", "Get only the keys"),
            Flag("limit", "int", 0, "Maximum number of results"),
            text_flag("order", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
            bool_flag("prefix", "Get keys with matching prefix"),
            bool_flag("print-value-only", 'Only write values when using the "simple" output format'),
            Flag("rev", "int", 0, "Specify the kv revision"),
            text_flag("sort-by", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
        ),
    ),
    Command(
        "put [options] <key> <value> (<value> can also be given from stdin)",
        "Puts the given key into the store",
        "do_kv:put",
        long=(
            "Puts the given key into the store.\n\n"
            "When <value> begins with '-', <value> is interpreted as a flag.\n"
            "Insert '--' for workaround:\n\n"
            "$ put <key> -- <value>\n$ put -- <key> <value>\n\n"
            "If <value> isn't given as a command line argument and '--ignore-value' is not specified,\n"
            "this command tries to read the value from standard input.\n\n"
            "If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,\n"
            "this command tries to read the value from standard input.\n\n"
            "For example,\n$ cat file | put <key>\nwill store the content of the file to <key>."
        ),
        flags=(
            bool_flag("ignore-lease", "updates the key using its current lease"),
            bool_flag("ignore-value", "updates the key using its current value"),
            text_flag("lease", "lease ID (in hexadecimal) to attach to the key", "0"),
            bool_flag("prev-kv", "return the previous key-value pair before modification"),
        ),
    ),
    Command(
        "del [options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        "do_kv:delete",
        flags=(
            bool_flag(
                "from-key", "delete keys that are greater than or equal to the given key using byte compare"
            ),
            bool_flag("prefix", "delete keys with matching prefix"),
            bool_flag("prev-kv", "return deleted key-value pairs"),
            bool_flag("range", "delete range of keys", hidden=True),
        ),
    ),
    Command(
        "txn [options]",
        "Txn processes all the requests in one transaction",
        "do_txn:txn",
        flags=(bool_flag("interactive", "Input transaction in interactive mode", short="i"),),
    ),
    Command(
        "compaction [options] <revision>",
        "Compacts the event history in etcd",
        "do_kv:compaction",
        flags=(
            bool_flag("physical", "'true' to wait for compaction to physically remove all old revisions"),
        ),
        aliases=("compact",),
    ),
)


def _simple_list(what: str, items: str) -> str:
    return (
        f"When --write-out is set to simple, this command prints out comma-separated {what} lists for each"
        f" endpoint.\nThe items in the lists are {items}."
    )


_CLUSTER: Final = (
    Command(
        "alarm <subcommand>",
        "Alarm related commands",
        children=(
            Command("disarm", "Disarms all alarms", "do_cluster:alarm_disarm"),
            Command("list", "Lists all alarms", "do_cluster:alarm_list"),
        ),
    ),
    Command(
        "defrag",
        "Defragments the storage of the etcd members with given endpoints",
        "do_endpoint:defrag",
        flags=(
            bool_flag("cluster", "use all endpoints from the cluster member list"),
            text_flag("data-dir", "Optional. If present, defragments a data directory not in use by etcd."),
            text_flag("wal-dir", "Where the log of that data directory is, if elsewhere", hidden=True),
        ),
    ),
    Command(
        "endpoint <subcommand>",
        "Endpoint related commands",
        inherited=(bool_flag("cluster", "use all endpoints from the cluster member list"),),
        children=(
            Command(
                "health",
                "Checks the healthiness of endpoints specified in `--endpoints` flag",
                "do_endpoint:health",
            ),
            Command(
                "status",
                "Prints out the status of endpoints specified in `--endpoints` flag",
                "do_endpoint:status",
                long=_simple_list(
                    "status",
                    "endpoint, ID, version, db size, is leader, is learner, raft term, raft index,"
                    " raft applied index, errors",
                ),
            ),
            Command(
                "hashkv",
                "Prints the KV history hash for each endpoint in --endpoints",
                "do_endpoint:hashkv",
                flags=(Flag("rev", "int", 0, "maximum revision to hash (default: all revisions)"),),
            ),
        ),
    ),
    Command(
        "move-leader <transferee-member-id>",
        "Transfers leadership to another etcd cluster member.",
        "do_cluster:move_leader",
    ),
)

_STREAMS: Final = (
    Command(
        "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        "do_watch:watch",
        flags=(
            bool_flag("interactive", "Interactive mode", short="i"),
            bool_flag("prefix", "Watch on a prefix if prefix is set"),
            bool_flag("prev-kv", "get the previous key-value pair before the event happens"),
            bool_flag("progress-notify", "get periodic watch progress notification", hidden=True),
            Flag("rev", "int", 0, "Revision to start watching"),
        ),
    ),
    Command("version", "Prints the version of etcdctl", "do_misc:version"),
    Command(
        "lease <subcommand>",
        "Lease related commands",
        children=(
            Command("grant <ttl>", "Creates leases", "do_lease:grant"),
            Command("revoke <leaseID>", "Revokes leases", "do_lease:revoke"),
            Command(
                "timetolive <leaseID> [options]",
                "Get lease information",
                "do_lease:time_to_live",
                flags=(bool_flag("keys", "Get keys attached to this lease"),),
            ),
            Command("list", "List all active leases", "do_lease:list_all"),
            Command(
                "keep-alive [options] <leaseID>",
                "Keeps leases alive (renew)",
                "do_keep_alive:keep_alive",
                flags=(
                    bool_flag(
                        "once", "Resets the keep-alive time to its original value and exits immediately"
                    ),
                ),
            ),
        ),
    ),
)

_MEMBER: Final = Command(
    "member <subcommand>",
    "Membership related commands",
    children=(
        Command(
            "add <memberName> [options]",
            "Adds a member into the cluster",
            "do_member:add",
            flags=(
                bool_flag("learner", "indicates if the new member is raft learner"),
                text_flag("peer-urls", "comma separated peer URLs for the new member."),
            ),
        ),
        Command("remove <memberID>", "Removes a member from the cluster", "do_member:remove"),
        Command(
            "update <memberID> [options]",
            "Updates a member in the cluster",
            "do_member:update",
            flags=(text_flag("peer-urls", "comma separated peer URLs for the updated member."),),
        ),
        Command(
            "list",
            "Lists all members in the cluster",
            "do_member:list_all",
            long=_simple_list("member", "ID, Status, Name, Peer Addrs, Client Addrs, Is Learner"),
            flags=(text_flag("consistency", "Linearizable(l) or Serializable(s)", "l", hidden=True),),
        ),
        Command(
            "promote <memberID>",
            "Promotes a non-voting member in the cluster",
            "do_member:promote",
            long="Promotes a non-voting learner member to a voting one in the cluster.",
        ),
    ),
)

_RESTORE: Final = (
    text_flag("data-dir", "Path to the data directory"),
    text_flag(
        "initial-advertise-peer-urls",
        "List of this member's peer URLs to advertise to the rest of the cluster",
        "http://localhost:2380",
    ),
    text_flag(
        "initial-cluster",
        "Initial cluster configuration for restore bootstrap",
        "default=http://localhost:2380",
    ),
    text_flag(
        "initial-cluster-token",
        "Initial cluster token for the etcd cluster during restore bootstrap",
        "etcd-cluster",
    ),
    text_flag("name", "Human-readable name for this member", "default"),
    bool_flag(
        "skip-hash-check", "Ignore snapshot integrity hash value (required if copied from data directory)"
    ),
    text_flag("wal-dir", "Path to the WAL directory (use --data-dir if none given)"),
)

SNAPSHOT_FILES: Final = (
    Command(
        "restore <filename> [options]",
        "Restores an etcd member snapshot to an etcd directory",
        "do_snapshot:restore",
        flags=_RESTORE,
    ),
    Command(
        "status <filename>",
        "Gets backend snapshot status of a given file",
        "do_snapshot:status",
        long=_simple_list("status", "hash, revision, total keys, total size"),
    ),
)

_COPIES: Final = (
    Command(
        "snapshot <subcommand>",
        "Manages etcd node snapshots",
        children=(
            Command(
                "save <filename>", "Stores an etcd node backend snapshot to a given file", "do_snapshot:save"
            ),
            *SNAPSHOT_FILES,
        ),
    ),
    Command(
        "make-mirror [options] <destination>",
        "Makes a mirror at the destination etcd cluster",
        "do_mirror:make_mirror",
        flags=(
            text_flag(
                "dest-cacert", "Verify certificates of TLS enabled secure servers using this CA bundle"
            ),
            text_flag(
                "dest-cert",
                "Identify secure client using this TLS certificate file for the destination cluster",
            ),
            bool_flag("dest-insecure-transport", "Disable transport security for client connections", True),
            text_flag("dest-key", "Identify secure client using this TLS key file"),
            text_flag("dest-password", "password at the destination cluster", hidden=True),
            text_flag(
                "dest-prefix",
                "destination prefix to mirror a prefix to a different prefix in the destination cluster",
            ),
            text_flag("dest-user", "username[:password] at the destination cluster", hidden=True),
            Flag("max-txn-ops", "uint", 128, "operations in one transaction at most", hidden=True),
            bool_flag("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
            text_flag("prefix", "Key-value prefix to mirror"),
            Flag("rev", "int", 0, "revision to begin with", hidden=True),
        ),
    ),
    Command(
        "migrate",
        "Migrates keys in a v2 store to a mvcc store",
        "do_misc:migrate",
        flags=(
            text_flag("data-dir", "Path to the data directory"),
            bool_flag("no-ttl", "Do not convert TTL keys"),
            text_flag("transformer", "Path to the user-provided transformer program"),
            text_flag("wal-dir", "Path to the WAL directory"),
        ),
    ),
    Command(
        "lock <lockname> [exec-command arg1 arg2 ...]",
        "Acquires a named lock",
        "do_lock:lock",
        flags=(Flag("ttl", "int", 10, "timeout for session"),),
        holds_signals=True,
    ),
    Command(
        "elect <election-name> [proposal]",
        "Observes and participates in leader election",
        "do_lock:elect",
        flags=(bool_flag("listen", "observation mode", short="l"),),
        holds_signals=True,
    ),
)

def _check_flags(what: str, prefix: str) -> tuple[Flag, ...]:
    return (
        bool_flag("auto-compact", "Compact storage with last revision after test is finished."),
        bool_flag("auto-defrag", "Defragment storage after test is finished."),
        text_flag(
            "load",
            f"The {what} check's workload model."
            " Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
            "s",
        ),
        text_flag("prefix", f"The prefix for writing the {what} check's keys.", prefix),
    )


_CHECK: Final = Command(
    "check <subcommand>",
    "commands for checking properties of the etcd cluster",
    children=(
        Command(
            "perf [options]",
            "Check the performance of the etcd cluster",
            "do_check:perf",
            flags=_check_flags("performance", "/etcdctl-check-perf/"),
        ),
        Command(
            "datascale [options]",
            "Check the memory usage of holding data for different workloads on a given server endpoint.",
            "do_check:datascale",
            long=(
                "If no endpoint is provided, localhost will be used."
                " If multiple endpoints are provided, first endpoint will be used."
            ),
            flags=_check_flags("datascale", "/etcdctl-check-datascale/"),
        ),
    ),
)


def help_command(program: str) -> Command:
    """The command that shows help texts."""
    return Command(
        "help [command]",
        "Help about any command",
        "do_help:help",
        long=(
            "Help provides help for any command in the application.\n"
            f"Simply type {program} help [path to command] for full details."
        ),
    )


#: What completion scripts ask; its arguments are the words typed so far.
COMPLETE: Final = Command(
    "__complete", "Completes a command line", "do_completion:complete", own_words=True, hidden=True
)

ETCDCTL: Final = Program(
    Command(
        "etcdctl",
        "A simple command line client for etcd3.",
        children=(
            *_KEY_VALUE, *_CLUSTER, *_STREAMS, _MEMBER, *_COPIES, AUTH, USER, ROLE, _CHECK,
            help_command("etcdctl"), completion("etcdctl"), COMPLETE,
        ),
    ),
    version="3.4.23",
    api_version="3.4",
    flags=GLOBAL,
    prefix="ETCDCTL",
)  # fmt: skip
