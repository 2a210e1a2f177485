"""Histories survive the way to disk and back, and readers name the line they cannot read."""

import pytest

from tercet.jepsen_like.history import (
    History,
    Kv,
    Operation,
    Watch,
    WatchBatch,
    WatchEvent,
    decode_lines,
    encode_lines,
)
from tercet.jepsen_like.readers import detect, read_history
from tercet.jepsen_like.synthetic import etcd_history


def test_a_history_survives_the_way_to_disk_and_back() -> None:
    watch = Watch(1, "a", 5, batches=(WatchBatch(9, 3, (WatchEvent("put", Kv("a", "1", 2, 3, 2)),)),))
    plain = etcd_history(200, seed=4, lost=0.1)
    history = History(plain.operations, (watch,), plain.header)
    assert decode_lines(encode_lines(history)) == history


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"type":"op","process":1,"f":"put","invoke":5,"outcome":"ok"}', "need a return time"),
        (
            b'{"type":"op","process":1,"f":"put","invoke":5,"returned":5,"outcome":"ok"}',
            "need invoke < returned",
        ),
        (b'{"type":"op","process":1}', "line 2"),
        (b'{"type":"nonsense"}', "line 2"),
        (b"{", "line 2"),
    ],
)
def test_a_wrong_line_is_named(line: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        decode_lines(b'{"type":"history"}\n' + line + b"\n")


def test_a_jepsen_log_reads_as_a_cas_register() -> None:
    log = (
        "INFO  jepsen.util - 0\t:invoke\t:write\t3\n"
        "INFO  jepsen.core - something else\n"
        "INFO  jepsen.util - 1\t:invoke\t:cas\t[3 4]\n"
        "INFO  jepsen.util - 0\t:ok\t:write\t3\n"
        "INFO  jepsen.util - 1\t:fail\t:cas\t[3 4]\n"
        "INFO  jepsen.util - 2\t:invoke\t:read\tnil\n"
        "INFO  jepsen.util - 2\t:info\t:read\t:timed-out\n"
    )
    history = read_history(log.encode())
    assert history.header.model == "cas-register"
    write, cas, read = history.operations
    assert (write.value, write.outcome, write.invoke, write.returned) == (3, "ok", 0, 2)
    assert (cas.value, cas.outcome, cas.result) == ((3, 4), "ok", False)
    assert (read.outcome, read.returned, read.error) == ("info", None, "timed-out")


def test_edn_maps_read_as_a_key_value_store() -> None:
    text = (
        '{:process 0, :type :invoke, :f :put, :key "a", :value "x \\"y\\""}\n'
        '{:process 0, :type :ok, :f :put, :key "a", :value "x \\"y\\""}\n'
        '{:process 1, :type :invoke, :f :get, :key "a", :value nil}\n'
    )
    put, get = read_history(text.encode()).operations
    assert put == Operation(0, "put", 0, 1, "ok", key="a", value='x "y"')
    assert (get.outcome, get.value) == ("info", None)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"INFO  jepsen.util - 0\t:ok\t:read\tnil",
        b"INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:invoke\t:read\tnil",
        b"INFO  jepsen.util - 0\t:invoke\t:write\tten",
        b"{:process 0, :type :wrong, :f :get}",
        b"{:process 0}",
    ],
)
def test_what_is_no_history_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_history(text)


def test_the_format_is_found_by_the_first_line() -> None:
    assert detect(b"\n\nINFO  jepsen.util - 0") == "jepsen"
    assert detect(b'{:process 0, :type :ok, :f :get, :key "1"}') == "edn"
    assert detect(b'{"type":"history"}') == "tercet"
