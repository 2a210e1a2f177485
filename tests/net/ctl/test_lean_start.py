"""What a command must not bring along: a program that makes one call has no time for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Each takes longer to import than a call to make.
HEAVY = {"asyncio", "dataclasses", "hpack", "inspect", "logging", "msgspec", "ssl", "trio"}
IMPORTS = """
import os, sys
from tercet.net.ctl.etcdctl_table import ETCDCTL
from tercet.net.ctl.run import run_program
run_program(ETCDCTL, sys.argv[1:], {})
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
NOWHERE = ("--endpoints=127.0.0.1:1", "--command-timeout=10ms")


@pytest.mark.parametrize(
    "words",
    ["get k", "put k v", "del k", "lease grant 5", "user list", "role get r", "member list", "version"],
)
def test_a_command_that_makes_one_call_imports_little(words: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "COVERAGE_PROCESS_START"}
    command = [sys.executable, "-c", IMPORTS, *NOWHERE, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(done.stderr.splitlines()[-1].split()) == set()
