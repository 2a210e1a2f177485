"""What whole command lines ask for and say, against a server that writes requests down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import grpc
import pytest

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.ctl import do_keep_alive, session
from tercet.net.ctl.do_check import _memory
from tercet.net.ctl.etcdctl_table import ETCDCTL
from tercet.net.ctl.failures import Failure
from tercet.net.ctl.run import run_program

from .test_unary import serving, settings

Asked = list[tuple[str, bytes]]


class Desk:
    """A server that says yes to everything, and what it was asked."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.asked: Asked = []
        self.endpoint = ""
        self._capfd = capfd

    def __call__(self, method: str, message: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append((method.rpartition("/")[2], message))
        return b""

    def run(self, *words: str, env: Mapping[str, str] = {}) -> tuple[int, str, str]:
        """Run a command line; its status and both outputs."""
        status = run_program(ETCDCTL, [*words, f"--endpoints={self.endpoint}"], env)
        return (status, *self._capfd.readouterr())


@pytest.fixture
def desk(capfd: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    made = Desk(capfd)
    with serving(made) as made.endpoint:
        yield made


@pytest.mark.parametrize(
    ("words", "key", "end"),
    [
        (("a",), b"a", b""),
        (("a", "c"), b"a", b"c"),
        (("a", "--prefix"), b"a", b"b"),
        (("a", "--from-key"), b"a", b"\0"),
        (("",), b"\0", b""),
        (("", "c"), b"\0", b""),
        (("", "--prefix"), b"\0", b"\0"),
        (("", "--from-key"), b"\0", b"\0"),
        (("", "c", "--prefix"), b"\0", b"\0"),
    ],
)
def test_a_permission_is_of_a_key_or_a_range_and_the_empty_key_is_the_first_one(
    desk: Desk, words: tuple[str, ...], key: bytes, end: bytes
) -> None:
    assert desk.run("role", "grant-permission", "r", "read", *words)[0] == 0
    assert desk.run("role", "revoke-permission", "r", *words)[0] == 0
    (_, granted), (_, revoked) = desk.asked
    permission = rpc.AuthRoleGrantPermissionRequest.FromString(granted).perm
    assert (permission.key, permission.range_end) == (key, end)
    request = rpc.AuthRoleRevokePermissionRequest.FromString(revoked)
    assert (request.key, request.range_end) == (key, end)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("a", "--prefix", "--from-key"), "--from-key and --prefix flags are mutually exclusive"),
        (("", "c", "--prefix", "--from-key"), "--from-key and --prefix flags are mutually exclusive"),
        (("a", "c", "--prefix", "--from-key"), "unexpected endkey argument with --prefix flag"),
        (("a", "c", "--from-key"), "unexpected endkey argument with --from-key flag"),
    ],
)
def test_a_permission_that_contradicts_itself_is_not_asked_for(
    desk: Desk, words: tuple[str, ...], problem: str
) -> None:
    assert desk.run("role", "revoke-permission", "r", *words) == (128, "", f"Error: {problem}\n")
    assert desk.asked == []


def test_a_variable_chooses_the_format_of_every_command(desk: Desk) -> None:
    answers = {
        words: desk.run(*words.split(), env={"ETCDCTL_WRITE_OUT": "json"})[:2]
        for words in ("user list", "role get r", "alarm disarm", "get a", "lease list", "member list")
    }
    leases = '{"leases":[]}\n'
    assert answers == {words: (0, leases if words == "lease list" else "{}\n") for words in answers}


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        ("user list", 1), ("user get a --detail", 1), ("role list", 1), ("role add r", 1), ("lease list", 1),
        ("lease timetolive 1", 1), ("get a", 0), ("put a b", 0), ("member list", 0), ("auth enable", 0),
    ],
)  # fmt: skip
def test_only_some_commands_have_a_time_limit(desk: Desk, words: str, calls: int) -> None:
    status, _, _ = desk.run(*words.split(), "--command-timeout=0s")
    assert (status, len(desk.asked)) == (0 if calls else 1, calls)


def test_a_new_member_is_told_the_urls_that_were_typed(desk: Desk) -> None:
    urls = "http://b:1,http://a:1"
    status, out, _ = desk.run("member", "add", "n", f"--peer-urls={urls}")
    assert status == 0
    assert f'ETCD_INITIAL_ADVERTISE_PEER_URLS="{urls}"\n' in out


def test_nobody_logs_in_without_a_name_or_without_a_password(desk: Desk) -> None:
    for user in (":pw", "joe:"):
        assert desk.run("get", "a", f"--user={user}")[0] == 0
    assert [method for method, _ in desk.asked] == ["Range", "Range"]


