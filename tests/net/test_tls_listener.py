"""What the TLS side of a port refuses, what it lets in, and that it notices new files."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.x509.oid import ExtendedKeyUsageOID

from tercet.net.dial import Dialer, read_url
from tercet.net.real import real_world
from tercet.net.tls_checks import CertificateRefused, check_remote, check_revoked, matches_host
from tercet.net.tls_connection import client_common_name
from tercet.net.tls_context import ServerCredentials
from tercet.net.tls_listener import TlsListener
from tercet.net.tls_settings import CIPHERS, ClientTls, TlsError, TlsSettings, openssl_ciphers
from tercet.net.world import Connection, World

from .tls_files import Authority, Pair

MODERN = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
OTHER = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"


class Log:
    """Lines, and a way to wait for one."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._lines: list[str] = []
        self._some = trio.Event()

    def write(self, line: str) -> None:
        self._lines.append(line)
        self._some.set()

    async def first(self) -> str:
        with trio.fail_after(90):
            await self._some.wait()
        return self._lines[0]


class Port:
    """A listener that answers each connection with the client's common name, and what it has logged."""

    def __init__(self, world: World, log: Log, listener: TlsListener) -> None:
        self.world = world
        self.url = f"https://{listener.address}"
        self._log = log
        self._listener = listener

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve, await self._listener.accept())

    async def _serve(self, connection: Connection) -> None:
        try:
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                said = await connection.receive(100)
                name = client_common_name(connection)
                await connection.send_all(b"%s heard %s" % (name.encode() or b"nobody", said))
                while await connection.receive(100):
                    pass
        finally:
            connection.close()

    async def ask(self, tls: ClientTls | None, url: str = "") -> bytes:
        """Say hello; b"" when the connection ends without an answer. ``OSError`` when it is refused."""
        connection = await Dialer(self.world, tls).dial(url or self.url)
        try:
            await connection.send_all(b"hello")
            return await connection.receive(100)
        finally:
            connection.close()

    async def refuses(self, tls: ClientTls | None, url: str = "") -> str:
        """The reason that is logged when a client is refused."""
        self._log.clear()
        with pytest.raises(OSError):
            answer = await self.ask(tls, url)
            raise AssertionError(f"was let in: {answer!r}") if answer else ConnectionResetError()
        line: dict[str, Any] = json.loads(await self._log.first())
        assert line["msg"] == "rejected connection"
        assert line["remote-addr"].startswith("127.0.0.1:")
        return str(line["error"])


@contextlib.asynccontextmanager
async def port(settings: TlsSettings, *, plain_too: bool = False) -> AsyncIterator[Port]:
    log = Log()
    world = real_world("tls", seed=1, log_level="warn", write_log=log.write, environment={})
    credentials = ServerCredentials(world, settings)
    listener = TlsListener(world, await world.net.listen("127.0.0.1", 0), credentials, plain_too=plain_too)
    async with trio.open_nursery() as nursery:
        found = Port(world, log, listener)
        nursery.start_soon(found.run)
        with trio.fail_after(90):
            yield found
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> TlsSettings:
    pair = authority.sign("server", hosts=["127.0.0.1", "localhost"])
    return TlsSettings(cert_file=pair.cert_file, key_file=pair.key_file)


def write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


def shown(authority: Authority, pair: Pair | None = None, **more: Any) -> ClientTls:
    if pair is None:
        return ClientTls(ca_file=authority.file, **more)
    return ClientTls(ca_file=authority.file, cert_file=pair.cert_file, key_file=pair.key_file, **more)


async def test_a_client_that_trusts_the_authority_is_served(
    authority: Authority, server: TlsSettings
) -> None:
    async with port(server) as found:
        assert await found.ask(shown(authority)) == b"nobody heard hello"
        assert await found.ask(ClientTls(insecure_skip_verify=True)) == b"nobody heard hello"


