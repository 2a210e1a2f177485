"""``tercet cluster``: one command, three members, a clean end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tercet.net import cluster as launching
from tercet.net.cluster import MemberProcess, plan_members

from .processes import PATIENCE, environment, free_ports, keep_port, wait_until


class Launcher:
    """The command as a process, with what it printed."""

    def __init__(self, folder: Path, port: int) -> None:
        self.out = folder / "out"
        with open(self.out, "ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tercet", "cluster", "--port", str(port), "--port-step", "10"],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(),
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.out.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@pytest.fixture
def port() -> int:
    """A port with the ports of the other members and of the peers free, too."""

    def found() -> int | None:
        (first,) = free_ports(1)
        wanted = plan_members(Path("x"), first_client_port=first, step=10)
        ports = [port for plan in wanted for port in (plan.client_port, plan.peer_port)]
        try:
            for port in ports:
                if port != first:
                    keep_port(port)
        except (OSError, OverflowError):
            return None
        return first

    return int(wait_until("six free ports", found))


@pytest.mark.needs("etcdctl")
def test_the_cluster_greets_serves_and_keeps_its_data(tmp_path: Path, port: int) -> None:
    launcher = Launcher(tmp_path, port)
    try:
        wait_until("the greeting", lambda: "Ctrl-C stops the cluster" in launcher.text)
        assert len(re.findall(r"^  n[123] .* leader$", launcher.text, re.MULTILINE)) == 1
        put, get, status = re.findall(r"^  (etcdctl --endpoints \S+ .*)$", launcher.text, re.MULTILINE)
        patient = {"ETCDCTL_DIAL_TIMEOUT": "60s", "ETCDCTL_COMMAND_TIMEOUT": "60s"}
        shell = environment() | {"ETCDCTL_API": "3", **patient}
        assert subprocess.check_output(put.split(), env=shell, text=True) == "OK\n"
        assert subprocess.check_output(get.split(), env=shell, text=True) == "hello\nworld\n"
        assert subprocess.check_output(status.split(), env=shell, text=True).count("3.4.35") == 3

        second = Launcher(tmp_path / "..", port)
        assert second.process.wait(PATIENCE) == 1
        assert f"port {port}, " in second.text
        second.out.unlink()

        assert launcher.stop() == 0
        assert launcher.text.endswith("\nstopping ...\nstopped\n")
        launcher = Launcher(tmp_path, port)
        wait_until("the second greeting", lambda: launcher.text.count("Ctrl-C stops the cluster") == 2)
        assert subprocess.check_output(get.split(), env=shell, text=True) == "hello\nworld\n"
    finally:
        assert launcher.stop() == 0


def test_a_member_that_dies_is_reported_and_the_others_go_on(tmp_path: Path, port: int) -> None:
    launcher = Launcher(tmp_path, port)
    try:
        wait_until("the greeting", lambda: "Ctrl-C stops the cluster" in launcher.text)
        children = Path(f"/proc/{launcher.process.pid}/task/{launcher.process.pid}/children")
        victim = int(children.read_text().split()[1])
        subprocess.run(["kill", "-9", str(victim)], check=True)
        wait_until("the report", lambda: "n2 ended with -9" in launcher.text)
        assert launcher.process.poll() is None
    finally:
        assert launcher.stop() == 1


def test_the_customary_ports_are_the_default() -> None:
    plans = plan_members(Path("data"))
    assert [(plan.name, plan.client_port, plan.peer_port) for plan in plans] == [
        ("n1", 2379, 2380), ("n2", 22379, 22380), ("n3", 32379, 32380),
    ]  # fmt: skip


def test_a_leader_that_is_long_in_coming_is_greeted_all_the_same(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "READY_SECONDS", 0.0)
    member = MemberProcess(plan_members(tmp_path, size=1, first_client_port=port)[0])
    member.process.send_signal(signal.SIGSTOP)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        member.process.send_signal(signal.SIGCONT)

    try:
        trio.run(launching._greet, [member], say)
    finally:
        member.stop()
        member.wait()
    late, greeting = said
    assert late == f"no leader within 0 s; the logs are in {tmp_path}"
    assert "leader" in greeting and "Ctrl-C stops the cluster" in greeting
