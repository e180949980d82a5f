"""Does sync find the number of requests that pays? `python -m bench.knee`: its own choice beside fixed numbers.

Three servers: one as fast as this machine, one that gives each connection 40 MB/s, and one that answers 503 to more
than eight requests at once, too. Whole runs, in turns.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.nginx import BUCKET, Nginx
from bench.sync import MIB, Load, make_files
from tests.support.running import environment

SERVERS = {
    "fast": "",
    "40 MB/s a connection": "limit_rate 40m;",
    "503 above 8 at once": "limit_conn all 8; limit_rate 40m;",
}
NUMBERS = (None, 2, 4, 8, 16, 32, 64)


def copy(server: Nginx, prefix: str, target: Path, workers: int | None) -> tuple[float, int, int]:
    """Return the seconds of one run, how many of its requests were refused, and its exit code (3: too many were)."""
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "tusz_cache.sync", f"s3://{BUCKET}/{prefix}", str(target), "--json", "--quiet"]
    command += ["--endpoint-url", server.url("http")] + (["--workers", str(workers)] if workers else [])
    began = time.perf_counter()
    ran = subprocess.run(command, env=environment(), check=False, capture_output=True)
    return time.perf_counter() - began, json.loads(ran.stdout)["throttled"], ran.returncode


def _cell(runs: list[tuple[float, int, int]]) -> str:
    failed = sum(code != 0 for _, _, code in runs)
    text = f"{median(seconds for seconds, _, _ in runs):.2f} ({median(refused for _, refused, _ in runs):.0f})"
    return text + (f", {failed} failed" if failed else "")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=48, help="of 64 MiB")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}, {options.files} files of 64 MiB, http to tmpfs")
    print("\nSeconds of the whole run, median (requests refused, median)\n")
    print(f"| server | {' | '.join(f'--workers {number}' if number else 'its own choice' for number in NUMBERS)} |")
    print("|---" * (len(NUMBERS) + 1) + "|")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        Path(place).chmod(0o755)  # nginx reads as another user
        make_files(Path(place) / BUCKET, Load("knee", options.files, 1, 64 * MIB))
        for name, limits in SERVERS.items():
            work = Path(place) / f"work-{len(list(Path(place).iterdir()))}"
            work.mkdir()
            taken: dict[int | None, list[tuple[float, int, int]]] = {number: [] for number in NUMBERS}
            with Nginx(Path(place), work, limits=limits) as server:
                for _ in range(options.runs):
                    for number in NUMBERS:
                        taken[number].append(copy(server, "knee/all", Path(place) / "target", number))
            cells = [_cell(runs) for runs in taken.values()]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
