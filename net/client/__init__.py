"""The Trio client library: kv, watch and lease over the ``World`` ports, for real and simulated clusters."""

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
    prefix_end,
)
from .watch import Watch

__all__ = [
    "Client", "Compacted", "Compare", "ConnectionLost", "Delete", "DeleteResult", "Event", "Get",
    "GetResult", "Header", "KeepAlive", "KeyValue", "Lease", "LeaseState", "Member", "NotProcessed",
    "Patience", "Put", "PutResult", "RequestTimedOut", "Status", "Txn", "TxnResult", "Unreachable", "Watch",
    "WatchBatch", "WatchCancelled", "open_client", "prefix_end",
]
