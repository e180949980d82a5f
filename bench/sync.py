"""How fast is sync? `python -m bench.sync`: this tool and the raw-socket floor over one loopback server, interleaved.

Each arm runs as a process of its own, in turn, to a fresh directory on tmpfs, with every check on. Two sizes of the
source tell start-up (interpreter, imports, listing) from the rate of bytes: marginal = extra bytes / extra seconds.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.support.running import environment
from tests.support.s3server import S3Server

MIB = 1024**2


@dataclass(frozen=True)
class Sample:
    """One run of one arm."""

    seconds: float
    cpu_seconds: float
    rss: int  # bytes, the most at any time


@dataclass(frozen=True)
class Arm:
    """One way to copy. `command` gets (server URL, prefix, target)."""

    name: str
    command: Callable[[str, str, Path], list[str]]


ARMS = (
    Arm(
        "floor (raw socket, no checks)",
        lambda url, prefix, to: [sys.executable, "-m", "bench.floor", url, prefix, str(to)],
    ),
    Arm(
        "tusz_cache.sync",
        lambda url, prefix, to: [
            sys.executable,
            "-m",
            "tusz_cache.sync",
            f"s3://{prefix}",
            str(to),
            "--endpoint-url",
            url,
            "--quiet",
        ],
    ),
)


def make_files(directory: Path, count: int, size: int) -> None:
    """Write `count` files of `size` random bytes."""
    directory.mkdir(parents=True)
    for number in range(count):
        with (directory / f"p{number:04d}_s001_t000_windows.npz").open("wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))


def measure(arm: Arm, url: str, prefix: str, target: Path, expected: int) -> Sample:
    """Run `arm` once to an empty `target`. Raises AssertionError unless all bytes are there."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    began = time.perf_counter()
    process = subprocess.Popen(arm.command(url, prefix, target), env=environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arm.name} ended with {process.returncode}"
    there = sum(path.stat().st_size for path in target.rglob("*.npz"))
    assert there == expected, f"{arm.name} left {there} of {expected} bytes"
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=48)
    parser.add_argument("--size", type=int, default=64, help="MiB of each file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workspace", type=Path, default=Path("/dev/shm"), help="where source and target lie")
    options = parser.parse_args()
    few, size = max(1, options.files // 4), options.size * MIB
    samples: dict[tuple[str, int], list[Sample]] = {}
    with tempfile.TemporaryDirectory(dir=options.workspace) as workspace:
        root, target = Path(workspace) / "source", Path(workspace) / "target"
        make_files(root / "bench" / "all", options.files, size)
        (root / "bench" / "few").mkdir()
        for path in sorted((root / "bench" / "all").iterdir())[:few]:
            os.link(path, root / "bench" / "few" / path.name)
        with S3Server(root, etag="opaque", checksum="crc64nvme") as server:
            for number in range(options.runs + 1):  # the first warms the server's checksums up and is not counted
                for prefix, count in (("bench/few", few), ("bench/all", options.files)):
                    for arm in ARMS:
                        sample = measure(arm, server.url, prefix, target, count * size)
                        if number:
                            samples.setdefault((arm.name, count), []).append(sample)
    report(samples, few, options.files, size)


def report(samples: dict[tuple[str, int], list[Sample]], few: int, many: int, size: int) -> None:
    """Print medians and ratios to the floor, which is the first arm."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}")
    runs = len(next(iter(samples.values())))
    print(f"{many} files of {size // MIB} MiB, http, tmpfs to tmpfs, median of {runs} runs (min-max)\n")
    print("| arm | whole run MB/s | marginal MB/s | CPU s/GB | RSS MB | whole/floor, run by run | marginal/floor |")
    print("|---|---|---|---|---|---|---|")
    floor_s = [sample.seconds for sample in samples[ARMS[0].name, many]]
    floor_marginal: float | None = None
    megabytes = many * size / 1e6
    for arm in ARMS:
        all_s = [sample.seconds for sample in samples[arm.name, many]]
        few_s = [sample.seconds for sample in samples[arm.name, few]]
        whole = megabytes / median(all_s)
        marginal = (megabytes - few * size / 1e6) / (median(all_s) - median(few_s))
        cpu = median(sample.cpu_seconds for sample in samples[arm.name, many]) / megabytes * 1000
        rss = max(sample.rss for sample in samples[arm.name, many]) / 1e6
        floor_marginal = floor_marginal or marginal
        spread = f"{whole:.0f} ({megabytes / max(all_s):.0f}-{megabytes / min(all_s):.0f})"
        paired = median(floor / mine for floor, mine in zip(floor_s, all_s, strict=True))
        ratios = f"{paired:.2f} | {marginal / floor_marginal:.2f}"
        print(f"| {arm.name} | {spread} | {marginal:.0f} | {cpu:.2f} | {rss:.0f} | {ratios} |")


if __name__ == "__main__":
    main()
