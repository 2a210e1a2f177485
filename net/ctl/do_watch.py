"""``watch``: prints what changes, runs a command for every event, takes more watches from standard input."""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from .argify import split_line
from .calls import error_text
from .context import Context, Settings, complain, write
from .exec import run_command
from .failures import BAD_ARGS, ERROR, INTERRUPTED, INVALID_INPUT, Failure
from .flagset import FlagError, Parsed, parse_flags
from .session import connect
from .text import quoted
from .watch_words import BadWatch, WatchWords, keys_of_environment, watch_words
from .watching import AnswerWatch

__all__ = ["watch"]

COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
BY_SERVER = "watch is canceled by the server"


def watch(context: Context) -> None:
    """``watch``; runs until it is interrupted or the server ends the watch."""
    try:
        keys_of_environment(context.environment)
        if context.yes("interactive"):
            context.run(_interactive, context, context.settings())
            return
        words = watch_words(context.arguments, context.dash, context.environment)
        request = _request(words, context)
    except BadWatch as error:
        raise Failure(BAD_ARGS, str(error)) from None
    context.run(_single, context, context.settings(), request, words.command)


def _request(words: WatchWords, context: Context) -> rpc.WatchCreateRequest:
    return words.request(
        prefix=context.yes("prefix"),
        revision=context.number("rev"),
        prev_kv=context.yes("prev-kv"),
        notify=context.yes("progress-notify"),
    )


async def _single(
    context: Context, settings: Settings, request: rpc.WatchCreateRequest, command: tuple[str, ...]
) -> None:
    async with connect(settings) as client:
        await _print_all(context, AnswerWatch(client, request), command)
    raise Failure(INTERRUPTED, BY_SERVER)


async def _print_all(context: Context, watched: AnswerWatch, command: tuple[str, ...]) -> None:
    """Print answers until the server cancels the watch."""
    while True:
        try:
            answer = await watched.receive()
        except TercetError as error:
            complain(f"watch was canceled ({error_text(error)})\n")
            return
        if answer.canceled:
            complain(f"watch was canceled ({_reason(answer)})\n")
        elif not answer.events:
            write(f"progress notify: {answer.header.revision}\n")
        context.show("watch", answer)
        if command:
            for event in answer.events:
                await _execute(command, event, answer.header.revision, context)
        if answer.canceled:
            return


def _reason(answer: rpc.WatchResponse) -> str:
    if answer.compact_revision:
        return COMPACTED
    reason = answer.cancel_reason
    if not reason:
        return FUTURE
    return reason if reason.startswith(("etcdserver: ", "rpc error: ")) else (
        f"rpc error: code = FailedPrecondition desc = {reason}"
    )


async def _execute(command: tuple[str, ...], event: Any, revision: int, context: Context) -> None:
    environment = dict(context.environment) | {
        "ETCD_WATCH_REVISION": str(revision),
        "ETCD_WATCH_EVENT_TYPE": quoted("DELETE" if event.type else "PUT"),
        "ETCD_WATCH_KEY": quoted(event.kv.key),
        "ETCD_WATCH_VALUE": quoted(event.kv.value),
    }
    problem = await run_command(command, environment)
    if problem:
        shown = " ".join(quoted(word) for word in command)
        complain(f"command [{shown}] error ({problem})\n")
        raise Failure(ERROR, "")


async def _interactive(context: Context, settings: Settings) -> None:
    watches: list[AnswerWatch] = []
    async with connect(settings) as client, trio.open_nursery() as nursery:
        while True:
            line = await trio.to_thread.run_sync(sys.stdin.buffer.readline, abandon_on_cancel=True)
            if not line.endswith(b"\n"):
                raise Failure(INVALID_INPUT, "Error reading watch request line: EOF")
            words, shown = [os.fsdecode(word) for word in split_line(line)], os.fsdecode(line[:-1])
            if not words:
                complain(f"Invalid command: {shown} (watch and progress supported)\n")
            elif words[0] == "progress":
                for watched in watches:
                    watched.request_progress()
            elif words[0] != "watch":
                complain(f"Invalid command {shown} (only support watch)\n")
            elif len(words) < 2 and not context.environment.get("ETCDCTL_WATCH_KEY"):
                complain(f"Invalid command {shown} (command type or key is not provided)\n")
            else:
                try:
                    _begin(context, client, words, watches, nursery)
                except BadWatch as error:
                    complain(f"Invalid command {shown} ({error})\n")


def _begin(
    context: Context, client: Client, words: list[str], watches: list[AnswerWatch], nursery: trio.Nursery
) -> None:
    """Begin the watch of one line; wrong words end the program. Raises ``BadWatch`` for what is no range."""
    command = context.path[-1]
    try:
        parsed = parse_flags({flag.name: flag for flag in command.flags}, words[1:])
        found = watch_words(parsed.arguments, parsed.dash, context.environment)
    except (FlagError, BadWatch) as error:
        raise Failure(BAD_ARGS, str(error)) from None
    inner = Context(context.program, context.path, Parsed(parsed.given, parsed.arguments), {}, words)
    request = _request(found, inner)
    watched = AnswerWatch(client, request)
    watches.append(watched)
    nursery.start_soon(_print_all, context, watched, found.command)
