"""The names of a member's metrics against those of a real etcd that was used in the same way."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest

from .processes import PATIENCE, Cluster, wait_until

pytestmark = pytest.mark.needs("etcd", "etcdctl")
OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"


def scrape(folder: Path, program: str, size: int) -> str:
    """What a cluster's first member tells after a bit of everything; of several members one is lost."""
    cluster = Cluster(folder, size, flags=("--snapshot-count", "50"))
    if program == "etcd":
        for member in cluster.members:
            member.program = ["etcd"]
    with cluster:
        first = cluster.members[0]

        def page() -> str:
            with urllib.request.urlopen(f"http://{first.endpoint}/metrics", timeout=PATIENCE) as response:
                return str(response.read().decode())

        cluster.etcdctl("put", "a", "1")
        cluster.etcdctl("get", "a")
        cluster.etcdctl("txn", stdin='mod("a") > "0"\n\nput b 2\nput c 3\n\n\n\n')
        lease = cluster.etcdctl("lease", "grant", "100").split()[1]
        cluster.etcdctl("lease", "keep-alive", "--once", lease)
        cluster.etcdctl("compaction", "2")
        cluster.etcdctl("endpoint", "hashkv")
        cluster.etcdctl("defrag")
        if size > 1:
            cluster.members[-1].stop()
            wait_until("a lost peer is counted", lambda: "\netcd_network_disconnected_peers_total{" in page())
        return page()


def kinds_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def labels_of(text: str) -> dict[str, set[str]]:
    """The label names of each time series, by its name."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^([a-zA-Z_:]+)(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'([a-zA-Z_]+)="', labels))
    return found


def test_every_name_of_etcds_metrics_is_there_or_listed_with_its_reason(tmp_path: Path) -> None:
    real, ours = scrape(tmp_path / "real", "etcd", 3), scrape(tmp_path / "ours", "tercet", 3)
    listed = set(re.findall(r"^\| `((?:etcd|go)_\w+)` \| .+ \|$", OPERATIONS.read_text(), re.MULTILINE))
    theirs, here = kinds_of(real), kinds_of(ours)
    assert set(theirs) - set(here) == listed & set(theirs)
    assert listed <= set(theirs)
    assert not listed & set(here)
    assert {name: kind for name, kind in here.items() if theirs.get(name, kind) != kind} == {}
    their_labels, our_labels = labels_of(real), labels_of(ours)
    differ = {
        name: (their_labels[name], found) for name, found in our_labels.items()
        if name in their_labels and their_labels[name] != found
    }  # fmt: skip
    assert differ == {}


def test_what_has_happened_is_told_as_etcd_tells_it(tmp_path: Path) -> None:
    """Names alone would be easy: each of these has to have counted."""
    text = scrape(tmp_path, "tercet", 1)
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines() if line and not line.startswith("#")
    }  # fmt: skip
    kv = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    assert values[f"grpc_server_msg_received_total{{{kv}}}"] == 1
    assert values[f"grpc_server_msg_sent_total{{{kv}}}"] == 1
    assert values[f'grpc_server_handled_total{{grpc_code="OK",{kv}}}'] == 1
    assert values["etcd_debugging_lease_ttl_total_count"] == 1
    assert values["etcd_debugging_lease_ttl_total_sum"] == 100
    assert values["etcd_debugging_auth_revision"] == 1
    assert values["etcd_mvcc_hash_rev_duration_seconds_count"] == 1
    assert values["etcd_disk_backend_defrag_duration_seconds_count"] == 1
    assert values["etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count"] == 1
    assert values["etcd_mvcc_db_open_read_transactions"] >= 1
    assert values["go_goroutines"] > 10
    assert values["go_memstats_alloc_bytes"] > 1 << 20
    assert sum(v for k, v in values.items() if k.startswith("etcd_server_client_requests_total{")) >= 6
