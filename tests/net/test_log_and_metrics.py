"""Log lines and metrics: what a scrape and a reader see."""

from __future__ import annotations

import json

import pytest

from tercet.net.log import JsonLog
from tercet.net.metrics import Metrics, Sample
from tercet.net.real import real_world


def logged(level: str, *calls: tuple[str, str, dict[str, object]]) -> list[dict[str, object]]:
    lines: list[str] = []
    log = JsonLog(lines.append, lambda: 1_700_000_000.25, level)
    for call in calls:
        log.log(*call)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


def test_a_line_has_the_shape_of_etcds() -> None:
    (line,) = logged("info", ("info", "ready", {"address": "127.0.0.1:2379", "count": 3}))
    assert list(line.items()) == [
        ("level", "info"),
        ("ts", "2023-11-14T22:13:20.250Z"),
        ("msg", "ready"),
        ("address", "127.0.0.1:2379"),
        ("count", 3),
    ]


def test_lines_below_the_level_are_not_written() -> None:
    lines = logged("warn", ("debug", "m", {}), ("info", "m", {}), ("warn", "m", {}), ("error", "m", {}))
    assert [line["level"] for line in lines] == ["warn", "error"]


def test_any_value_can_be_logged() -> None:
    values: dict[str, object] = {
        "text": b"plain", "raw": b"\x00\xff", "error": ValueError("bad"), "deep": {"a": [b"x", (1, None)]},
        "other": object, "msg": "clash", "line": "a\nb",
    }  # fmt: skip
    (line,) = logged("debug", ("error", "m", values))
    assert line["text"] == "plain"
    assert line["raw"] == "00ff"
    assert line["error"] == "ValueError: bad"
    assert line["deep"] == {"a": ["x", [1, None]]}
    assert (line["msg"], line["msg_"], line["line"]) == ("m", "clash", "a\nb")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match='unrecognized level: "loud"'):
        JsonLog(lambda _: None, lambda: 0.0, "loud")


def test_a_scrape_shows_counters_gauges_histograms_and_sources() -> None:
    metrics = Metrics()
    metrics.count("etcd_network_peer_sent_bytes_total", 5, {"To": "a1"})
    metrics.count("etcd_network_peer_sent_bytes_total", 2, {"To": "a1"})
    metrics.count("of_our_own")
    metrics.gauge("etcd_server_has_leader", 1)
    for value in (0.0005, 0.003, 100.0):
        metrics.observe("etcd_disk_wal_fsync_duration_seconds", value)
    metrics.add_source(lambda: [Sample("etcd_server_proposals_applied_total", 42.0)])
    lines = metrics.render().decode().splitlines()
    assert {
        'etcd_network_peer_sent_bytes_total{To="a1"} 7.0',
        "# TYPE etcd_network_peer_sent_bytes_total counter",
        "of_our_own_total 1.0",
        "etcd_server_has_leader 1.0",
        "# TYPE etcd_server_proposals_applied_total gauge",
        "etcd_server_proposals_applied_total 42.0",
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 1.0',
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"} 2.0',
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 3.0',
        "etcd_disk_wal_fsync_duration_seconds_count 3.0",
        "etcd_disk_wal_fsync_duration_seconds_sum 100.0035",
    } <= set(lines)
    assert metrics.value("etcd_network_peer_sent_bytes_total", To="a1") == 7
    assert metrics.value("never") == 0


def test_a_line_of_a_real_member_says_where_it_was_written() -> None:
    lines: list[str] = []
    for log_format in ("json", "console"):
        probe = real_world("m", log_format=log_format, write_log=lines.append).probe
        probe.log("info", "hello", caller="mine")
    first = json.loads(lines[0])
    assert list(first) == ["level", "ts", "caller", "msg", "caller_"]
    module, _, line = first["caller"].rpartition(":")
    assert (module, line.isdecimal()) == (__name__, True)
    assert lines[1].split("\t")[1:4] == ["info", f"{__name__}:{line}", "hello"]


def test_what_was_gathered_is_one_moment_whatever_is_counted_while_it_is_written() -> None:
    metrics = Metrics()
    metrics.count("of_our_own")
    metrics.observe("etcd_disk_wal_fsync_duration_seconds", 0.003)
    gathered = metrics.gather()
    metrics.count("of_our_own")
    metrics.observe("etcd_disk_wal_fsync_duration_seconds", 0.003)
    then, now = (metrics.render(one).decode().splitlines() for one in (gathered, None))
    assert {"of_our_own_total 1.0", "etcd_disk_wal_fsync_duration_seconds_count 1.0"} <= set(then)
    assert {"of_our_own_total 2.0", "etcd_disk_wal_fsync_duration_seconds_count 2.0"} <= set(now)
