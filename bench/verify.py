"""How fast is verify? `python -m bench.verify`: `verify --level full` beside `cat` of the same files, warm and cold.

Cold: the files were synced and then dropped from the page cache with posix_fadvise, before each arm.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.sync import MIB, Load, make_files
from tests.support.running import environment
from tusz_cache.progress import Progress
from tusz_cache.workflow import populate_cache


def drop(files: list[Path]) -> None:
    """Let the page cache forget `files`."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def cat(files: list[Path]) -> float:
    """Return the seconds that `cat` takes."""
    began = time.perf_counter()
    with Path(os.devnull).open("wb") as nowhere:
        subprocess.run(["cat", *map(str, files)], stdout=nowhere, check=True)
    return time.perf_counter() - began


def verify(target: Path) -> tuple[float, float]:
    """Return the seconds of the whole command, and those that it says verifying took."""
    command = [sys.executable, "-m", "tusz_cache.verify", str(target), "--level", "full", "--json", "--quiet"]
    began = time.perf_counter()
    ran = subprocess.run(command, env=environment(), check=True, capture_output=True)
    seconds = time.perf_counter() - began
    said = json.loads(ran.stdout)
    return seconds, said["bytes"] / said["bytes_per_second"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=48, help="of 64 MiB")
    parser.add_argument(
        "--place", type=Path, action="append", help="directory; repeatable (default: /dev/shm and /tmp)"
    )
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}, {options.files} files of 64 MiB\n")
    print("| files on | cat MB/s | verify MB/s, while it checks | whole command MB/s | of cat, run by run |")
    print("|---|---|---|---|---|")
    for place in options.place or [Path("/dev/shm"), Path("/tmp")]:
        with tempfile.TemporaryDirectory(dir=place) as workspace:
            source, target = Path(workspace) / "source", Path(workspace) / "target"
            load = Load("bench", options.files, 1, 64 * MIB)
            make_files(source, load)
            populate_cache(str(source / "bench" / "all"), target, progress=Progress("quiet"))
            files, in_memory = sorted(target.glob("*.npz")), str(place).startswith("/dev/shm")
            for name in ("memory",) if in_memory else ("disk, warm", "disk, cold"):
                report(name, files, target, options.runs, cold=name.endswith("cold"))


def report(name: str, files: list[Path], target: Path, runs: int, *, cold: bool) -> None:
    """Measure both in turn, and print the row."""
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    rows: list[tuple[float, float, float]] = []
    for number in range(runs + 1):  # the first warms up and is not counted
        if cold:
            drop(files)
        by_cat = cat(files)
        if cold:
            drop(files)
        whole, checking = verify(target)
        if number:
            rows.append((by_cat, checking, whole))
    rates = [f"{median(megabytes / row[column] for row in rows):.0f}" for column in range(3)]
    print(f"| {name} | {' | '.join(rates)} | {median(row[0] / row[1] for row in rows):.2f} |", flush=True)


if __name__ == "__main__":
    main()
