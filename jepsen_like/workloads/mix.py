"""Clients that read and write a few keys, one call at a time each, with values that occur once.

A ``Profile`` says how often each kind of call is made; the named ones in ``PROFILES`` are what campaigns
choose from. Few keys make conflicts likely; unique values make a lost, stale or doubled write visible. Some
clients keep watches open beside their calls: what they are told is checked, and it is evidence for the
calls whose answers were lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from tercet.core import rpc_errors
from tercet.sim.operator import USER, logged_in

from ..history import Answer, Comparison, Header, History, Operation, Request, Txn
from .calls import perform
from .leases import hold_leases
from .recorder import Recorder
from .room import make_room
from .watching import follow

if TYPE_CHECKING:
    from tercet.net.client import Client
    from tercet.sim.run import Setting

__all__ = ["PROFILES", "Profile", "Workload"]

PREFIX: Final = "k/"
PREFIX_END: Final = "k0"
CHECKPOINT_SECONDS: Final = 0.5
_LONG: Final = 0.06  # so many values are long


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How clients behave. ``weights`` are relative; ``pause_ms`` is the longest pause between two calls."""

    weights: Mapping[str, int]
    keys: int = 4
    pause_ms: int = 60
    watchers: int = 2  # so many clients also watch
    request_seconds: float = 5.0
    leases: bool = False  # hold leases instead of making the calls
    ttls: tuple[int, int] = (2, 4)  # of leases, seconds: from, below
    options: Mapping[str, int | bool | float] = {}  # fields of ``MemberConfig``


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "mix": Profile(
            weights={
                "put": 30, "put-prev": 5, "get": 25, "stale-get": 8, "range": 6, "past-get": 4, "delete": 6,
                "delete-range": 1, "cas": 10, "swap": 5,
            }
        ),
        "register": Profile(weights={"put": 50, "get": 50}, keys=2, watchers=0),
        "txn": Profile(weights={"cas": 50, "swap": 20, "get": 20, "delete": 10}, keys=3, watchers=1),
        "append": Profile(weights={"append": 60, "get": 40}, keys=2, watchers=1),
        "lease": Profile(weights={}, leases=True, request_seconds=1.5),
        "checkpoint": Profile(
            weights={},
            leases=True,
            ttls=(12, 13),
            request_seconds=1.5,
            options={"enable_lease_checkpoint": True, "lease_checkpoint_interval": CHECKPOINT_SECONDS},
        ),
        "watch": Profile(
            weights={"put": 60, "delete": 15, "delete-range": 3, "swap": 12, "get": 10}, watchers=5
        ),
        "quota": Profile(
            weights={"put": 60, "swap": 10, "get": 20, "past-get": 5, "delete": 5},
            watchers=1,
            options={"quota_backend_bytes": 48 << 10},
        ),
    }
)  # fmt: skip


class Workload:
    """One run's clients and their record; what ``sim.run`` calls an experiment.

    Args:
        seed: goes into the history's header; the clients draw from their own worlds.
        profile: how they behave.
        fast_clocks: see ``history.Header``.
    """

    def __init__(self, seed: int, profile: Profile, *, fast_clocks: float = 0.0) -> None:
        self.profile = profile
        self.recorder = Recorder(Header(model="etcd", seed=seed, fast_clocks=fast_clocks))

    @property
    def operations(self) -> int:
        """How many operations were asked so far."""
        return self.recorder.asked

    def history(self) -> History:
        """What was recorded."""
        return self.recorder.history()

    async def client(self, setting: Setting) -> None:
        """Be one client until ``setting.stop``, and finish the call that is open then."""
        async with (
            setting.client(request_timeout=self.profile.request_seconds, login=USER) as client,
            trio.open_nursery() as nursery,
        ):
            if setting.number < self.profile.watchers:
                nursery.start_soon(self._watch, setting)
            nursery.start_soon(self._notice_healing, setting)
            if self.profile.leases:
                await hold_leases(self.recorder, setting, client, PREFIX, PREFIX_END, self.profile.ttls)
            else:
                await _Caller(self, setting, client).run()
            nursery.cancel_scope.cancel()

    async def _notice_healing(self, setting: Setting) -> None:
        await setting.stop.wait()
        self.recorder.healed(setting.now())

    async def _watch(self, setting: Setting) -> None:
        draw = setting.world.rng.stream("watch")
        async with setting.client(login=USER) as client:
            await follow(client, self.recorder, setting, PREFIX, PREFIX_END, draw)


