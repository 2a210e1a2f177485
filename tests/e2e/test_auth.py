"""Authentication as users meet it: Debian's etcdctl, PyPI's etcd3, certificates that name their user."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import missing_program
from ..net.tls_files import Authority
from .processes import HOST, PATIENCE, PATIENT_FLAGS, Cluster, environment

HERE = Path(__file__).parent
TOOLS = HERE.parent.parent / ".tools"
_FLAGS = ("--bcrypt-cost", "4")
_ROOT = ("--user", "root:rpw")
_ALICE = ("--user", "alice:apw")


def furnish(cluster: Cluster) -> None:
    """Users root and alice, who may do everything below app/; authentication is on."""
    for command in (
        ("user", "add", "root:rpw"),
        ("user", "add", "alice:apw"),
        ("role", "add", "app"),
        ("role", "grant-permission", "app", "readwrite", "app/", "--prefix"),
        ("user", "grant-role", "alice", "app"),
        ("put", "other", "secret"),
        ("auth", "enable"),
    ):
        cluster.etcdctl(*command)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("auth"), 3, flags=_FLAGS) as running:
        furnish(running)
        yield running


def failure(cluster: Cluster, *command: str) -> str:
    """What a command that must fail says."""
    said = cluster.etcdctl(*command, check=False)
    assert "Error" in said
    return said


@pytest.mark.needs("etcdctl")
def test_etcdctl_does_what_its_user_may_on_every_member(cluster: Cluster) -> None:
    for member in cluster.members:
        at = ("--endpoints", member.endpoint)
        assert cluster.etcdctl(*at, *_ALICE, "put", "app/a", member.name) == "OK\n"
        assert cluster.etcdctl(*at, *_ALICE, "get", "app/a") == f"app/a\n{member.name}\n"
        assert "permission denied" in failure(cluster, *at, *_ALICE, "get", "other")
        assert "permission denied" in failure(cluster, *at, *_ALICE, "user", "list")
        assert "user name is empty" in failure(cluster, *at, "get", "app/a")
        assert "invalid user ID or password" in failure(cluster, *at, "--user", "alice:no", "get", "app/a")
        assert cluster.etcdctl(*at, *_ROOT, "get", "other") == "other\nsecret\n"


@pytest.mark.needs("etcdctl")
def test_a_restarted_member_remembers_users_and_roles(cluster: Cluster) -> None:
    member = cluster.members[1]
    member.stop()
    member.start()
    cluster.wait_healthy([member])
    at = ("--endpoints", member.endpoint)
    assert cluster.etcdctl(*at, *_ROOT, "role", "get", "app").startswith("Role app\nKV Read:\n\t[app/, app0)")
    assert "permission denied" in failure(cluster, *at, *_ALICE, "get", "other")


@pytest.mark.needs("etcdctl")
def test_the_gateway_takes_tokens(cluster: Cluster) -> None:
    url = f"http://{cluster.members[0].endpoint}/v3"

    def post(path: str, body: dict[str, str], token: str = "") -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(f"{url}/{path}", data=json.dumps(body).encode())
        if token:
            request.add_header("Authorization", token)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    status, answer = post("auth/authenticate", {"name": "alice", "password": "apw"})
    assert status == 200
    token = str(answer["token"])
    get = {"key": "YXBwL2c="}
    assert post("kv/put", {**get, "value": "MQ=="}, token)[0] == 200
    assert post("kv/range", get, token)[1]["kvs"]
    assert post("kv/range", get)[0] == 400
    assert post("kv/range", get, "letters.1")[0] == 401
    assert post("kv/range", {"key": "b3RoZXI="}, token)[0] == 403


# This package sends tokens over TLS alone.
_PYTHON_CLIENT = """
import sys, etcd3
host, port, authority, certificate, key = sys.argv[1:]
client = etcd3.client(
    host=host, port=int(port), ca_cert=authority, cert_cert=certificate, cert_key=key,
    user="carol", password="cpw",
)
client.put("app/py", "1")
assert client.get("app/py")[0] == b"1"
try:
    client.get("other")
except Exception as error:
    print(error.details() if hasattr(error, "details") else error)
"""


@pytest.mark.needs("etcdctl")
def test_a_common_name_is_a_user_on_grpc_nobody_on_the_gateway_and_less_than_a_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.sign("server", hosts=[HOST])
    people = {name: authority.sign(name) for name in ("root", "alice", "mallory")}
    flags = [
        *_FLAGS, "--cert-file", server.cert_file, "--key-file", server.key_file,
        "--trusted-ca-file", authority.file, "--client-cert-auth",
    ]  # fmt: skip
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(people["root"].cert_file, people["root"].key_file)
    with Cluster(tmp_path / "data", 1, flags=flags, tls=context) as cluster:
        endpoint = f"https://{cluster.members[0].endpoint}"

        def etcdctl(name: str, *words: str) -> str:
            pair = people[name]
            shown = ("--cacert", authority.file, "--cert", pair.cert_file, "--key", pair.key_file)
            done = subprocess.run(
                ["etcdctl", *PATIENT_FLAGS, "--endpoints", endpoint, *shown, *words],
                capture_output=True, text=True, timeout=PATIENCE, env=environment() | {"ETCDCTL_API": "3"},
            )  # fmt: skip
            return done.stdout + done.stderr

        for command in (
            ("user", "add", "root", "--no-password"),
            ("user", "add", "alice", "--no-password"),
            ("user", "add", "carol:cpw"),
            ("role", "add", "app"),
            ("role", "grant-permission", "app", "readwrite", "app/", "--prefix"),
            ("user", "grant-role", "alice", "app"),
            ("user", "grant-role", "carol", "app"),
            ("put", "other", "secret"),
            ("auth", "enable"),
        ):
            assert "Error" not in etcdctl("root", *command)
        assert etcdctl("alice", "put", "app/a", "1") == "OK\n"
        assert etcdctl("alice", "get", "app/a") == "app/a\n1\n"
        assert "permission denied" in etcdctl("alice", "get", "other")
        assert "permission denied" in etcdctl("mallory", "get", "app/a")
        assert etcdctl("root", "get", "other") == "other\nsecret\n"
        assert etcdctl("root", "lock", "other-lock", "echo", "held") == "held\n"
        assert "permission denied" in etcdctl("alice", "lock", "other-lock", "echo", "held")
        request = urllib.request.Request(f"{endpoint}/v3/kv/range", data=b'{"key": "b3RoZXI="}')
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=PATIENCE, context=context)
        assert "user name is empty" in caught.value.read().decode()
        python = TOOLS / "python-etcd3" / "bin" / "python"
        if not python.exists():
            missing_program("PyPI's etcd3 is not installed; `make tools` does it")
        shown = (authority.file, people["mallory"].cert_file, people["mallory"].key_file)
        port = str(cluster.members[0].client_port)
        done = subprocess.run(
            [str(python), "-c", _PYTHON_CLIENT, HOST, port, *shown],
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert (done.returncode, "permission denied" in done.stdout) == (0, True), done.stdout + done.stderr
