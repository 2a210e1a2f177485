"""Run nghttp2's h2load once and read what it measured.

h2load repeats one request over many HTTP/2 streams and writes a line a request (start, status, microseconds)
into a log, from which the percentiles come. It checks the HTTP status only, so the caller must check by
other means that the requests did what they should (``targets.revision``).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "LoadFailed", "Measurement", "parse_load", "run_h2load"]


class LoadFailed(RuntimeError):
    """h2load is missing, ended badly, or some requests were not answered with status 200."""


@dataclass(frozen=True, slots=True)
class Load:
    """``connections`` x ``streams`` requests under way at once."""

    connections: int
    streams: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


@dataclass(frozen=True, slots=True)
class Measurement:
    requests: int
    seconds: float
    throughput: float  # requests a second
    p50_ms: float
    p99_ms: float


def parse_load(text: str) -> Load:
    """Read ``16x16``; ``ValueError`` names what is wrong."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if not match or not 0 < int(match[1]) <= 1000 or not 0 < int(match[2]) <= 1000:
        raise ValueError(f"a load is CONNECTIONSxSTREAMS, each 1 to 1000, such as 16x16; got {text!r}")
    return Load(int(match[1]), int(match[2]))


def run_h2load(
    url: str, body: bytes, load: Load, requests: int, *, timeout_seconds: float = 300.0, window_bits: int = 20
) -> Measurement:
    """Send ``requests`` POSTs of ``body`` to ``url`` and measure them.

    Raises:
        LoadFailed: h2load is missing or a request failed; nothing is known of the others.
    """
    program = shutil.which("h2load")
    if program is None:
        raise LoadFailed("h2load is not installed; on Debian: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="tercet-bench-") as folder:
        data, log = Path(folder, "body"), Path(folder, "log")
        data.write_bytes(body)
        command = [
            program, "-n", str(requests), "-c", str(load.connections), "-m", str(load.streams), "-t", "1",
            "-w", str(window_bits), "-W", str(max(24, window_bits)), "-d", str(data), f"--log-file={log}",
            "-H", "content-type: application/grpc", "-H", "te: trailers", url,
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"h2load did not end within {timeout_seconds:.0f} s at {url}") from None
        return _read(done.stdout, log, requests)


def _read(output: str, log: Path, requests: int) -> Measurement:
    finished = re.search(r"finished in ([0-9.]+)(us|ms|s|m)", output)
    good = re.search(r"status codes: (\d+) 2xx", output)
    succeeded = re.search(r"(\d+) succeeded, (\d+) failed", output)
    if not finished or not good or not succeeded or int(good[1]) < requests or int(succeeded[2]):
        raise LoadFailed(f"h2load had failures:\n{output.strip() or 'no output'}")
    seconds = float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[finished[2]]
    micros = sorted(int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines() if line)
    return Measurement(
        requests=requests,
        seconds=seconds,
        throughput=requests / seconds,
        p50_ms=micros[len(micros) // 2] / 1000,
        p99_ms=micros[min(len(micros) - 1, len(micros) * 99 // 100)] / 1000,
    )
