"""Passwords and tokens never reach a log, a trace or the disk; real members, so that the files are real."""

from __future__ import annotations

from base64 import b64decode
from functools import partial
from pathlib import Path

import pytest
import trio

from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.auth_passwords import Passwords
from tercet.net.client import open_client
from tercet.net.config import MemberConfig
from tercet.net.member import Running, run_member
from tercet.net.metrics import Metrics
from tercet.net.real import real_world
from tercet.net.world import World
from tercet.sim.contract import run_in_world

_PASSWORD = "a password that nobody else uses"
_WRONG = "another password, mistyped"


def metrics_of(world: World) -> Metrics:
    metrics = getattr(world.probe, "metrics", None)
    assert isinstance(metrics, Metrics)
    return metrics


async def _use(world: World, endpoint: str) -> list[str]:
    """Everything that passwords and tokens are for; the letters of the tokens that were given out."""
    letters: list[str] = []
    async with open_client(world, [endpoint], request_timeout=90) as client:

        async def ask(method: str, request: object) -> object:
            path = f"/etcdserverpb.Auth/{method}"
            return await client.call(path, request, METHODS[path].response.FromString)  # type: ignore[arg-type]

        await ask("UserAdd", rpc.AuthUserAddRequest(name="root", password=_PASSWORD))
        await ask("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        await ask("AuthEnable", rpc.AuthEnableRequest())
        for number in range(3):
            client.metadata = ()  # the last one went with the password
            login = rpc.AuthenticateRequest(name="root", password=_PASSWORD + "!" * number)
            answer = await ask("Authenticate", login)
            assert isinstance(answer, rpc.AuthenticateResponse)
            letters.append(answer.token.partition(".")[0])
            client.metadata = (("token", answer.token),)
            await client.put(b"key", b"value")
            await client.get(b"key")
            change = rpc.AuthUserChangePasswordRequest(name="root", password=_PASSWORD + "!" * (number + 1))
            await ask("UserChangePassword", change)
        with pytest.raises(RpcError, match="invalid user ID or password"):
            await ask("Authenticate", rpc.AuthenticateRequest(name="root", password=_WRONG))
        with pytest.raises(RpcError):  # the token went with the password
            await client.get(b"key")
    return letters


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def test_neither_passwords_nor_tokens_are_found_in_logs_traces_and_files(tmp_path: Path) -> None:
    lines: list[str] = []
    world = real_world("one", log_level="debug", write_log=lines.append)
    settings = MemberConfig(
        name="one", data_dir=str(tmp_path / "data"), listen_client_urls=("http://127.0.0.1:0",),
        listen_peer_urls=("http://127.0.0.1:0",), trace_file=str(tmp_path / "one.trace"), bcrypt_cost=4,
    )  # fmt: skip
    async with trio.open_nursery() as nursery:
        running: Running = await nursery.start(partial(run_member, world, settings))
        letters = await _use(real_world("client"), f"http://{running.client_addresses[0]}")
        metrics = metrics_of(world).render()
        nursery.cancel_scope.cancel()
    kept = [metrics, "\n".join(lines).encode(), *contents(tmp_path)]
    assert sum(b"invalid authentication request" in data for data in kept) == 1
    assert any(b"$2a$04$" in data or b"JDJhJDA0J" in data for data in kept), "hashes are kept"
    assert len(set(letters)) == 3 and all(len(one) == 16 for one in letters)
    for secret in (_PASSWORD, _WRONG, *letters):
        assert not any(secret.encode() in data for data in kept)


def test_tokens_and_salts_of_real_members_cannot_be_computed_from_others() -> None:
    rng = real_world("one").rng
    with pytest.raises(NotImplementedError):
        rng.stream("secret/auth-tokens").getstate()  # the system's: there is no state to learn
    seeded = real_world("one", seed=1).rng
    again = real_world("one", seed=1).rng
    purpose = "secret/auth-tokens"
    assert seeded.stream(purpose).random() == again.stream(purpose).random()


@pytest.mark.parametrize("password", ["x", "", "x" * 72, "x" * 100, "ü" * 36, "nul\0nul", "\N{SNOWMAN}"])
def test_a_password_matches_its_own_hash_and_no_other(password: str) -> None:
    async def test(world: World) -> None:
        passwords = Passwords(world, 4)
        hashed = b64decode(await passwords.hash(password))
        assert hashed.startswith(b"$2a$04$") and len(hashed) == 60
        assert await passwords.matches(password, hashed)
        assert not await passwords.matches("y" + password, hashed)
        assert not await passwords.matches(password, b"")
        assert not await passwords.matches(password, b"no hash")
        assert await passwords.hash(password) != await passwords.hash(password)

    run_in_world(test)


@pytest.mark.parametrize(("cost", "used"), [(4, b"04"), (5, b"05"), (3, b"10"), (32, b"10"), (0, b"10")])
def test_a_cost_out_of_range_becomes_the_default(cost: int, used: bytes) -> None:
    async def test(world: World) -> None:
        hashed = b64decode(await Passwords(world, cost).hash("x"))
        assert hashed[4:6] == used

    run_in_world(test)