def test_members_are_listed_without_a_login(desk: Desk) -> None:
    assert desk.run("endpoint", "health", "--cluster", "--user=joe:pw") == (0, "", "")
    assert [method for method, _ in desk.asked] == ["MemberList"]


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        ("get a", 2, "etcdclient: no available endpoints"),
        ("endpoint status", 2, "etcdclient: no available endpoints"),
        ("defrag", 2, "etcdclient: no available endpoints"),
        ("move-leader 1", 2, "etcdclient: no available endpoints"),
        ("watch a", 2, "etcdclient: no available endpoints"),
        ("get a -w yaml", 4, "unsupported output format"),
        ("get a -w yaml --cert=", 128, "empty string is passed to --cert option"),
        ("endpoint health -w yaml --cert=", 4, "unsupported output format"),
        ("get a --cacert= --cert=", 128, "empty string is passed to --cert option"),
        ("get a --cacert=/no/ca.pem --cert=/no/cert.pem", 128,
         "KeyFile and CertFile must both be present[key: , cert: /no/cert.pem]"),
        ("elect a", 128, "no proposal argument but -l not set"),
        ("lease timetolive x -w yaml", 4, "unsupported output format"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_etcdctls_order(
    words: str, status: int, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_program(ETCDCTL, [*words.split(), "--endpoints="], {}) == status
    assert capfd.readouterr() == ("", f"Error: {problem}\n")


def test_keep_alive_gives_a_lease_up_when_no_server_ever_answers(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(do_keep_alive, "FIRST_SECONDS", 0.0)
    quickly = ["--command-timeout=50ms", "--dial-timeout=50ms", "--endpoints=127.0.0.1:1"]
    assert run_program(ETCDCTL, ["lease", "keep-alive", "1f", *quickly], {}) == 0
    assert capfd.readouterr() == ("lease 000000000000001f expired or revoked.\n", "")
    assert run_program(ETCDCTL, ["lease", "keep-alive", "1f", "-w", "json", *quickly], {}) == 0
    assert capfd.readouterr() == ("", "")


def test_a_snapshot_has_a_time_limit_only_when_one_is_given(
    capfd: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    path = f"{tmp_path}/copy.db"
    for words, env in (((), {"ETCDCTL_COMMAND_TIMEOUT": "10ms"}), (("--command-timeout=-1s",), {})):
        assert run_program(ETCDCTL, ["snapshot", "save", path, "--endpoints=127.0.0.1:1", *words], env) == 5
        assert capfd.readouterr().err.splitlines()[-1] == "Error: context deadline exceeded"


def test_a_member_that_does_not_tell_its_memory_fails_the_check(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failure) as failed:
        _memory(settings("127.0.0.1:1"), "before")
    assert (failed.value.status, failed.value.text) == (1, "")
    fetched, told = capfd.readouterr().out.splitlines()
    assert fetched.startswith("fetch error: ")
    assert told == "FAIL: Could not read process_resident_memory_bytes before the put operations."


def names(**records: tuple[str, int]) -> Callable[[str], tuple[tuple[str, int], ...]]:
    """A look-up of SRV records; those of ``_etcd-client._tcp.a.example`` are called ``client``."""

    def look_up(name: str) -> tuple[tuple[str, int], ...]:
        service = name.removeprefix("_etcd-").removesuffix("._tcp.a.example")
        if service not in records:
            raise OSError(2, f"lookup {name}: no such host")
        return (records[service],)

    return look_up


def test_a_domain_without_records_is_told(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "lookup_services", names())
    assert run_program(ETCDCTL, ["get", "a", "-d", "a.example", "--cert="], {}) == 1
    missing = "lookup _etcd-client{}._tcp.a.example: no such host"
    problem = f"dns lookup errors: {missing.format('-ssl')} and {missing.format('')}"
    assert capfd.readouterr() == ("", f"Error: {problem}\n")


def test_discovered_endpoints_without_tls_are_left_out_when_they_are_not_accepted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "lookup_services", names(client=("h", 1)))
    words = ("get", "a", "-d", "a.example", "--insecure-discovery=false", "--command-timeout=100ms")
    status, _, err = desk.run(*words)  # of the endpoints that are left none speaks TLS
    assert (status, desk.asked) == (1, [])
    assert err.startswith('ignoring discovered insecure endpoint "http://h:1"\n')


def test_discovered_endpoints_come_before_those_that_were_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, port = desk.endpoint.rpartition(":")
    monkeypatch.setattr(session, "lookup_services", names(client=(host, int(port))))
    assert run_program(ETCDCTL, ["get", "a", "-d", "a.example", "--endpoints=127.0.0.1:1"], {}) == 0
    assert [method for method, _ in desk.asked] == ["Range"]
