"""The Trio client library: kv, watch and lease over the ``World`` ports, for real and simulated clusters.

Names are imported when they are first asked for: a command line that makes one call needs the framing and
the errors alone, and importing everything would take longer than the call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client, open_client
    from .connection import Patience
    from .errors import (
        Compacted,
        ConnectionLost,
        NotProcessed,
        RequestTimedOut,
        Unreachable,
        WatchCancelled,
    )
    from .lease import KeepAlive
    from .prefix import prefix_end
    from .values import (
        Compare,
        Delete,
        DeleteResult,
        Event,
        Get,
        GetResult,
        Header,
        KeyValue,
        Lease,
        LeaseState,
        Member,
        Put,
        PutResult,
        Status,
        Txn,
        TxnResult,
        WatchBatch,
    )
    from .watch import Watch

__all__ = [
    "Client", "Compacted", "Compare", "ConnectionLost", "Delete", "DeleteResult", "Event", "Get",
    "GetResult", "Header", "KeepAlive", "KeyValue", "Lease", "LeaseState", "Member", "NotProcessed",
    "Patience", "Put", "PutResult", "RequestTimedOut", "Status", "Txn", "TxnResult", "Unreachable", "Watch",
    "WatchBatch", "WatchCancelled", "open_client", "prefix_end",
]

_PLACES = {
    "client": ("Client", "open_client"),
    "connection": ("Patience",),
    "errors": (
        "Compacted", "ConnectionLost", "NotProcessed", "RequestTimedOut", "Unreachable", "WatchCancelled",
    ),
    "lease": ("KeepAlive",),
    "prefix": ("prefix_end",),
    "watch": ("Watch",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES.get(name, 'values')}", __name__), name)
