"""Planted bugs of leases and of authentication: B25, B31 and B32 of the bug zoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tercet.core.auth.store import AuthStore
from tercet.core.command import Handled
from tercet.core.lease.commands import LeaseCommands
from tercet.core.lease.lessor import Lessor
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.net.leases import LeaseKeeper

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]

_loaders = AuthStore.loaders
_follow_role = LeaseKeeper._follow_role


def _loaders_but_for_the_switch(self: AuthStore) -> dict[str, Callable[[bytes, bytes], None]]:
    loaders = _loaders(self)

    def wrapped(load: Callable[[bytes, bytes], None]) -> Callable[[bytes, bytes], None]:
        def row(key: bytes, value: bytes) -> None:
            load(key, value)
            self.enabled = False

        return row

    return {bucket: wrapped(load) for bucket, load in loaders.items()}


def _b25() -> AbstractContextManager[None]:
    return replaced(AuthStore, "loaders", _loaders_but_for_the_switch)


def _expire_for_anybody(self: LeaseCommands, payload: bytes) -> Handled:
    return self._end(internal.LeaseExpire.FromString(payload).ID)


def _never_step_down(self: LeaseKeeper) -> None:
    if self._member.is_leader or not self._term:
        _follow_role(self)


@contextmanager
def _b31() -> Iterator[None]:
    with (
        replaced(LeaseCommands, "_expire", _expire_for_anybody),
        replaced(LeaseKeeper, "_follow_role", _never_step_down),
    ):
        yield


def _checkpoint_nothing(self: Lessor, lease_id: int, remaining: int) -> None:
    """Everybody forgets what was left."""


def _b32() -> AbstractContextManager[None]:
    return replaced(Lessor, "checkpoint", _checkpoint_nothing)


MUTATIONS = (
    Mutation(
        "B25",
        "etcd 14571",
        "A member that starts from its disk takes authentication to be off.",
        "authentication on, a restart, and a request without a user at that member",
        _b25,
        world="simulated",
    ),
    Mutation(
        "B31",
        "etcd 12528, 15247",
        "A leader that was replaced goes on counting leases, and what it ends counts in any term.",
        "a change of leader, and renewals at the new one",
        _b31,
        world="simulated",
    ),
    Mutation(
        "B32",
        "etcd 20273",
        "What was left of a lease is forgotten, so that every leader starts its whole time anew.",
        "changes of leader closer together than the lease lasts",
        _b32,
        world="simulated",
    ),
)
