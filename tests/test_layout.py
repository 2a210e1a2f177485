"""The walls of the house: folders, packaging, import rules, and what drivers must not touch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "jepsen_like", "net", "reports", "sim")
#: Files of net that run as a process of their own or implement the real ports.
NOT_DRIVERS = {
    "net/real.py",
    "net/real_backend.py",
    "net/real_disk.py",
    "net/real_dns.py",
    "net/real_threads.py",
    "net/tls_auto.py",
    "net/tls_chain.py",
    "net/cluster.py",
    "net/process.py",
    "net/fail_points.py",
    "net/runtime_metrics.py",
    "net/proxy_commands.py",
    "net/grpc_proxy/command.py",
    "net/flags.py",
    "net/log.py",
    "net/log_outputs.py",
    "net/log_rotation.py",
}
#: Modules a driver must reach through its World.
FORBIDDEN_MODULES = {
    "asyncio", "datetime", "os", "secrets", "socket", "subprocess", "threading", "time", "uuid",
}  # fmt: skip
FORBIDDEN_TRIO = re.compile(
    r"sleep|sleep_until|move_on_\w+|fail_\w+|current_time|open_\w*stream\w*|open_file|to_thread"
    r"|socket|run_process|serve_\w+|Path"
)


def project() -> dict[str, dict[str, dict[str, object]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def python_files(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py") if not p.name.endswith("_pb2.py"))


def test_the_package_list_names_every_package_on_the_disk() -> None:
    listed = project()["tool"]["setuptools"]["packages"]
    found = ["tercet"]
    for folder in FOLDERS:
        for init in (ROOT / folder).rglob("__init__.py"):
            found.append("tercet." + ".".join(init.parent.relative_to(ROOT).parts))
    assert listed == sorted(found)


def test_the_import_name_is_mapped_and_linked_to_the_root_folders() -> None:
    mapping = project()["tool"]["setuptools"]["package-dir"]
    assert mapping == {"tercet": "src/tercet", **{f"tercet.{name}": name for name in FOLDERS}}
    for name in FOLDERS:
        link = ROOT / "src" / "tercet" / name
        assert link.is_symlink()
        assert str(link.readlink()) == f"../../{name}"


def test_the_root_folders_are_no_top_level_packages(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import core"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_every_module_says_what_it_is_and_what_is_public() -> None:
    silent = []
    for folder in FOLDERS:
        for path in python_files(folder):
            tree = ast.parse(path.read_text())
            assigns = (n for n in tree.body if isinstance(n, ast.Assign))
            exports = any(ast.unparse(n.targets[0]) == "__all__" for n in assigns)
            only_doc = len(tree.body) <= 1
            if ast.get_docstring(tree) is None or not (only_doc or exports):
                silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def _escapes(path: Path) -> list[str]:
    """What a driver uses of the machine behind the World's back."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found += [a.name for a in names if a.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in FORBIDDEN_MODULES:
                found.append(module)
            case ast.Attribute(value=ast.Name(id="trio"), attr=attr) if FORBIDDEN_TRIO.fullmatch(attr):
                found.append(f"trio.{attr}")
            case ast.Call(func=ast.Name(id="open")):
                found.append("open()")
    return [f"{path.relative_to(ROOT)}: {name}" for name in found]


def test_drivers_use_nothing_of_the_machine_but_their_world() -> None:
    escapes = []
    for path in python_files("net"):
        relative = str(path.relative_to(ROOT))
        if relative not in NOT_DRIVERS and not relative.startswith("net/ctl/"):
            escapes += _escapes(path)
    assert escapes == []


@pytest.mark.parametrize(
    "text", ["import time", "import trio\ntrio.sleep(1)", "from socket import socket", "open('x')"]
)
def test_the_driver_rule_would_notice(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "driver.py").write_text(text)
    assert _escapes(tmp_path / "driver.py")


def test_only_one_module_touches_trios_private_names() -> None:
    private = re.compile(r"_ALLOW_DETERMINISTIC_SCHEDULING|trio\._core")
    users = [
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in python_files(folder)
        if private.search(path.read_text())
    ]
    assert users == ["sim/seeds.py"]


def test_no_file_names_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    pattern = re.compile(r"(?<![\w.])/(?:wor" + r"k|far" + r"m|roo" + r"t|home/[a-z]+)/")
    named = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_symlink() or not path.is_file() or path.suffix in {".png", ".ico"}:
            continue
        if pattern.search(path.read_text(errors="replace")):
            named.append(name)
    assert named == []
