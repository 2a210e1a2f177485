"""Signed tokens: every algorithm, every wrong option, and tokens that must not pass."""

from __future__ import annotations

from collections.abc import Callable

import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tercet.core.auth.values import Identity
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.auth_jwt import JwtTokens
from tercet.net.auth_options import parse_options
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .auth_desk import PASSWORDS, AuthDesk, with_auth_desk

Keys = tuple[bytes, bytes]  # public, private


def _pem(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> Keys:
    return (
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


@pytest.fixture(scope="module")
def keys() -> dict[str, Keys]:
    rsa_key = _pem(rsa.generate_private_key(65537, 2048))
    return {
        "RS256": rsa_key, "PS256": rsa_key, "RS512": rsa_key,
        "other RSA": _pem(rsa.generate_private_key(65537, 2048)),
        "ES256": _pem(ec.generate_private_key(ec.SECP256R1())),
        "ES384": _pem(ec.generate_private_key(ec.SECP384R1())),
        "EdDSA": _pem(ed25519.Ed25519PrivateKey.generate()),
        "HS256": (b"", b"a shared secret of at least thirty-two bytes"),
    }  # fmt: skip


def _tokens(
    keys: Keys, method: str, wall: Callable[[], float] = lambda: 1000.0, *, only: str = "", **options: str
) -> JwtTokens:
    files = {"pub": keys[0], "priv": keys[1]}
    named = {"pub-key": "pub", "priv-key": "priv"}
    if only:
        named = {only: named[only]}
    if not keys[0]:
        named.pop("pub-key")
    return JwtTokens({"sign-method": method, **named, **options}, files.__getitem__, wall)


@pytest.mark.parametrize("method", ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "HS256"])
def test_what_is_signed_is_known_until_it_is_too_old(keys: dict[str, Keys], method: str) -> None:
    now = [1000.0]
    tokens = _tokens(keys[method], method, lambda: now[0], ttl="90s")
    token = tokens.issue("", "", "alice", 7)
    assert jwt.get_unverified_header(token)["alg"] == method
    for now[0] in (1000.0, 1089.0, 1089.5):
        assert tokens.look_up(token) == Identity("alice", 7)
    now[0] = 1090.0
    assert tokens.look_up(token) is None
    assert tokens.look_up(token[:-4] + "AAAA") is None


def test_a_public_key_checks_and_does_not_sign(keys: dict[str, Keys]) -> None:
    token = _tokens(keys["ES256"], "ES256").issue("", "", "alice", 7)
    checker = _tokens(keys["ES256"], "ES256", only="pub-key")
    assert checker.look_up(token) == Identity("alice", 7)
    with pytest.raises(RpcError, match="verify-only key"):
        checker.require_signing()
    with pytest.raises(RpcError, match="verify-only key"):
        checker.issue("", "", "alice", 7)


def test_tokens_of_other_keys_other_algorithms_and_none_are_refused(keys: dict[str, Keys]) -> None:
    tokens = _tokens(keys["RS256"], "RS256")
    claims = {"username": "root", "revision": 7, "exp": 2000}
    public, private = keys["RS256"]
    forged = [
        _tokens(keys["other RSA"], "RS256").issue("", "", "root", 7),
        jwt.encode(claims, private, algorithm="RS512"),
        jwt.encode(claims, private, algorithm="PS256"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode({"username": "root", "exp": 2000}, private, algorithm="RS256"),
        jwt.encode({"revision": 7, "exp": 2000}, private, algorithm="RS256"),
        jwt.encode({"username": "root", "revision": 7}, private, algorithm="RS256"),
        jwt.encode({**claims, "revision": 0}, private, algorithm="RS256"),
        jwt.encode({**claims, "revision": "7"}, private, algorithm="RS256"),
        jwt.encode({**claims, "username": 7}, private, algorithm="RS256"),
        jwt.encode({**claims, "exp": 999}, private, algorithm="RS256"),
        "", "x", "a.b.c", "letters.5", "é",
    ]  # fmt: skip
    assert [token for token in forged if tokens.look_up(token) is not None] == []
    assert tokens.look_up(jwt.encode(claims, private, algorithm="RS256")) == Identity("root", 7)
    assert public in keys["RS256"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jwt", "signature method"),
        ("jwt,sign-method=none,priv-key=k", "signature method"),
        ("jwt,sign-method=XX,priv-key=k", "signature method"),
        ("jwt,sign-method=RS256", "missing key data"),
        ("jwt,sign-method=HS256,pub-key=k", "missing key data"),
        ("jwt,sign-method=RS256,priv-key=es", "not one for RS256"),
        ("jwt,sign-method=ES384,priv-key=es", "secp384r1"),
        ("jwt,sign-method=ES256,priv-key=es,pub-key=other", "don't match"),
        ("jwt,sign-method=ES256,priv-key=junk", "cannot be read"),
        ("jwt,sign-method=ES256,pub-key=junk", "cannot be read"),
        ("jwt,sign-method=ES256,priv-key=es,color=red", "invalid auth options"),
        ("jwt,sign-method=ES256,priv-key=es,ttl=soon", "soon"),
    ],
)
def test_a_wrong_option_is_refused_at_the_start(keys: dict[str, Keys], text: str, words: str) -> None:
    files = {"es": keys["ES256"][1], "other": keys["ES384"][0], "junk": b"junk", "k": b"secret"}
    kind, options = parse_options(text)
    assert kind == "jwt"
    with pytest.raises(ValueError, match=words):
        JwtTokens(options, files.__getitem__, lambda: 0.0)


@pytest.mark.parametrize("text", ["jwt,x", "jwt,a=b=c", "jwt,a=1,a=2", "simple,"])
def test_options_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid auth options"):
        parse_options(text)


def test_a_cluster_with_signed_tokens_asks_for_a_new_one_after_every_change(keys: dict[str, Keys]) -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        get = rpc.RangeRequest(key=b"a/x")
        token = desk.tokens["alice"]
        assert token.count(".") == 2
        assert (await desk.wait("KV/Range", get, token=token)).kvs[0].value == b"secret-a"
        put = await desk.answer("KV/Put", rpc.PutRequest(key=b"a/x"), token=token)
        assert put.status == (0, "")
        await desk.wait("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="new"), token=desk.tokens["root"])
        old = (3, "etcdserver: revision of auth store is old")
        assert (await desk.answer("KV/Range", get, token=token)).status == old
        assert (await desk.answer("KV/Put", rpc.PutRequest(key=b"a/x"), token=token)).status == old
        renewed = await desk.log_in("alice")
        assert (await desk.answer("KV/Range", get, token=renewed)).status == (0, "")
        await desk.world.clock.sleep(301)
        refused = (16, "etcdserver: invalid auth token")
        assert (await desk.answer("KV/Range", get, token=renewed)).status == refused

    def prepare(world: World) -> None:
        world.disk.make_dirs("/keys")
        world.disk.write_atomic("/keys/priv", keys["EdDSA"][1])

    with_auth_desk(test, prepare=prepare, auth_token="jwt,sign-method=EdDSA,priv-key=/keys/priv")


def test_a_member_with_a_public_key_gives_out_no_tokens(keys: dict[str, Keys]) -> None:
    async def run(world: World) -> None:
        world.disk.make_dirs("/keys")
        world.disk.write_atomic("/keys/pub", keys["EdDSA"][0])
        desk = AuthDesk(world, auth_token="jwt,sign-method=EdDSA,pub-key=/keys/pub", bcrypt_cost=4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.run)
            await world.clock.sleep(0.01)
            add = rpc.AuthUserAddRequest(name="root", password=PASSWORDS["root"])
            await desk.wait("Auth/UserAdd", add)
            await desk.wait("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
            await desk.wait("Auth/AuthEnable", rpc.AuthEnableRequest())
            login = rpc.AuthenticateRequest(name="root", password=PASSWORDS["root"])
            call = await desk.answer("Auth/Authenticate", login)
            assert call.status == (2, "auth: token signing attempted with verify-only key")
            nursery.cancel_scope.cancel()

    run_in_world(run)
