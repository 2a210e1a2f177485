"""What follows from a call's failure, case by case."""

from __future__ import annotations

import pytest

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import PERMISSION_DENIED
from tercet.net.client.attempts import Attempts, Verdict
from tercet.net.client.errors import ConnectionLost, NotProcessed, RequestTimedOut, rpc_error

UNAVAILABLE, UNKNOWN = 14, 2
ELSEWHERE = Verdict(leave=True)
END = Verdict(give_up=True)
END_AND_LEAVE = Verdict(leave=True, give_up=True)
LOG_IN = Verdict(log_in=True)


def begun(repeatable: bool = False) -> Attempts:
    attempts = Attempts("/a/B", b"", repeatable)
    attempts.begin()
    return attempts


@pytest.mark.parametrize(
    ("error", "read", "write"),
    [
        (NotProcessed("refused"), ELSEWHERE, ELSEWHERE),
        (ConnectionLost("gone"), ELSEWHERE, END_AND_LEAVE),
        (rpc_error(UNAVAILABLE, "the server says no"), ELSEWHERE, END_AND_LEAVE),
        (rpc_error(UNAVAILABLE, "etcdserver: request timed out"), ELSEWHERE, END_AND_LEAVE),
        (rpc_error(UNKNOWN, "auth: user name is empty"), END, END),
        (PERMISSION_DENIED, END, END),
    ],
)
def test_reads_are_tried_elsewhere_and_writes_only_when_nobody_looked_at_them(
    error: TercetError, read: Verdict, write: Verdict
) -> None:
    assert begun(repeatable=True).judge(error, has_token=False) == read
    assert begun(repeatable=False).judge(error, has_token=False) == write


def test_a_token_is_renewed_once() -> None:
    attempts, error = begun(), rpc_error(16, "etcdserver: invalid auth token")
    assert attempts.judge(error, has_token=True) == LOG_IN
    assert attempts.judge(error, has_token=True) == END


def test_without_a_token_there_is_none_to_renew() -> None:
    assert begun().judge(rpc_error(16, "etcdserver: invalid auth token"), has_token=False) == END


def test_changes_of_users_that_overtake_a_call_are_borne_with_for_a_while() -> None:
    attempts, error = begun(), rpc_error(3, "etcdserver: revision of auth store is old")
    verdicts = [attempts.judge(error, has_token=True) for _ in range(200)]
    assert verdicts[0] == LOG_IN
    assert verdicts[-1] == END


def test_what_was_sent_once_is_of_unknown_outcome_until_it_is_known_that_nobody_looked_at_it() -> None:
    attempts = Attempts("/a/B", b"", False)
    assert attempts.last is None
    attempts.begin()
    assert isinstance(attempts.last, RequestTimedOut)
    attempts.judge(NotProcessed("refused"), has_token=False)
    assert isinstance(attempts.last, NotProcessed)
