"""The client's half of HTTP/2 against the ``h2`` library as a server, and against hostile bytes."""

from __future__ import annotations

import random
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.core.wire.http2_frames import FRAME, reset_frame, settings_frame, window_frame
from tercet.net.client.framing import CONNECTION_WINDOW, STREAM_WINDOW, ClientFraming, FramingError

PATH = "/etcdserverpb.KV/Put"


class Server:
    """An ``h2`` server that echoes every stream it has read to its end, in trailers and all."""

    def __init__(self, window: int, frame_bytes: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: frame_bytes,
            },
        )
        self.h2.max_inbound_frame_size = self.h2.incoming_buffer.max_frame_size = frame_bytes
        self.h2.initiate_connection()
        self.received: dict[int, bytearray] = {}
        self.headers: dict[int, list[Any]] = {}
        self.unsent: dict[int, bytes] = {}

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.headers[event.stream_id] = event.headers
                self.received[event.stream_id] = bytearray()
            elif isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream_id = event.stream_id
                self.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                self.unsent[stream_id] = bytes(self.received[stream_id])
        self.pump()

    def pump(self) -> None:
        for stream_id, data in list(self.unsent.items()):
            while data:
                room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                if room <= 0:
                    break
                padding = 3 if room > 600 and len(data) < 300 else None
                self.h2.send_data(stream_id, data[:room], pad_length=padding)
                data = data[room:]
            self.unsent[stream_id] = data
            if not data:
                del self.unsent[stream_id]
                trailers = [("grpc-status", "0"), ("grpc-message", f"stream {stream_id}")]
                self.h2.send_headers(stream_id, trailers, end_stream=True)


class Client:
    """Sends whole requests through the framing, and keeps what comes back by stream."""

    def __init__(self) -> None:
        self.framing = ClientFraming("host:1")
        self.waiting: dict[int, bytes] = {}
        self.data: dict[int, bytearray] = {}
        self.fields: dict[int, list[Any]] = {}
        self.ended: list[int] = []

    def request(self, payload: bytes) -> int:
        stream_id = self.framing.open(PATH, (("hasleader", "true"),))
        assert stream_id
        self.data[stream_id] = bytearray()
        self.fields[stream_id] = []
        self.waiting[stream_id] = payload
        self.push(stream_id)
        return stream_id

    def push(self, stream_id: int) -> None:
        payload = self.waiting[stream_id]
        taken = self.framing.send(stream_id, payload, True)
        if taken == len(payload):
            del self.waiting[stream_id]
        else:
            self.waiting[stream_id] = payload[taken:]

    def receive(self, data: bytes) -> None:
        for kind, stream_id, value in self.framing.receive(data):
            if kind == "data":
                assert isinstance(value, bytes)
                self.data[stream_id] += value
            elif kind == "headers":
                assert isinstance(value, list)
                self.fields[stream_id] += value
            elif kind == "end":
                self.ended.append(stream_id)
            elif kind == "room":
                for waiting in [stream_id] if stream_id in self.waiting else list(self.waiting):
                    self.push(waiting)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 5, 200, 16384, 70_000, 300_000]), min_size=1, max_size=5),
    window=st.sampled_from([0, 1000, 65535, 1 << 20]),
    frame_bytes=st.sampled_from([16384, 1 << 17]),
    cut=st.sampled_from([1 << 20, 5000, 777]),
)
def test_every_request_is_echoed_whole_whatever_the_windows(
    sizes: list[int], window: int, frame_bytes: int, cut: int
) -> None:
    server, client = Server(window, frame_bytes), Client()
    client.receive(server.h2.data_to_send())
    payloads = {client.request(bytes([number]) * size): size for number, size in enumerate(sizes)}
    for turn in range(2000):
        outgoing = client.framing.take_output()
        for start in range(0, len(outgoing), cut):
            server.receive(outgoing[start : start + cut])
        if window == 0 and turn == 0:  # the server opens its windows later
            server.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
        server.pump()
        incoming = server.h2.data_to_send()
        for start in range(0, len(incoming), cut):
            client.receive(incoming[start : start + cut])
        if not outgoing and not incoming:
            break
    assert sorted(client.ended) == sorted(payloads)
    for stream_id, size in payloads.items():
        assert len(client.data[stream_id]) == size
        assert client.fields[stream_id][-1] == (b"grpc-message", b"stream %d" % stream_id)
        assert (b":path", PATH.encode()) in server.headers[stream_id]
        assert (b"hasleader", b"true") in server.headers[stream_id]


