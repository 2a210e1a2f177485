"""A rolling change of version: a cluster of 3.5 goes down to 3.4 and up again, one member after the other."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

from .processes import PATIENCE, Cluster, Member, wait_until


def ask(member: Member, body: str) -> str:
    """What the gateway answers, errors included."""
    request = urllib.request.Request(
        f"http://{member.endpoint}/v3/maintenance/downgrade", data=body.encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def report(member: Member, version: str) -> None:
    """Start the member again as one of another version."""
    if member.running():
        assert member.stop(signal.SIGTERM) == 0
    member.arguments = [*member.arguments[:-1], version]
    member.start()


def test_the_cluster_goes_down_by_a_minor_version_and_up_again(tmp_path: Path) -> None:
    flags = ("--downgrade-check-time", "200ms", "--reported-version", "3.5.9")
    with Cluster(tmp_path, 3, flags=flags) as cluster:
        first = cluster.members[0]

        def version() -> str:
            found = first.http("/version")
            return "" if found is None else str(found["etcdcluster"])

        wait_until("the version is decided", lambda: version() == "3.5.0")
        assert '"version":"3.5.0"' in ask(first, '{"action":"VALIDATE","version":"3.4.0"}')
        assert "invalid downgrade target version" in ask(first, '{"action":"ENABLE","version":"3.3.0"}')
        assert '"version":"3.5.0"' in ask(first, '{"action":"ENABLE","version":"3.4.0"}')
        assert "has a downgrade job in progress" in ask(first, '{"action":"ENABLE","version":"3.4.0"}')
        for member in cluster.members:
            assert version() == "3.5.0"
            report(member, "3.4.35")
            cluster.wait_healthy()
        wait_until("the cluster has gone down", lambda: version() == "3.4.0")
        done = "the cluster has been downgraded"
        wait_until("the job is done", lambda: any(done in member.log for member in cluster.members))
        for member in cluster.members:
            report(member, "3.5.9")
            cluster.wait_healthy()
        wait_until("the cluster has come up again", lambda: version() == "3.5.0")
        assert "no inflight downgrade job" in ask(first, '{"action":"CANCEL"}')
