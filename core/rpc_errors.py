"""etcd's errors as data: the gRPC status code and the exact text clients compare with.

An ``RpcError`` is a value first: checks return one or None, and answers carry its ``code`` and ``message``.
Each named constant is one of etcd 3.4's errors, or one that 3.5 and 3.6 added. Constants are shared, and
raising one again would lengthen its traceback: write ``raise COMPACTED.with_traceback(None)``.

Source: etcd's ``api/v3rpc/rpctypes``; texts and codes as recorded from 3.4.23.
"""

from __future__ import annotations

from enum import IntEnum

from .errors import OutcomeUnknown, Rejected, TercetError

__all__ = [
    "AUTH_FAILED",
    "AUTH_NOT_ENABLED",
    "AUTH_OLD_REVISION",
    "BAD_LEADER_TRANSFEREE",
    "CANCELED",
    "COMPACTED",
    "CORRUPT",
    "DUPLICATE_KEY",
    "ELECTION_NOT_LEADER",
    "ELECTION_NO_LEADER",
    "EMPTY_KEY",
    "FUTURE_REVISION",
    "INVALID_AUTH_MANAGEMENT",
    "INVALID_AUTH_TOKEN",
    "INVALID_SORT_OPTION",
    "KEY_NOT_FOUND",
    "LEADER_CHANGED",
    "LEARNER_NOT_READY",
    "LEASE_EXISTS",
    "LEASE_NOT_FOUND",
    "LEASE_PROVIDED",
    "LEASE_TTL_TOO_LARGE",
    "MEMBER_BAD_URLS",
    "MEMBER_EXISTS",
    "MEMBER_NOT_FOUND",
    "MEMBER_NOT_LEARNER",
    "MISSING_LEADER_KEY",
    "MUTEX_SESSION_EXPIRED",
    "NOT_CAPABLE",
    "NOT_ENOUGH_STARTED",
    "NOT_LEADER",
    "NOT_PROPOSED",
    "NOT_SUPPORTED_FOR_LEARNER",
    "NO_LEADER",
    "NO_SPACE",
    "PEER_URL_EXISTS",
    "PERMISSION_DENIED",
    "PERMISSION_NOT_GIVEN",
    "PERMISSION_NOT_GRANTED",
    "REQUEST_TOO_LARGE",
    "ROLE_EMPTY",
    "ROLE_EXISTS",
    "ROLE_NOT_FOUND",
    "ROLE_NOT_GRANTED",
    "ROOT_ROLE_MISSING",
    "ROOT_USER_MISSING",
    "STOPPED",
    "TIMEOUT",
    "TIMEOUT_CONNECTION_LOST",
    "TIMEOUT_LEADER_FAIL",
    "TIMEOUT_WAIT_APPLIED",
    "TOO_MANY_LEARNERS",
    "TOO_MANY_OPERATIONS",
    "TOO_MANY_REQUESTS",
    "UNHEALTHY",
    "UNREADABLE_TEXT",
    "USER_EMPTY",
    "USER_EXISTS",
    "USER_NOT_FOUND",
    "VALUE_PROVIDED",
    "RpcError",
    "RpcRejected",
    "RpcUnknown",
    "Status",
    "undecodable",
    "unimplemented",
    "unknown_request",
]


