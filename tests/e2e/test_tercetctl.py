"""tercetctl and tercetutl as programs, against members that are programs."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import PATIENCE, Cluster, environment, free_ports, wait_until

CTL = [sys.executable, "-m", "tercet.net.ctl"]
UTL = [sys.executable, "-c", "from tercet.net.ctl.main import etcdutl; etcdutl()"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("tercetctl")) as running:
        yield running

#: How quick the machine is decides no test.
PATIENT = {"ETCDCTL_DIAL_TIMEOUT": "60s", "ETCDCTL_COMMAND_TIMEOUT": "60s"}


def run(
    cluster: Cluster, *words: str, stdin: str = "", program: list[str] = CTL, **env: str
) -> subprocess.CompletedProcess[str]:
    variables = environment() | PATIENT | {"ETCDCTL_ENDPOINTS": cluster.members[0].endpoint} | env
    return subprocess.run(
        [*program, *words], input=stdin, capture_output=True, text=True, timeout=PATIENCE, env=variables
    )


def said(cluster: Cluster, *words: str, stdin: str = "", program: list[str] = CTL) -> str:
    done = run(cluster, *words, stdin=stdin, program=program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(cluster: Cluster, *words: str) -> subprocess.Popen[str]:
    variables = environment() | PATIENT | {"ETCDCTL_ENDPOINTS": cluster.members[0].endpoint}
    return subprocess.Popen(
        [*CTL, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=variables,
    )  # fmt: skip


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_keys_of_any_bytes_and_a_value_from_standard_input(cluster: Cluster) -> None:
    assert said(cluster, "put", "ctl/in", stdin="two\nlines\n") == "OK\n"
    assert said(cluster, "get", "ctl/in") == "ctl/in\ntwo\nlines\n\n"
    raw = [os.fsencode(word) for word in CTL] + [b"put", b"ctl/\xff", b"\xfe"]
    variables = environment() | {"ETCDCTL_ENDPOINTS": cluster.members[0].endpoint}
    assert subprocess.run(raw, env=variables, timeout=PATIENCE, capture_output=True).stdout == b"OK\n"
    assert said(cluster, "get", "ctl/", "--prefix", "--hex").endswith("\\x63\\x74\\x6c\\x2f\\xff\n\\xfe\n")


def test_a_transaction_from_standard_input(cluster: Cluster) -> None:
    script = 'ver("ctl/txn") = "0"\n\nput ctl/txn "first value"\n\nget ctl/txn\n\n'
    assert said(cluster, "txn", stdin=script) == "SUCCESS\n\nOK\n"
    assert said(cluster, "txn", stdin=script) == "FAILURE\n\nctl/txn\nfirst value\n"


def test_an_interrupted_watch_has_told_everything(cluster: Cluster) -> None:
    watching = started(cluster, "watch", "ctl/w", "--prev-kv")
    reached = wait_until("the watch is there", lambda: _watchers(cluster))
    assert reached
    said(cluster, "put", "ctl/w", "1")
    assert [line(watching) for _ in range(3)] == ["PUT\n", "ctl/w\n", "1\n"]
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE) == -signal.SIGINT
    watching.communicate()


def _watchers(cluster: Cluster) -> bool:
    import urllib.request

    with urllib.request.urlopen(f"http://{cluster.members[0].endpoint}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    found = re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", text, re.M)
    return bool(found) and int(found[1]) > 0


def test_a_watch_runs_a_command_for_every_event(cluster: Cluster) -> None:
    said(cluster, "put", "ctl/exec", "v")
    script = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; exit 3"
    done = run(cluster, "watch", "ctl/exec", "--rev=1", "--", "sh", "-c", script)
    assert done.returncode == 1
    assert done.stdout == 'PUT\nctl/exec\nv\n"PUT" "ctl/exec" "v"\n'
    assert done.stderr == f'command ["sh" "-c" {json.dumps(script)}] error (exit status 3)\n'


def test_a_lock_is_held_while_its_command_runs(cluster: Cluster) -> None:
    holder = started(cluster, "lock", "ctl/lock")
    key = line(holder).strip()
    assert key.startswith("ctl/lock/")
    waiter = started(cluster, "lock", "ctl/lock", "--", "sh", "-c", "echo $ETCD_LOCK_KEY")
    keys = ("get", "ctl/lock", "--prefix", "--keys-only")
    wait_until("the second contender waits", lambda: said(cluster, *keys).count("ctl/lock/") == 2)
    assert waiter.poll() is None
    holder.send_signal(signal.SIGINT)
    assert holder.wait(PATIENCE) == 0
    out, _ = waiter.communicate(timeout=PATIENCE)
    assert waiter.returncode == 0
    assert out.startswith("ctl/lock/")
    assert out.strip() != key
    assert said(cluster, *keys) == ""
    holder.communicate()


def test_an_election_passes_on(cluster: Cluster) -> None:
    first = started(cluster, "elect", "ctl/el", "one")
    assert line(first).startswith("ctl/el/")
    assert line(first) == "one\n"
    watching = started(cluster, "elect", "-l", "ctl/el")
    assert [line(watching)[:7], line(watching)] == ["ctl/el/", "one\n"]
    second = started(cluster, "elect", "ctl/el", "two")
    keys = ("get", "ctl/el", "--prefix", "--keys-only")
    wait_until("the second candidate waits", lambda: said(cluster, *keys).count("ctl/el/") == 2)
    first.send_signal(signal.SIGINT)
    assert first.wait(PATIENCE) == 0
    assert [line(second)[:7], line(second)] == ["ctl/el/", "two\n"]
    assert [line(watching)[:7], line(watching)] == ["ctl/el/", "two\n"]
    for process in (second, watching):
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        process.communicate()
    first.communicate()


def test_a_lease_is_kept_alive_until_it_is_revoked(cluster: Cluster) -> None:
    lease = said(cluster, "lease", "grant", "30").split()[1]
    keeper = started(cluster, "lease", "keep-alive", lease)
    assert line(keeper) == f"lease {lease} keepalived with TTL(30)\n"
    once = said(cluster, "lease", "keep-alive", "--once", lease, "-w", "json")
    assert json.loads(once)["TTL"] == 30
    assert lease in said(cluster, "lease", "list")
    assert said(cluster, "lease", "revoke", lease) == f"lease {lease} revoked\n"
    keeper.kill()
    keeper.communicate()
    gone = run(cluster, "lease", "keep-alive", lease)
    assert (gone.returncode, gone.stdout) == (0, f"lease {lease} expired or revoked.\n")


def test_nobody_at_the_endpoint_is_told_after_the_timeout(cluster: Cluster) -> None:
    (port,) = free_ports(1)
    done = run(
        cluster, "get", "k", ETCDCTL_COMMAND_TIMEOUT="300ms", ETCDCTL_ENDPOINTS=f"127.0.0.1:{port}"
    )
    assert (done.returncode, done.stderr) == (1, "Error: context deadline exceeded\n")


def test_a_snapshot_is_saved_looked_at_and_restored(cluster: Cluster, tmp_path: Path) -> None:
    said(cluster, "put", "ctl/snap", "kept")
    file = str(tmp_path / "a.db")
    assert said(cluster, "snapshot", "save", file) == f"Snapshot saved at {file}\n"
    status = json.loads(said(cluster, "snapshot", "status", file, "-w", "json"))
    assert list(status) == ["hash", "revision", "totalKey", "totalSize"]
    assert said(cluster, "snapshot", "status", file, program=UTL).split(", ")[0] == f"{status['hash']:x}"
    of_file = said(cluster, "hashkv", file, program=UTL).split(", ")
    member = cluster.members[0].endpoint
    assert said(cluster, "endpoint", "hashkv") == f"{member}, {of_file[0]}\n"
    assert int(of_file[1]) == status["revision"]
    restored = str(tmp_path / "restored")
    for program in (CTL, UTL):
        done = run(cluster, "snapshot", "restore", file, "--data-dir", restored, program=program)
        if program is CTL:
            assert done.returncode == 0, done.stderr
            assert '"msg":"added member"' in done.stderr
        else:
            assert (done.returncode, done.stderr) == (1, f'Error: data-dir "{restored}" exists\n')
    compacted = said(cluster, "defrag", "--data-dir", restored, program=UTL)
    assert compacted == f"Finished defragmenting etcd directory[{restored}]\n"


def test_a_file_that_is_no_snapshot_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "garbage.db"
    file.write_bytes(b"no database" * 1000)
    done = run(cluster, "snapshot", "status", str(file))
    assert (done.returncode, done.stderr) == (1, "Error: invalid database\n")


def test_a_mirror_copies_what_is_there_and_what_comes(cluster: Cluster, tmp_path: Path) -> None:
    with Cluster(tmp_path / "other", token="mirror") as other:
        said(cluster, "put", "ctl/m/1", "old")
        destination = other.members[0].endpoint
        mirror = started(
            cluster, "make-mirror", "--prefix", "ctl/m/", "--dest-prefix", "copy/", destination
        )
        read = ("get", "copy/", "--prefix")
        wait_until("the old key is there", lambda: said(other, *read) == "copy/1\nold\n")
        said(cluster, "put", "ctl/m/2", "new")
        said(cluster, "del", "ctl/m/1")
        wait_until("the changes are there", lambda: said(other, *read) == "copy/2\nnew\n")
        mirror.kill()
        mirror.communicate()


def test_users_roles_and_a_password_from_a_terminal(tmp_path: Path) -> None:
    with Cluster(tmp_path, token="auth") as cluster:
        said(cluster, "user", "add", "root:secret")
        made = said(cluster, "user", "add", "ann", "--interactive=false", stdin="pw\n")
        assert made == "User ann created\n"
        said(cluster, "role", "add", "reader")
        said(cluster, "role", "grant-permission", "reader", "read", "a", "--prefix")
        assert said(cluster, "user", "grant-role", "ann", "reader") == "Role reader is granted to user ann\n"
        assert said(cluster, "auth", "enable") == "Authentication Enabled\n"
        assert run(cluster, "get", "a").stderr == "Error: etcdserver: user name is empty\n"
        assert said(cluster, "get", "a", "--user", "ann:pw") == ""
        denied = run(cluster, "put", "a", "1", "--user", "ann", "--password", "pw")
        assert (denied.returncode, denied.stderr) == (1, "Error: etcdserver: permission denied\n")
        wrong = run(cluster, "get", "a", "--user", "ann:no")
        assert wrong.returncode == 2
        assert wrong.stderr == "Error: etcdserver: authentication failed, invalid user ID or password\n"
        assert _typed(cluster, "secret\n", "user", "list", "--user", "root") == "Password: \nann\nroot\n"
        assert said(cluster, "auth", "status", "--user", "root:secret").startswith(
            "Authentication Status: true\nAuthRevision: "
        )
        assert said(cluster, "auth", "disable", "--user", "root:secret") == "Authentication Disabled\n"


def _typed(cluster: Cluster, text: str, *words: str) -> str:
    """What a command says when a password is typed at its terminal."""
    ours, theirs = pty.openpty()
    variables = environment() | {"ETCDCTL_ENDPOINTS": cluster.members[0].endpoint}
    command = [*CTL, *words]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True, env=variables) as process:
        os.close(theirs)
        assert process.stdout is not None
        prompt = process.stdout.read(len("Password: "))
        os.write(ours, text.encode())
        out = prompt + process.stdout.read()
    assert process.returncode == 0
    os.close(ours)
    return out