async def test_a_client_refuses_an_authority_it_does_not_know(
    authority: Authority, server: TlsSettings, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with port(server) as found:
        reason = await found.refuses(shown(stranger))
        assert reason.startswith("remote error: tls: ")


async def test_a_client_refuses_a_certificate_of_another_host(authority: Authority) -> None:
    pair = authority.sign("elsewhere", hosts=["10.1.2.3", "other.example"])
    async with port(TlsSettings(cert_file=pair.cert_file, key_file=pair.key_file)) as found:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.1"):
            await found.ask(shown(authority))
        named = shown(authority, server_name="other.example")
        assert await found.ask(named) == b"nobody heard hello"


async def test_a_common_name_alone_is_no_host_name(authority: Authority) -> None:
    pair = authority.sign("127.0.0.1")
    async with port(TlsSettings(cert_file=pair.cert_file, key_file=pair.key_file)) as found:
        with pytest.raises(ssl.SSLCertVerificationError):
            await found.ask(shown(authority))


async def test_the_common_name_of_a_client_is_known(authority: Authority, server: TlsSettings) -> None:
    settings = server._replace(trusted_ca_file=authority.file, client_cert_auth=True)
    async with port(settings) as found:
        assert await found.ask(shown(authority, authority.sign("alice"))) == b"alice heard hello"
        assert await found.ask(shown(authority, authority.sign(""))) == b"nobody heard hello"


@pytest.mark.parametrize("named", [True, False])
async def test_naming_authorities_is_enough_to_demand_certificates(
    authority: Authority, server: TlsSettings, named: bool
) -> None:
    async with port(server._replace(trusted_ca_file=authority.file, client_cert_auth=named)) as found:
        assert await found.refuses(shown(authority)) == "tls: client didn't provide a certificate"


async def test_certificates_that_must_fail_do_fail(
    authority: Authority, server: TlsSettings, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    settings = server._replace(trusted_ca_file=authority.file, client_cert_auth=True)
    async with port(settings) as found:
        for pair, reason in (
            (authority.sign("late", days=(-9, -2)), "certificate has expired"),
            (authority.sign("early", days=(2, 9)), "certificate is not yet valid"),
            (stranger.sign("mallory"), "unable to get local issuer certificate"),
            (authority.sign("web", usage=[ExtendedKeyUsageOID.SERVER_AUTH]), "purpose"),
        ):
            assert reason in await found.refuses(shown(authority, pair))
        assert await found.ask(shown(authority, authority.sign("alice"))) == b"alice heard hello"


async def test_a_demanded_common_name_or_host_name_is_checked(
    authority: Authority, server: TlsSettings
) -> None:
    settings = server._replace(trusted_ca_file=authority.file, skip_san_check=True)
    async with port(settings._replace(allowed_cn="alice")) as found:
        refusal = "client certificate authentication failed"
        assert await found.refuses(shown(authority, authority.sign("bob"))) == refusal
        assert await found.ask(shown(authority, authority.sign("alice"))) == b"alice heard hello"
    async with port(settings._replace(allowed_hostname="db.example")) as found:
        assert await found.refuses(shown(authority, authority.sign("bob"))) == refusal
        carol = authority.sign("carol", hosts=["*.example"])
        assert await found.ask(shown(authority, carol)) == b"carol heard hello"


async def test_a_server_is_told_that_its_name_is_not_the_demanded_one(
    authority: Authority, server: TlsSettings
) -> None:
    async with port(server) as found:
        stranger = shown(authority, authority.sign("bob"))._replace(allowed_cn="not the server")
        assert await found.refuses(stranger) == "remote error: tls: bad certificate"


async def test_a_revoked_certificate_is_refused_from_the_next_connection_on(
    authority: Authority, server: TlsSettings
) -> None:
    settings = server._replace(trusted_ca_file=authority.file, crl_file=authority.revoke(1))
    alice, bob = authority.sign("alice"), authority.sign("bob")
    async with port(settings) as found:
        assert await found.ask(shown(authority, alice)) == b"alice heard hello"
        authority.revoke(alice.serial)
        reason = await found.refuses(shown(authority, alice))
        assert reason == f"transport: certificate serial {alice.serial:x} revoked"
        assert await found.ask(shown(authority, bob)) == b"bob heard hello"


async def test_a_revocation_list_that_cannot_be_read_lets_nobody_in(
    authority: Authority, server: TlsSettings
) -> None:
    settings = server._replace(trusted_ca_file=authority.file, crl_file=authority.revoke(1))
    alice = authority.sign("alice")
    async with port(settings) as found:
        write(settings.crl_file, b"nonsense")
        assert "cannot read the revocation list" in await found.refuses(shown(authority, alice))
    settings = settings._replace(crl_file="/nope")
    async with port(settings) as found:
        assert "no such file" in await found.refuses(shown(authority, alice))


async def test_members_are_tied_to_the_addresses_in_their_certificates(
    authority: Authority, server: TlsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = server._replace(trusted_ca_file=authority.file)
    far = authority.sign("far", hosts=["10.9.9.9"])
    named = authority.sign("named", hosts=["nowhere.invalid"])
    async with port(settings) as found:
        reason = await found.refuses(shown(authority, far))
        assert reason == "x509: certificate is valid for 10.9.9.9, not 127.0.0.1"
        monkeypatch.setattr(found.world.net, "lookup_host", Names().lookup_host)  # the machine's may be slow
        reason = await found.refuses(shown(authority, named))
        assert reason == 'tls: "127.0.0.1" does not match any of DNSNames ["nowhere.invalid"]'
        for hosts in (["127.0.0.1"], ["localhost"], ["10.9.9.9", "localhost"], []):
            near = authority.sign("near", hosts=hosts)
            assert await found.ask(shown(authority, near)) == b"near heard hello"
    async with port(settings._replace(skip_san_check=True)) as found:
        assert await found.ask(shown(authority, far)) == b"far heard hello"


async def test_versions_and_suites_without_a_common_one_do_not_connect(
    authority: Authority, server: TlsSettings
) -> None:
    async with port(server._replace(min_version="TLS1.3")) as found:
        reason = await found.refuses(shown(authority, max_version="TLS1.2"))
        assert reason == "tls: client offered only unsupported versions"
        assert await found.ask(shown(authority)) == b"nobody heard hello"
    async with port(server._replace(cipher_suites=(MODERN,), max_version="TLS1.2")) as found:
        reason = await found.refuses(shown(authority, cipher_suites=(OTHER,)))
        assert reason == "tls: no cipher suite supported by both client and server"
        assert await found.ask(shown(authority, cipher_suites=(OTHER, MODERN))) == b"nobody heard hello"


async def test_a_plain_client_of_a_tls_port_is_refused(authority: Authority, server: TlsSettings) -> None:
    async with port(server) as found:
        plain = found.url.replace("https", "http")
        wrong = "tls: first record does not look like a TLS handshake"
        assert await found.refuses(None, plain) == wrong


async def test_plain_and_tls_share_a_port_where_both_are_wanted(
    authority: Authority, server: TlsSettings
) -> None:
    async with port(server._replace(trusted_ca_file=authority.file), plain_too=True) as found:
        alice = shown(authority, authority.sign("alice"))
        assert await found.ask(alice) == b"alice heard hello"
        assert await found.ask(None, found.url.replace("https", "http")) == b"nobody heard hello"
        assert await found.ask(alice, found.url.replace("https", "http")) == b"nobody heard hello"
        assert await found.ask(alice, found.url.removeprefix("https://")) == b"alice heard hello"


async def test_new_certificates_are_used_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    first = authority.sign("first", hosts=["127.0.0.1"], file="rotated")
    settings = TlsSettings(
        cert_file=first.cert_file, key_file=first.key_file, trusted_ca_file=authority.file
    )
    alice = authority.sign("alice")
    async with port(settings) as found:
        pinned = shown(authority, alice)._replace(allowed_cn="second")
        with pytest.raises(OSError, match="authentication failed"):
            await found.ask(pinned)
        authority.sign("second", hosts=["127.0.0.1"], file="rotated")
        assert await found.ask(pinned) == b"alice heard hello"
        write(first.key_file, first.key)  # the key of the certificate before
        assert await found.refuses(pinned) == "tls: private key does not match public key"
        authority.sign("second", hosts=["127.0.0.1"], file="rotated")
        assert await found.ask(pinned) == b"alice heard hello"
        # The authority's change counts, too.
        other = Authority(tmp_path, "other")
        write(authority.file, other.certificate)
        assert "issuer" in await found.refuses(ClientTls(
            cert_file=alice.cert_file, key_file=alice.key_file, insecure_skip_verify=True
        ))  # fmt: skip


async def test_a_client_that_never_shakes_hands_holds_up_nobody(
    authority: Authority, server: TlsSettings
) -> None:
    async with port(server) as found:
        address = read_url(found.url)
        silent = [await found.world.net.connect(address.host, address.port) for _ in range(5)]
        for connection in silent[1:]:
            await connection.send_all(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
        assert await found.ask(shown(authority)) == b"nobody heard hello"
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("hostile", [
    b"\x16" * 1000, b"\x16\x03\x03\x00\x05\x01\x00\x00\x01\x00", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
])  # fmt: skip
async def test_nonsense_in_a_handshake_ends_that_connection_alone(
    authority: Authority, server: TlsSettings, hostile: bytes
) -> None:
    async with port(server) as found:
        address = read_url(found.url)
        connection = await found.world.net.connect(address.host, address.port)
        with contextlib.suppress(OSError):
            await connection.send_all(hostile)
            while await connection.receive(1000):
                pass
        connection.close()
        assert await found.ask(shown(authority)) == b"nobody heard hello"


@pytest.mark.parametrize(("change", "reason"), [
    ({"cert_file": "/nope"}, "open /nope: no such file or directory"),
    ({"trusted_ca_file": "/nope"}, "open /nope: no such file or directory"),
    ({"cipher_suites": ("TLS_ECDHE_RSA_WITH_RC4_128_SHA",)}, "none of these cipher suites is available"),
])  # fmt: skip
def test_files_that_cannot_be_used_are_explained(
    server: TlsSettings, change: dict[str, Any], reason: str
) -> None:
    world = real_world("tls", write_log=lambda line: None, environment={})
    with pytest.raises((OSError, TlsError), match=reason):
        ServerCredentials(world, server._replace(**change)).context()


def test_a_certificate_and_key_that_are_exchanged_are_explained(server: TlsSettings) -> None:
    world = real_world("tls", write_log=lambda line: None, environment={})
    wrong = server._replace(cert_file=server.key_file, key_file=server.cert_file)
    with pytest.raises(TlsError, match="PEM inputs may have been switched"):
        ServerCredentials(world, wrong).context()


def test_every_suite_of_tls_12_has_a_name_that_openssl_understands() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    modern = [name for name in CIPHERS if "GCM" in name and CIPHERS[name]]
    context.set_ciphers(openssl_ciphers(modern))
    offered = {cipher["name"] for cipher in context.get_ciphers()}
    assert {CIPHERS[name] for name in modern} <= offered
    assert openssl_ciphers(["TLS_AES_128_GCM_SHA256"]) == ""


def test_wildcards_and_addresses_match_as_in_go() -> None:
    certificate = {"subjectAltName": (("DNS", "*.a.example"), ("IP Address", "0:0:0:0:0:0:0:1"))}
    assert matches_host(certificate, "x.a.example")
    assert matches_host(certificate, "X.A.Example.")
    assert matches_host(certificate, "::1")
    for other in ("a.example", "y.x.a.example", "127.0.0.1", ".a.example"):
        assert not matches_host(certificate, other)


class Names:
    """A resolver that knows two hosts."""

    async def lookup_host(self, host: str) -> tuple[str, ...]:
        known = {"n1.a.example": ("10.0.0.1", "::ffff:10.0.0.9"), "localhost": ("127.0.0.1",)}
        if host not in known:
            raise OSError("no such host")
        return known[host]

    async def lookup_address(self, address: str) -> tuple[str, ...]:
        return ("n1.a.example",) if address == "10.0.0.1" else ("else.where",)


@pytest.mark.parametrize(("name", "remote", "ok"), [
    ("n1.a.example", "10.0.0.1:77", True), ("n1.a.example", "10.0.0.9:77", True),
    ("n1.a.example", "10.0.0.2:77", False), ("n2.a.example", "10.0.0.1:77", False),
    ("*.a.example", "10.0.0.1:77", True), ("*.a.example", "10.0.0.2:77", False),
    ("*.a.example", "local:0", True),
])  # fmt: skip
async def test_names_in_certificates_are_resolved(name: str, remote: str, ok: bool) -> None:
    certificate = {"subjectAltName": (("DNS", name),)}
    with contextlib.nullcontext() if ok else pytest.raises(CertificateRefused):
        await check_remote(certificate, remote, Names())


def test_no_revocation_list_revokes_nothing(authority: Authority) -> None:
    check_revoked(b"", [b"whatever"])


@pytest.mark.parametrize(("url", "secure", "place", "authority"), [
    ("http://127.0.0.1:1", False, ("127.0.0.1", 1), "127.0.0.1:1"),
    ("https://[::1]:2/", True, ("::1", 2), "[::1]:2"),
    ("localhost:3", None, ("localhost", 3), "localhost:3"),
    ("unix://localhost:4", False, ("localhost:4", 0), "localhost"),
    ("unixs:///run/a/b", True, ("/run/a/b", 0), "localhost"),
])  # fmt: skip
def test_urls_are_read_as_etcd_reads_them(
    url: str, secure: bool | None, place: tuple[str, int], authority: str
) -> None:
    address = read_url(url)
    assert (address.secure, address.place, address.authority) == (secure, place, authority)


@pytest.mark.parametrize("url", ["", "ftp://a:1", "http://a", "http://a:b", "a", "http://a:1/b", "unix://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="need http"):
        read_url(url)
