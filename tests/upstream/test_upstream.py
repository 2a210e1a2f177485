"""A representative part of etcd's own end-to-end suite; ``suite.py`` runs all of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from ..conftest import missing_program
from .suite import PACKAGES, SOURCES, Suite, expected_failures

#: One of each family: key-value, TLS, auth, tokens, leases, membership, maintenance, watches, peers, gateway,
#: metrics, JSON.
OUR_SERVER = (
    "TestCtlV3PutClientTLS", "TestCtlV3AuthCertCN", "TestCtlV3AuthLeaseGrantLeasesJWT",
    "TestCtlV3LeaseKeepAlivePeerTLS", "TestCtlV3MemberRemove", "TestCtlV3Snapshot",
    "TestCtlV3WatchInteractive", "TestEtcdPeerCNAuth", "TestEtcdUnixPeers", "TestGateway",
    "TestV3MetricsSecure", "TestV3CurlTxn",
)  # fmt: skip
#: What tercetctl is tried with, at our server.
OUR_CTL = (
    "TestCtlV3AuthLeaseRevoke", "TestCtlV3GetFormat", "TestCtlV3TxnInteractiveSuccess",
    "TestCtlV3SnapshotStatusBeforeRestore", "TestCtlV3MemberUpdate",
)  # fmt: skip


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> Iterator[Suite]:
    """The suite, compiled, pointed at our server."""
    if shutil.which("go") is None or not SOURCES.is_dir():
        missing_program(f"etcd's suite needs Debian's packages {PACKAGES}; `make test` says how to get them")
    with Suite(ctl=request.param) as found:
        yield found


@pytest.mark.needs("etcd", "etcdctl", "unshare")
@pytest.mark.parametrize(
    ("suite", "test"),
    [("real", test) for test in OUR_SERVER] + [("ours", test) for test in OUR_CTL],
    indirect=["suite"],
    scope="module",
)
def test_etcds_own_test_passes(suite: Suite, test: str) -> None:
    outcome = suite.run(test)
    assert outcome.verdict == "pass", outcome.output


@pytest.mark.needs("etcd", "etcdctl", "unshare")
@pytest.mark.parametrize("suite", ["real"], indirect=True, scope="module")
def test_every_expected_failure_is_a_test_of_the_suite_and_has_a_reason(suite: Suite) -> None:
    reasons = expected_failures(ctl="ours")
    assert [name for name in reasons if name not in suite.names()] == []
    assert all(len(reason) > 20 for reason in reasons.values())
