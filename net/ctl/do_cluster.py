"""``alarm`` and ``move-leader``."""

from __future__ import annotations

from typing import Any

from tercet.core.wire.proto import rpc_pb2 as rpc

from .context import Context, Settings
from .failures import BAD_ARGS, Failure
from .text import parse_uint
from .unary import Caller, ask_once, check_login

__all__ = ["alarm_disarm", "alarm_list", "move_leader"]

ALARM = "/etcdserverpb.Maintenance/Alarm"


def alarm_list(context: Context) -> None:
    """``alarm list``."""
    context.need(not context.arguments, "alarm list command accepts no arguments")
    answer = ask_once(context.settings(), ALARM, rpc.AlarmRequest(), rpc.AlarmResponse)
    context.show("alarm", answer)


def alarm_disarm(context: Context) -> None:
    """``alarm disarm``: all of them, one by one."""
    context.need(not context.arguments, "alarm disarm command accepts no arguments")
    context.show("alarm", _disarm(context.settings()))


def _disarm(settings: Settings) -> rpc.AlarmResponse:
    disarmed = rpc.AlarmResponse()
    with Caller(settings) as caller:
        found = caller.ask(ALARM, rpc.AlarmRequest(), rpc.AlarmResponse)
        for alarm in found.alarms:
            request = rpc.AlarmRequest(
                action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
            )
            answer = caller.ask(ALARM, request, rpc.AlarmResponse)
            disarmed.alarms.extend(answer.alarms)
    return disarmed


def move_leader(context: Context) -> None:
    """``move-leader``: asks the leader, which must be among the endpoints."""
    context.need(len(context.arguments) == 1, "move-leader command needs 1 argument")
    try:
        target = parse_uint(context.arguments[0], 16)
    except ValueError as error:
        raise Failure(BAD_ARGS, str(error)) from None
    old, answer = _move(context.settings(), target)
    context.show("move_leader", answer, old, target)


def _move(settings: Settings, target: int) -> tuple[int, Any]:
    check_login(settings)
    for endpoint in settings.endpoints:
        with Caller(settings, (endpoint,)) as caller:
            status = caller.ask(
                "/etcdserverpb.Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse
            )
            if status.header.member_id == status.leader:
                request = rpc.MoveLeaderRequest(targetID=target)
                path = "/etcdserverpb.Maintenance/MoveLeader"
                return status.leader, caller.ask(path, request, rpc.MoveLeaderResponse)
    raise Failure(BAD_ARGS, f"no leader endpoint given at [{' '.join(settings.endpoints)}]")
