"""The server half against the ``h2`` package as client: any interleaving, cutting, window and padding."""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.core.wire.grpc import MessageReader, frame_message
from tercet.core.wire.http2 import ServerConnection
from tercet.core.wire.http2_limits import Http2Limits
from tercet.core.wire.http2_streams import (
    HalfClosed,
    MessageReceived,
    StreamOpened,
    StreamReset,
    UnaryRequest,
)

from .http2_tools import PUT, ROUTES, WATCH, fields


@dataclass
class Call:
    """One call of the client and what is left to send of it."""

    streaming: bool
    messages: list[bytes]
    answers: list[bytes]  # what the server shall answer; a unary call's first one
    code: int
    data: bytes = b""
    small_cuts: int = 4
    headers: list[tuple[str, str]] = field(default_factory=list)
    started: bool = False
    received: bytes = b""
    status: dict[str, str] = field(default_factory=dict)
    ended: bool = False


_MESSAGE = st.builds(
    lambda size, fill: bytes([fill]) * size,
    st.sampled_from([0, 1, 11, 500, 20_000]),
    st.integers(0, 255),
)
_CALL = st.builds(
    lambda streaming, messages, answers, code: Call(
        streaming, messages if streaming else messages[:1], answers if streaming else answers[:1], code
    ),
    st.booleans(),
    st.lists(_MESSAGE, min_size=1, max_size=3),
    st.lists(_MESSAGE, min_size=1, max_size=3),
    st.sampled_from([0, 0, 0, 5, 14]),
)


class Harness:
    """Both ends, with the bytes between them cut at will."""

    def __init__(self, calls: list[Call], choose: st.DataObject, window: int, table: int) -> None:
        self.draw = choose.draw
        self.server = ServerConnection(Http2Limits(), ROUTES, [])
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.client.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window,
                h2.settings.SettingCodes.HEADER_TABLE_SIZE: table,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self.client.initiate_connection()
        self.calls = {2 * number + 1: call for number, call in enumerate(calls)}
        self.waiting: list[UnaryRequest] = []
        self.now = 0.0
        self.got: dict[int, list[bytes]] = {}

    def start(self, stream_id: int, call: Call) -> None:
        more = [("grpc-timeout", f"{stream_id}S"), ("token", "x" * (stream_id * 40))]
        self.client.send_headers(stream_id, fields(WATCH if call.streaming else PUT, *more))
        call.data = b"".join(map(frame_message, call.messages))
        call.started = True

    def push_data(self, stream_id: int, call: Call) -> bool:
        room = min(self.client.local_flow_control_window(stream_id), self.client.max_outbound_frame_size)
        padding = self.draw(st.sampled_from([None, 0, 9]))
        room -= 0 if padding is None else padding + 1
        if room <= 0:
            return False
        size = room
        if call.small_cuts:
            size = min(room, self.draw(st.sampled_from([1, 6, 4000, room])))
            call.small_cuts -= 1
        chunk, call.data = call.data[:size], call.data[size:]
        self.client.send_data(stream_id, chunk, end_stream=not call.data, pad_length=padding)
        return True

    def to_server(self) -> None:
        data = self.client.data_to_send()
        cut = self.draw(st.integers(0, min(len(data), 40)))
        for part in (data[:cut], data[cut:]):
            self.now += 0.001
            for event in self.server.receive(part, self.now):
                if isinstance(event, UnaryRequest):
                    self.got[event.stream_id] = [event.message]
                    self.waiting.append(event)
                elif isinstance(event, StreamOpened):
                    self.got[event.stream.stream_id] = []
                elif isinstance(event, MessageReceived):
                    self.got[event.stream.stream_id].append(event.message)
                    self.server.consumed(event.stream, event.message)
                elif isinstance(event, HalfClosed):
                    call = self.calls[event.stream.stream_id]
                    for answer in call.answers:
                        self.server.send_message(event.stream, answer)
                    self.server.finish(event.stream, call.code, "told so: 50 %" if call.code else "")
                else:
                    assert not isinstance(event, StreamReset)

    def answer(self) -> None:
        while self.waiting:
            index = self.draw(st.integers(0, len(self.waiting) - 1))
            request = self.waiting.pop(index)
            call = self.calls[request.stream_id]
            if call.code:
                request.fail(call.code, "told so: 50 %")
            else:
                request.reply(call.answers[0])

    def to_client(self) -> None:
        data = self.server.take_output()
        cut = self.draw(st.integers(0, min(len(data), 40)))
        for part in (data[:cut], data[cut:]):
            for event in self.client.receive_data(part):
                self.client_event(event)

    def client_event(self, event: h2.events.Event) -> None:
        assert not isinstance(event, h2.events.ConnectionTerminated)
        if isinstance(event, h2.events.DataReceived):
            self.calls[event.stream_id].received += event.data
            if event.flow_controlled_length:
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            named = {bytes(k).decode(): bytes(v).decode() for k, v in event.headers}
            self.calls[event.stream_id].status.update(named)
        elif isinstance(event, h2.events.StreamEnded):
            self.calls[event.stream_id].ended = True

    def run(self) -> None:
        for _ in range(150):
            moves = [i for i, c in self.calls.items() if not c.started or c.data]
            if moves:
                # h2 wants streams opened in order: the first that has not started may start
                first = next((i for i in moves if not self.calls[i].started), None)
                ready = [i for i in moves if self.calls[i].started or i == first]
                stream_id = self.draw(st.sampled_from(ready))
                call = self.calls[stream_id]
                if not call.started:
                    self.start(stream_id, call)
                else:
                    self.push_data(stream_id, call)
            self.to_server()
            if not moves or self.draw(st.booleans()):
                self.answer()
            self.to_client()
            if all(call.ended for call in self.calls.values()):
                return
        raise AssertionError("the calls did not end")


@given(
    st.lists(_CALL, min_size=1, max_size=4),
    st.sampled_from([3000, 65535, 1 << 20]),
    st.sampled_from([0, 100, 4096]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_every_call_is_answered_as_its_handler_said(
    calls: list[Call], window: int, table: int, choose: st.DataObject
) -> None:
    harness = Harness(calls, choose, window, table)
    harness.run()
    for stream_id, call in harness.calls.items():
        assert harness.got[stream_id] == call.messages
        assert call.status["grpc-status"] == str(call.code)
        assert call.status.get("grpc-message", "") == ("told so: 50 %25" if call.code else "")
        expected = [] if call.code and not call.streaming else call.answers
        assert MessageReader(1 << 20, "").feed(call.received) == expected
    assert not harness.server.streams
    assert harness.server.queued_bytes == 0