def answered() -> bytes:
    """A valid session of the server's, to be damaged."""
    server, client = Server(65535, 16384), Client()
    for size in (5, 300):
        client.request(bytes(size))
    server.receive(client.framing.take_output())
    server.h2.ping(b"12345678")
    return server.h2.data_to_send()


def test_damaged_sessions_raise_nothing_but_a_framing_error() -> None:
    valid, chance = answered(), random.Random(5)
    broken = 0
    for _ in range(3000):
        data = bytearray(valid)
        for _ in range(chance.randint(1, 5)):
            spot = chance.randrange(len(data))
            if chance.random() < 0.5:
                data[spot] = chance.randrange(256)
            else:
                del data[spot : spot + chance.randint(1, 9)]
        client = Client()
        for size in (5, 300):
            client.request(bytes(size))
        try:
            client.receive(bytes(data))
        except FramingError:
            broken += 1
    assert broken > 300


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return FRAME.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream_id) + payload


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(0, 0, 1, bytes(16385)), "at most 16384"),
        (frame(1, 0, 1, b"") + frame(0, 0, 1, b""), "interrupted"),
        (frame(9, 4, 1, b""), "without its HEADERS"),
        (frame(1, 0, 1, bytes(16000)) + frame(9, 0, 1, bytes(16000)) * 4, "too long"),
        (frame(1, 4, 1, b"\xff\xff\xff"), "ends within"),
        (frame(6, 0, 0, b"short"), "eight bytes"),
        (frame(3, 0, 1, b""), "four bytes"),
        (frame(7, 0, 0, b""), "eight bytes"),
        (frame(5, 0, 1, b""), "pushes"),
        (frame(4, 0, 0, b"12345"), "six bytes"),
        (settings_frame(((4, 1 << 31),)), "initial window"),
        (settings_frame(((5, 1),)), "frame size"),
        (window_frame(0, 0), "open the window"),
        (frame(0, 8, 1, b"\xff12"), "more padding"),
        (frame(0, 0, 1, bytes(16384)) * (CONNECTION_WINDOW // 16384 + 1), "beyond the connection's window"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_told_apart(data: bytes, reason: str) -> None:
    client = Client()
    client.request(b"x")
    with pytest.raises(FramingError, match=reason):
        client.framing.receive(data)


def test_windows_are_given_back_before_they_close() -> None:
    client = Client()
    stream_id = client.request(b"x")
    client.framing.take_output()
    sent = given_back = 0
    for _ in range(3 * STREAM_WINDOW // 16384):
        client.receive(frame(0, 0, stream_id, bytes(16384)))
        sent += 16384
        output = client.framing.take_output()
        if output:
            assert output == window_frame(stream_id, int.from_bytes(output[9:13], "big"))
            given_back += int.from_bytes(output[9:13], "big")
        assert sent - given_back < STREAM_WINDOW // 2


def test_resets_and_goaway_are_told_and_later_frames_of_the_stream_ignored() -> None:
    client = Client()
    first, second = client.request(b"x"), client.request(b"y")
    events = client.framing.receive(reset_frame(first, 7) + frame(0, 0, first, b"late"))
    assert events == [("reset", first, 7)]
    goaway = frame(7, 0, 0, second.to_bytes(4, "big") + bytes(4))
    assert client.framing.receive(goaway) == [("goaway", second, None)]


def test_no_more_streams_are_opened_than_the_server_takes() -> None:
    client = Client()
    client.receive(settings_frame(((3, 2),)))
    assert [client.framing.open(PATH, ()) for _ in range(3)] == [1, 3, 0]
    client.framing.reset(1, 8)
    assert client.framing.open(PATH, ()) == 5
