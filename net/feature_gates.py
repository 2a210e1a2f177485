"""``--feature-gates`` of etcd 3.6: one flag that turns features on and off, each a flag of its own before.

The syntax and the refusals are those of the library that etcd uses for it. A gate that no flag here stands
for is known, and has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .flag_values import FlagError, parse_bool

__all__ = ["feature_gates"]

#: Gate -> the flag that it stands for, "" for none.
_GATES: Final[Mapping[str, str]] = {
    "CompactHashCheck": "compact-hash-check-enabled",
    "DistributedTracing": "",
    "InitialCorruptCheck": "initial-corrupt-check",
    "LeaseCheckpoint": "enable-lease-checkpoint",
    "LeaseCheckpointPersist": "enable-lease-checkpoint-persist",
    "MemoryMlock": "memory-mlock",
    "SetMemberLocalAddr": "set-member-localaddr",
    "StopGRPCServiceOnDefrag": "stop-grpc-service-on-defrag",
    "TxnModeWriteWithSharedBuffer": "txn-mode-write-with-shared-buffer",
}
_ALPHA: Final = (
    "CompactHashCheck", "InitialCorruptCheck", "LeaseCheckpoint", "LeaseCheckpointPersist",
    "SetMemberLocalAddr", "StopGRPCServiceOnDefrag",
)
_BETA: Final = ("TxnModeWriteWithSharedBuffer",)
_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {"AllAlpha": _ALPHA, "AllBeta": _BETA}


def feature_gates(text: str) -> dict[str, bool]:
    """The flags that ``Gate=true,Other=false`` sets; a gate of its own beats the group it is in.

    Raises:
        FlagError: a gate that does not exist, or no boolean.
    """
    given: dict[str, bool] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise _refusal(text, f"missing bool value for {name}")
        if name not in _GATES and name not in _GROUPS:
            raise _refusal(text, f"unrecognized feature gate: {name}")
        try:
            given[name] = parse_bool(value)
        except ValueError:
            reason = f'strconv.ParseBool: parsing "{value}": invalid syntax'
            raise _refusal(text, f"invalid value of {name}={value}, err: {reason}") from None
    for group, gates in _GROUPS.items():
        if group in given:
            given = {**dict.fromkeys(gates, given.pop(group)), **given}
    return {_GATES[name]: on for name, on in given.items() if _GATES[name]}


def _refusal(text: str, reason: str) -> FlagError:
    return FlagError(f'invalid value "{text}" for flag -feature-gates: {reason}')
