"""What all tests share: programs that a test needs, and what happens when one is missing.

``@pytest.mark.needs("etcdctl")`` skips a test without the program on a machine of one's own; in continuous
integration (``CI=true``) the same test fails instead, so that nothing is skipped unseen.

No example of a property test has a deadline: how fast the machine is decides nothing here. In continuous
integration its examples are the same every time; elsewhere it goes on searching.
"""

from __future__ import annotations

import os
import shutil
import signal

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "tercet",
    deadline=None,
    print_blob=True,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tercet")


def pytest_configure(config: pytest.Config) -> None:
    # Whoever ends the tests means their servers, too: fixtures and context managers end them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "needs(*programs): skip the test when one of the programs is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if shutil.which(program) is None]
        if missing:
            missing_program(f"{', '.join(missing)} not installed; `make test` says how to get it")


def missing_program(reason: str) -> None:
    """Skip the running test, or fail it in continuous integration."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
