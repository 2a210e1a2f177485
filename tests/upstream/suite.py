"""etcd's own end-to-end suite against this project: one command, one table.

    python tests/upstream/suite.py                         our server, Debian's etcdctl: every v3 test
    python tests/upstream/suite.py --ctl ours              both ours
    python tests/upstream/suite.py --server real --ctl ours    judges the command line alone
    python tests/upstream/suite.py --run 'TestCtlV3Put.*' --verbose

Debian packages the sources of etcd 3.4.23 with its tests (``golang-etcd-server-dev``; the compiler is
``golang-go``). The suite starts ``etcd`` and ``etcdctl`` from a folder; here that folder holds wrappers that
``exec`` what is to be tested. Each test runs in a process and, where the machine allows it, in a network
namespace of its own, so that a test that hangs or leaves something behind cannot harm the next, and several
may run at once.
The suite is compiled as Debian ships it, but that a test may take more than its 15 s.
``expected.json`` lists the tests that need not pass, each with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "Suite", "expected_failures"]

SOURCES = Path("/usr/share/gocode/src/go.etcd.io/etcd/tests/e2e")
VERSION = "3.4.23"  # the suite looks for its own version in /metrics
PACKAGES = "golang-go golang-etcd-server-dev etcd-server etcd-client"
#: The API that a test is about; the old ones are an option of their own.
V2 = re.compile(r"V2|ReleaseUpgrade|Migrate")
#: Where the suite says how long a test may take, what, and what is said instead.
HURRIED = ("ctl_v3_test.go", "2*cx.dialTimeout + time.Second", "2*cx.dialTimeout + 90*time.Second")
MOST_OUTPUT_LINES = 25
#: Ways to a network and processes of one's own: as root, and with a user namespace where that is allowed.
ISOLATE = ("unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc")
ISOLATE_WITHOUT_ROOT = (*ISOLATE, "-r")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended: ``pass``, ``fail``, ``skip`` or ``timeout``; with what it printed."""

    test: str
    verdict: str
    seconds: float
    output: str


def expected_failures(server: str = "ours", ctl: str = "real") -> dict[str, str]:
    """Tests that need not pass, with the reason: by either of our programs, where it is tried."""
    path = Path(__file__).with_name("expected.json")
    listed: dict[str, dict[str, str]] = json.loads(path.read_text())
    found = dict(listed["tercet"] if server == "ours" else {})
    return found | (listed["tercetctl"] if ctl == "ours" else {})