class _Caller:
    """One process: draws a call, makes it, remembers what it saw, pauses."""

    def __init__(self, workload: Workload, setting: Setting, client: Client) -> None:
        self.recorder, self.setting, self.client = workload.recorder, setting, client
        self.profile = workload.profile
        self.draw = setting.world.rng.stream("calls")
        self.keys = [f"{PREFIX}{number}" for number in range(self.profile.keys)]
        self.kinds = list(self.profile.weights)
        self.weights = list(self.profile.weights.values())
        self.serial = 0
        self.revision = 0  # the newest this process has seen
        self.seen: dict[str, tuple[str, int]] = {}  # key -> value, mod_revision as last seen

    async def run(self) -> None:
        setting = self.setting
        while not setting.stop.is_set():
            kind = self.draw.choices(self.kinds, self.weights)[0]
            asked = self._ask(kind, self.draw.choice(self.keys))
            action = partial(logged_in, self.client, partial(perform, self.client, asked))
            answer = await self.recorder.call(asked, action, setting.now)
            if isinstance(answer, Answer):
                self._learn(asked, answer)
            elif self.recorder.last_error == rpc_errors.NO_SPACE.message:
                await make_room(setting, self.recorder)
            await setting.world.clock.sleep(self.draw.randrange(1, self.profile.pause_ms + 1) / 1000)

    def _value(self) -> str:
        """One that occurs once; long now and then, so that members do not hold all of them in memory."""
        self.serial += 1
        padding = "x" * self.draw.randrange(200, 2000) if self.draw.random() < _LONG else ""
        return f"{self.setting.number}.{self.serial}{padding}"

    def _ask(self, kind: str, key: str) -> Operation:
        return _ASK[kind](self, Operation(self.setting.number, kind, 0, key=key))

    def _learn(self, asked: Operation, answer: Answer) -> None:
        self.revision = max(self.revision, answer.revision)
        if asked.at:
            return
        for kv in (*answer.kvs, *(kv for part in answer.answers for kv in part.kvs)):
            known = self.seen.get(kv.key)
            if known is None or known[1] < kv.mod_revision:
                self.seen[kv.key] = (kv.value, kv.mod_revision)
        if asked.f == "put":
            self.seen[asked.key] = (str(asked.value), answer.revision)
        elif asked.f == "txn" and answer.succeeded and isinstance(asked.value, Txn):
            for request in asked.value.then:
                if request.f == "put":
                    self.seen[request.key] = (request.value, answer.revision)


_Maker = Callable[[_Caller, Operation], Operation]
_with = msgspec.structs.replace


def _put(caller: _Caller, asked: Operation) -> Operation:
    return _with(asked, f="put", value=caller._value(), prev_kv=asked.f == "put-prev")


def _get(caller: _Caller, asked: Operation) -> Operation:
    return _with(asked, f="get", serializable=asked.f == "stale-get")


def _range(caller: _Caller, asked: Operation) -> Operation:
    return _with(asked, f="get", key=PREFIX, range_end=PREFIX_END, serializable=caller.draw.random() < 0.3)


def _past_get(caller: _Caller, asked: Operation) -> Operation:
    return _with(
        asked, f="get", at=max(caller.revision - caller.draw.randrange(20), 2) if caller.revision else 0
    )


def _delete(caller: _Caller, asked: Operation) -> Operation:
    if asked.f == "delete-range":
        return _with(asked, f="delete", key=PREFIX, range_end=PREFIX_END, prev_kv=True)
    return _with(asked, f="delete", prev_kv=caller.draw.random() < 0.5)


def _cas(caller: _Caller, asked: Operation) -> Operation:
    """Put if the key was not changed since this process saw it, else read it."""
    _, mod = caller.seen.get(asked.key, ("", 0))
    guard = Comparison(asked.key, "mod", "=", mod)
    txn = Txn((guard,), (Request("put", asked.key, caller._value()),), (Request("get", asked.key),))
    return _with(asked, f="txn", value=txn)


def _append(caller: _Caller, asked: Operation) -> Operation:
    """Read, change and write back: a list that must never lose an element that was acknowledged."""
    value, mod = caller.seen.get(asked.key, ("", 0))
    new = " ".join([*value.split()[-9:], caller._value()])
    guard = Comparison(asked.key, "mod", "=", mod)
    return _with(
        asked, f="txn", value=Txn((guard,), (Request("put", asked.key, new),), (Request("get", asked.key),))
    )


def _swap(caller: _Caller, asked: Operation) -> Operation:
    """Several keys in one revision, guarded by a value: atomicity is visible to ranges and watches."""
    value, _ = caller.seen.get(asked.key, ("", 0))
    other = caller.draw.choice(caller.keys)
    then = [Request("get", other), Request("put", asked.key, caller._value())]
    if other != asked.key:
        then.append(
            Request("delete", other) if caller.draw.random() < 0.3 else Request("put", other, caller._value())
        )
    guard = Comparison(asked.key, "value", "=", value)
    if not value:
        guard = Comparison(asked.key, "version", "=", 0)
    return _with(asked, f="txn", value=Txn((guard,), tuple(then), (Request("get", asked.key),)))


_ASK: Final[Mapping[str, _Maker]] = MappingProxyType(
    {
        "put": _put,
        "put-prev": _put,
        "get": _get,
        "stale-get": _get,
        "range": _range,
        "past-get": _past_get,
        "delete": _delete,
        "delete-range": _delete,
        "cas": _cas,
        "append": _append,
        "swap": _swap,
    }
)
