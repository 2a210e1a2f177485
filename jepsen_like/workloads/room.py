"""The way out of a full database, as etcd documents it: compact, defragment every member, disarm."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import open_client
from tercet.sim.operator import LOGIN, ask, logged_in

from .recorder import Recorder

if TYPE_CHECKING:
    from tercet.sim.run import Setting

__all__ = ["make_room"]


async def make_room(setting: Setting, recorder: Recorder) -> None:
    """Try once; what fails is tried again by whoever is refused next."""
    async with setting.client(request_timeout=2.0, login=LOGIN) as client:
        try:
            found = await logged_in(client, lambda: client.get(b"\0", limit=1))
            revision = found.header.revision
            if revision > 1:
                recorder.compacting([(setting.now(), revision)])
                await logged_in(client, lambda: client.compact(revision, physical=True))
        except TercetError:
            pass  # somebody else compacted, perhaps
        for url in setting.endpoints:
            one = open_client(setting.world, (url,), request_timeout=2.0, login=LOGIN)
            async with one as member:
                with suppress(TercetError):
                    await ask(member, "Maintenance/Defragment", rpc.DefragmentRequest())
        disarm = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, alarm=rpc.NOSPACE)
        try:
            raised = await ask(client, "Maintenance/Alarm", rpc.AlarmRequest())
            for alarm in raised.alarms:
                disarm.memberID = alarm.memberID
                await ask(client, "Maintenance/Alarm", disarm)
        except TercetError:
            pass