class Suite:
    """The compiled suite and the programs it is pointed at; use as a context manager.

    Args:
        server: ``ours`` or ``real``.
        ctl: ``ours`` or ``real``.

    Raises:
        FileNotFoundError: a Debian package is missing; the message names what to install.
    """

    def __init__(self, server: str = "ours", ctl: str = "real") -> None:
        missing = [name for name in ("go", "etcd", "etcdctl", "unshare") if shutil.which(name) is None]
        if missing or not SOURCES.is_dir():
            raise FileNotFoundError(f"the suite needs Debian's packages: apt-get install {PACKAGES}")
        self._folder = tempfile.TemporaryDirectory(prefix="etcd-suite-")
        folder = Path(self._folder.name)
        self._binary = folder / "e2e.test"
        self._programs = folder / "bin"
        self._programs.mkdir()
        #: How a test gets a network of its own; (): this machine has no way, and tests run one at a time.
        self.isolation = next(filter(_works, (ISOLATE, ISOLATE_WITHOUT_ROOT)), ())
        ours = Path(sys.executable).parent
        if server == "ours":
            self._wrap("etcd", ours / "tercet", PYTHONUTF8="1", ETCD_REPORTED_VERSION=VERSION)
        else:
            self._wrap("etcd", Path(shutil.which("etcd") or ""))
        if ctl == "ours":
            self._wrap("etcdctl", ours / "tercetctl", PYTHONUTF8="1")
        else:
            self._wrap("etcdctl", Path(shutil.which("etcdctl") or ""))
        self._compile()

    def __enter__(self) -> Suite:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _wrap(self, name: str, program: Path, **environment: str) -> None:
        if not program.is_file():
            raise FileNotFoundError(f"{program} is not installed")
        wrapper = self._programs / name
        exports = "".join(f"export {key}={value}\n" for key, value in environment.items())
        # Compiled modules are kept: the tests begin a thousand processes.
        wrapper.write_text(f'#!/bin/sh\nunset PYTHONDONTWRITEBYTECODE\n{exports}exec {program} "$@"\n')
        wrapper.chmod(0o755)

    def _compile(self) -> None:
        """Compile the suite as it is, but for the 15 s that it gives a test: slowness is no failure."""
        patient, replaced = self._binary.with_name("patient_test.go"), self._binary.with_name("overlay.json")
        text = (SOURCES / HURRIED[0]).read_text()
        if HURRIED[1] not in text:
            raise FileNotFoundError(f"{HURRIED[0]} is not that of etcd {VERSION}")
        patient.write_text(text.replace(HURRIED[1], HURRIED[2]))
        replaced.write_text(json.dumps({"Replace": {str(SOURCES / HURRIED[0]): str(patient)}}))
        environment = {**os.environ, "GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOFLAGS": ""}
        command = ["go", "test", "-c", "-overlay", str(replaced), "-o", str(self._binary), "."]
        subprocess.run(command, cwd=SOURCES, env=environment, check=True)

    def names(self, pattern: str = ".", *, old_api: bool = False) -> list[str]:
        """The tests whose names match, in the suite's order."""
        listed = subprocess.run(
            [self._binary, "-test.list", "."], cwd=SOURCES, capture_output=True, text=True, check=True
        ).stdout.split()
        return [
            name for name in listed
            if name.startswith("Test") and re.search(pattern, name) and (old_api or not V2.search(name))
        ]  # fmt: skip

    def run(self, test: str, seconds: float = 240.0) -> Outcome:
        """Run one test, at most so long."""
        script = (
            f"exec {self._binary} -test.v -test.run '^{test}$' "
            f"-test.timeout {int(seconds)}s -bin-dir {self._programs}"
        )
        command = ["sh", "-c", script]
        if self.isolation:
            command = [*self.isolation, "sh", "-c", f"ip link set lo up; {script}"]
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="etcd-suite-data-") as scratch:
            environment = {**os.environ, "TMPDIR": scratch}
            try:
                finished = subprocess.run(
                    command, cwd=SOURCES, env=environment, stdin=subprocess.DEVNULL, timeout=seconds + 30,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                    check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired as late:
                output = (late.stdout or b"").decode(errors="replace")
                return Outcome(test, "timeout", time.monotonic() - started, output)
        spent, output = time.monotonic() - started, finished.stdout
        if "panic: test timed out" in output:
            return Outcome(test, "timeout", spent, output)
        if f"--- SKIP: {test}" in output:
            return Outcome(test, "skip", spent, output)
        # What the suite says after that is about its own goroutines.
        passed = finished.returncode == 0 or f"--- PASS: {test} " in output
        return Outcome(test, "pass" if passed else "fail", spent, output)

    def run_all(self, names: list[str], jobs: int) -> Iterator[Outcome]:
        """Run the tests, several at once; outcomes come in the order of ``names``."""
        with ThreadPoolExecutor(jobs if self.isolation else 1) as pool:
            yield from pool.map(self.run, names)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run etcd 3.4.23's own end-to-end suite.", epilog=f"Needs, on Debian: {PACKAGES}"
    )
    parser.add_argument("--server", choices=("ours", "real"), default="ours", help="which etcd (ours)")
    parser.add_argument("--ctl", choices=("ours", "real"), default="real", help="which etcdctl (real)")
    parser.add_argument("--run", default=".", metavar="REGEX", help="only tests whose names match")
    parser.add_argument("--old-api", action="store_true", help="the tests of API 2 and of upgrades, too")
    parser.add_argument("--jobs", type=int, default=2, help="tests at once (2)")
    parser.add_argument("--verbose", action="store_true", help="print the end of what failing tests said")
    parser.add_argument("--json", action="store_true", help="one object a line instead of the table")
    arguments = parser.parse_args()
    reasons = expected_failures(arguments.server, arguments.ctl)
    counts: dict[str, int] = {}
    surprises = []
    with Suite(arguments.server, arguments.ctl) as suite:
        for outcome in suite.run_all(suite.names(arguments.run, old_api=arguments.old_api), arguments.jobs):
            counts[outcome.verdict] = counts.get(outcome.verdict, 0) + 1
            reason = reasons.get(outcome.test, "") if outcome.verdict != "pass" else ""
            if outcome.verdict in ("fail", "timeout") and not reason:
                surprises.append(outcome.test)
            _show(outcome, reason, as_json=arguments.json, verbose=arguments.verbose)
    if not arguments.json:
        print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
        print(f"{len(surprises)} without a listed reason{': ' if surprises else ''}{' '.join(surprises)}")
    return 1 if surprises else 0


def _works(isolation: tuple[str, ...]) -> bool:
    return subprocess.run([*isolation, "true"], capture_output=True, check=False).returncode == 0


def _show(outcome: Outcome, reason: str, *, as_json: bool, verbose: bool) -> None:
    if as_json:
        row = {"test": outcome.test, "verdict": outcome.verdict, "seconds": round(outcome.seconds, 1)}
        print(json.dumps({**row, "reason": reason}), flush=True)
    else:
        print(f"{outcome.verdict:8}{outcome.seconds:6.1f} s  {outcome.test}  {reason}", flush=True)
    if verbose and outcome.verdict in ("fail", "timeout"):
        lines = [line for line in outcome.output.splitlines() if not line.startswith('{"level"')]
        for line in lines[-MOST_OUTPUT_LINES:]:
            print(f"    {line[:400]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