class Status(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(TercetError):
    """What every answer that is not OK carries: ``code`` (1..16) and ``message``.

    Its two kinds say what happened: ``RpcRejected`` nothing, ``RpcUnknown`` perhaps something.
    """

    def __init__(self, code: Status, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.name}, {self.message!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RpcError) and (self.code, self.message) == (other.code, other.message)

    def __hash__(self) -> int:
        return int(self.code)


class RpcRejected(RpcError, Rejected):
    """A definite refusal: the request did not and will not happen."""


class RpcUnknown(RpcError, OutcomeUnknown):
    """The member stopped waiting; the request may still be applied."""


EMPTY_KEY = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_PROVIDED = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: lease is provided")
TOO_MANY_OPERATIONS = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE_KEY = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
INVALID_SORT_OPTION = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: invalid sort option")
COMPACTED = RpcRejected(Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = RpcRejected(Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = RpcRejected(Status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND = RpcRejected(Status.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = RpcRejected(Status.OUT_OF_RANGE, "etcdserver: too large lease TTL")
MEMBER_NOT_FOUND = RpcRejected(Status.NOT_FOUND, "etcdserver: member not found")
MEMBER_BAD_URLS = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
MEMBER_NOT_LEARNER = RpcRejected(
    Status.FAILED_PRECONDITION, "etcdserver: can only promote a learner member"
)
MEMBER_EXISTS = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: member ID already exist")
NOT_ENOUGH_STARTED = RpcRejected(
    Status.FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members"
)
LEARNER_NOT_READY = RpcRejected(
    Status.FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"
)
TOO_MANY_LEARNERS = RpcRejected(
    Status.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"
)
PEER_URL_EXISTS = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
REQUEST_TOO_LARGE = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: request is too large")
TOO_MANY_REQUESTS = RpcRejected(Status.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
#: No member led for as long as the request could wait, so it was never proposed.
NOT_PROPOSED = RpcRejected(Status.UNKNOWN, "context deadline exceeded")
NO_LEADER = RpcRejected(Status.UNAVAILABLE, "etcdserver: no leader")
NOT_LEADER = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: not leader")
LEADER_CHANGED = RpcRejected(Status.UNAVAILABLE, "etcdserver: leader changed")
NOT_CAPABLE = RpcRejected(Status.UNAVAILABLE, "etcdserver: not capable")
STOPPED = RpcUnknown(Status.UNAVAILABLE, "etcdserver: server stopped")
UNHEALTHY = RpcRejected(Status.UNAVAILABLE, "etcdserver: unhealthy cluster")
CORRUPT = RpcRejected(Status.DATA_LOSS, "etcdserver: corrupt cluster")
BAD_LEADER_TRANSFEREE = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
NOT_SUPPORTED_FOR_LEARNER = RpcRejected(Status.UNAVAILABLE, "etcdserver: rpc not supported for learner")
CANCELED = RpcUnknown(Status.CANCELLED, "etcdserver: request canceled")
TIMEOUT = RpcUnknown(Status.UNAVAILABLE, "etcdserver: request timed out")
TIMEOUT_LEADER_FAIL = RpcUnknown(
    Status.UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"
)
TIMEOUT_CONNECTION_LOST = RpcUnknown(
    Status.UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost"
)
TIMEOUT_WAIT_APPLIED = RpcRejected(
    Status.UNAVAILABLE, "etcdserver: request timed out, waiting for the applied index took too long"
)
# Users, roles and tokens.
AUTH_FAILED = RpcRejected(
    Status.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
)
AUTH_NOT_ENABLED = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
AUTH_OLD_REVISION = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: revision of auth store is old")
INVALID_AUTH_MANAGEMENT = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: invalid auth management")
INVALID_AUTH_TOKEN = RpcRejected(Status.UNAUTHENTICATED, "etcdserver: invalid auth token")
PERMISSION_DENIED = RpcRejected(Status.PERMISSION_DENIED, "etcdserver: permission denied")
PERMISSION_NOT_GIVEN = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: permission not given")
PERMISSION_NOT_GRANTED = RpcRejected(
    Status.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"
)
ROLE_EMPTY = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: role name is empty")
ROLE_EXISTS = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: role name already exists")
ROLE_NOT_FOUND = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: role name not found")
ROLE_NOT_GRANTED = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: role is not granted to the user")
ROOT_ROLE_MISSING = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: root user does not have root role")
ROOT_USER_MISSING = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: root user does not exist")
USER_EMPTY = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: user name is empty")
USER_EXISTS = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: user name already exists")
USER_NOT_FOUND = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: user name not found")
# What etcd's own client library says in the Lock and Election services, without a status of its own.
MUTEX_SESSION_EXPIRED = RpcRejected(Status.UNKNOWN, "mutex: session is expired")
ELECTION_NOT_LEADER = RpcRejected(Status.UNKNOWN, "election: not leader")
ELECTION_NO_LEADER = RpcRejected(Status.UNKNOWN, "election: no leader")
MISSING_LEADER_KEY = RpcRejected(Status.UNKNOWN, '"leader" field must be provided')


#: To bytes that are no message, in gRPC's words for one that breaks off, as most of them do.
UNREADABLE_TEXT = "grpc: error unmarshalling request: unexpected EOF"


def undecodable(message_name: str) -> RpcRejected:
    """The answer to bytes that are no ``message_name``; one request fails, nothing else."""
    return RpcRejected(Status.INTERNAL, f"grpc: failed to unmarshal the received message as {message_name}")


def unimplemented(service: str, method: str) -> RpcRejected:
    """The answer to a method of a known service that this server does not offer."""
    return RpcRejected(Status.UNIMPLEMENTED, f"unknown method {method} for service {service}")


def unknown_request(detail: str) -> RpcRejected:
    """The answer to a request whose meaning is not known, e.g. a log command of a newer version."""
    return RpcRejected(Status.UNIMPLEMENTED, f"etcdserver: {detail}")
