"""What a ``watch`` command line means: keys from arguments or the environment, a command behind ``--``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tercet.core.wire.proto import rpc_pb2 as rpc

from .do_kv import key_range
from .text import quoted

__all__ = ["BadWatch", "WatchWords", "keys_of_environment", "watch_words"]

WRONG_NUMBER: Final = "bad number of arguments"
KEY_AND_END: Final = 2


class BadWatch(ValueError):
    """The command line contradicts itself, or the environment."""


@dataclass(frozen=True, slots=True)
class WatchWords:
    """Arguments that name keys, and the command to run for every event; () for none."""

    keys: tuple[bytes, ...]
    command: tuple[str, ...]

    def request(self, *, prefix: bool, revision: int, prev_kv: bool, notify: bool) -> rpc.WatchCreateRequest:
        """The request; of more than two keys only the first counts. Raises ``BadWatch``."""
        if not self.keys:
            raise BadWatch(WRONG_NUMBER)
        has_end = len(self.keys) == KEY_AND_END
        if has_end and prefix:
            raise BadWatch("`range_end` and `--prefix` are mutually exclusive")
        key, end = key_range(self.keys[0], self.keys[1] if has_end else b"", prefix, False)
        return rpc.WatchCreateRequest(
            key=key, range_end=end, start_revision=revision, prev_kv=prev_kv, progress_notify=notify
        )


def keys_of_environment(environment: Mapping[str, str]) -> tuple[str, str]:
    """The key and the range end that variables name, "" for neither. Raises ``BadWatch``."""
    key, end = environment.get("ETCDCTL_WATCH_KEY", ""), environment.get("ETCDCTL_WATCH_RANGE_END", "")
    if end and not key:
        raise BadWatch(f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quoted(end)}")
    return key, end


def watch_words(arguments: Sequence[str], dash: int, environment: Mapping[str, str]) -> WatchWords:
    """Take the arguments apart; ``dash`` is where ``--`` stood, -1 for nowhere. Raises ``BadWatch``."""
    command: tuple[str, ...] = ()
    words = list(arguments)
    if dash >= 0:
        words, command = list(arguments[:dash]), tuple(arguments[dash:])
        if not command:
            raise BadWatch(f"{WRONG_NUMBER} (found separator --, but no commands)")
    key, end = keys_of_environment(environment)
    if key and words:
        raise BadWatch(f"{WRONG_NUMBER} (found conflicting environment key)")
    if key:
        words = [key, end] if end else [key]
    if not words and not command:
        raise BadWatch(WRONG_NUMBER)
    return WatchWords(tuple(os.fsencode(word) for word in words), command)
