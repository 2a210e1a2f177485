"""A namespace: every key gets a prefix on its way to the cluster, and loses it on its way back.

Clients of the proxy see a cluster of their own: whatever they ask for lies behind the prefix, "all keys" are
all keys behind it, and no answer names a key with it. Locks and elections are keys, too. What is about the
whole store (compaction, snapshots, hashes) or about users is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from tercet.core import rpc_errors
from tercet.core.wire.services import METHODS

from ..client.prefix import prefix_end

__all__ = ["Namespace"]

_FROM_KEY: Final = b"\0"
#: Changes one message in place.
_Change: TypeAlias = Callable[[Any], None]


class Namespace:
    """The messages of one namespace.

    Args:
        prefix: in front of all keys; not empty.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._end = prefix_end(prefix)
        add, strip = self._add, self._strip
        self._outward: Mapping[str, _Change] = {
            "/etcdserverpb.KV/Range": self._enter_range,
            "/etcdserverpb.KV/Put": self._enter_put,
            "/etcdserverpb.KV/DeleteRange": self._enter_range,
            "/etcdserverpb.KV/Txn": self._enter_txn,
            "/etcdserverpb.Watch/Watch": self._enter_watch,
            "/v3lockpb.Lock/Lock": lambda request: add(request, "name"),
            "/v3lockpb.Lock/Unlock": lambda request: add(request, "key"),
            "/v3electionpb.Election/Campaign": lambda request: add(request, "name"),
            "/v3electionpb.Election/Leader": lambda request: add(request, "name"),
            "/v3electionpb.Election/Observe": lambda request: add(request, "name"),
            "/v3electionpb.Election/Proclaim": lambda request: add(request.leader, "name", "key"),
            "/v3electionpb.Election/Resign": lambda request: add(request.leader, "name", "key"),
        }
        self._homeward: Mapping[str, _Change] = {
            "/etcdserverpb.KV/Range": self._leave_pairs,
            "/etcdserverpb.KV/Put": self._leave_put,
            "/etcdserverpb.KV/DeleteRange": self._leave_delete,
            "/etcdserverpb.KV/Txn": self._leave_txn,
            "/etcdserverpb.Watch/Watch": self._leave_watch,
            "/etcdserverpb.Lease/LeaseTimeToLive": self._leave_lease,
            "/v3lockpb.Lock/Lock": lambda answer: strip(answer, "key"),
            "/v3electionpb.Election/Campaign": lambda answer: strip(answer.leader, "name", "key"),
            "/v3electionpb.Election/Leader": lambda answer: strip(answer.kv, "key"),
            "/v3electionpb.Election/Observe": lambda answer: strip(answer.kv, "key"),
        }

    def request(self, path: str, message: bytes) -> bytes:
        """A client's request as the cluster gets it. Raises ``RpcError`` for what has no key."""
        return self._changed(self._outward.get(path), METHODS[path].request, message)

    def response(self, path: str, message: bytes) -> bytes:
        """The cluster's response as the client gets it."""
        return self._changed(self._homeward.get(path), METHODS[path].response, message)

    @staticmethod
    def _changed(change: _Change | None, kind: type[Message], message: bytes) -> bytes:
        if change is None:
            return message
        parsed = kind.FromString(message)
        change(parsed)
        return parsed.SerializeToString()

    # ---- to the cluster

    def _add(self, message: Any, *fields: str) -> None:
        for field in fields:
            setattr(message, field, self._prefix + getattr(message, field))

    def _enter_range(self, request: Any) -> None:
        if not request.key and not request.range_end:
            raise rpc_errors.EMPTY_KEY.with_traceback(None)
        self._enter_interval(request)

    def _enter_interval(self, request: Any) -> None:
        if request.range_end == _FROM_KEY:
            request.range_end = self._end
        elif request.range_end:
            self._add(request, "range_end")
        self._add(request, "key")

    def _enter_put(self, request: Any) -> None:
        if not request.key:
            raise rpc_errors.EMPTY_KEY.with_traceback(None)
        self._add(request, "key")

    def _enter_txn(self, request: Any) -> None:
        for compare in request.compare:
            self._enter_interval(compare)
        for operation in (*request.success, *request.failure):
            kind = operation.WhichOneof("request")
            if kind == "request_put":
                self._enter_put(operation.request_put)
            elif kind == "request_txn":
                self._enter_txn(operation.request_txn)
            elif kind is not None:
                self._enter_range(getattr(operation, kind))

    def _enter_watch(self, request: Any) -> None:
        if request.HasField("create_request"):
            self._enter_interval(request.create_request)

    # ---- back to the client

    def _strip(self, message: Any, *fields: str) -> None:
        for field in fields:
            setattr(message, field, getattr(message, field).removeprefix(self._prefix))

    def _leave_pairs(self, answer: Any) -> None:
        for pair in answer.kvs:
            self._strip(pair, "key")

    def _leave_put(self, answer: Any) -> None:
        if answer.HasField("prev_kv"):
            self._strip(answer.prev_kv, "key")

    def _leave_delete(self, answer: Any) -> None:
        for pair in answer.prev_kvs:
            self._strip(pair, "key")

    def _leave_txn(self, answer: Any) -> None:
        ways = {
            "response_range": self._leave_pairs,
            "response_put": self._leave_put,
            "response_delete_range": self._leave_delete,
            "response_txn": self._leave_txn,
        }
        for operation in answer.responses:
            kind = operation.WhichOneof("response")
            if kind is not None:
                ways[kind](getattr(operation, kind))

    def _leave_watch(self, answer: Any) -> None:
        for event in answer.events:
            self._strip(event.kv, "key")
            if event.HasField("prev_kv"):
                self._strip(event.prev_kv, "key")

    def _leave_lease(self, answer: Any) -> None:
        ours = [key.removeprefix(self._prefix) for key in answer.keys if key.startswith(self._prefix)]
        del answer.keys[:]
        answer.keys.extend(ours)
