"""How fast is packing? `python -m bench.pack`: bytes inflated a second and core, beside numpy.load's, interleaved.

Inflating alone, by numpy and by this project's reader, is measured on one core, in processes of their own; packing as
a whole command's work, with one worker and with one for each core. The files lie in memory.
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
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.feed import read_whole, spread
from bench.memory import splinter
from tests.support.caches import seal_cache
from tests.support.running import environment
from tusz_cache.durability import Durability
from tusz_cache.packing.npz import open_npz
from tusz_cache.packing.writer import pack_cache
from tusz_cache.packing.zipped import pieces
from tusz_cache.synth import SIZES, write_cache


def numpy_load(paths: Sequence[Path], _: Path) -> None:
    """Read both arrays of each file."""
    for path in paths:
        with np.load(path) as npz:
            for name in ("windows", "labels"):
                npz[name]


def inflate(paths: Sequence[Path], _: Path) -> None:
    """Inflate both members of each file, checking them, and drop the bytes: the library's limit."""
    for path in paths:
        with open_npz(path) as npz:
            for member in npz.members.values():
                for _piece in pieces(npz.source, member.entry):
                    pass


def pack(paths: Sequence[Path], out: Path, *, workers: int, dtype: str) -> None:
    """Pack the whole cache."""
    cache = paths[0].parents[1]
    pack_cache(cache, out, workers=workers, dtype=dtype, splits=("train",), durability=Durability("none"))


ARMS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "numpy.load": numpy_load,
    "inflating alone": inflate,
    "pack, 1 worker": partial(pack, workers=1, dtype="float32"),
    "pack, 2 workers": partial(pack, workers=2, dtype="float32"),
    "pack int16, 2 workers": partial(pack, workers=2, dtype="int16"),
}


def measure(name: str, cache: Path) -> dict[str, Any]:
    """Run an arm in a process of its own."""
    with tempfile.TemporaryDirectory(dir=cache.parent) as out:
        ran = subprocess.run(
            [sys.executable, "-m", "bench.pack", "--one", name, "--cache", str(cache), "--out", f"{out}/store"],
            env=environment({"OMP_NUM_THREADS": "1"}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, f"{name}: {ran.stderr[-3000:]}"
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def one(name: str, cache: Path, out: Path) -> dict[str, float]:
    """Run an arm here; return seconds, CPU seconds, peak bytes and bytes written."""
    paths = sorted((cache / "train").glob("*.npz"))
    cpu, began = time.process_time(), time.perf_counter()
    ARMS[name](paths, out)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "rss": _peak(),
        "out": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }


def _peak() -> int:
    """Return the most memory of this program. Not `ru_maxrss`, which begins with that of whoever started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def raw_bytes(path: Path) -> int:
    """Return the bytes of a file's arrays."""
    with open_npz(path) as npz:
        return sum(member.size for member in npz.members.values())


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=24, help="of 70 windows each, 85 MB raw")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, default=Path("/dev/shm"), help="where the files lie")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help="a sealed cache to use instead of a new one")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.cache, options.out)))
        return
    root = Path(tempfile.mkdtemp(dir=options.root))
    try:
        cache = options.cache or root / "cache"
        if options.cache is None:
            write_cache(cache, replace(SIZES["real"], train_patients=options.recordings, dev_patients=1), workers=2)
            seal_cache(cache)
        with splinter():
            report(cache, options.rounds)
    finally:
        shutil.rmtree(root)


def report(cache: Path, rounds: int) -> None:
    """Play the arms in turns, and print the table."""
    paths = sorted((cache / "train").glob("*.npz"))
    raw, packed = sum(map(raw_bytes, paths)), sum(path.stat().st_size for path in paths)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    read_whole(paths)
    for number in range(rounds):
        for name in ARMS if number % 2 else reversed(ARMS):
            taken[name].append(measure(name, cache))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}, numpy {np.__version__}")
    print(
        f"{len(paths)} files, {packed / 1e6:.0f} MB, {raw / 1e6:.0f} MB inflated, {rounds} turns, median (least-most)"
    )
    print()
    print("| arm | MB/s inflated | MB inflated a CPU second | of numpy.load's, turn by turn | peak RSS MB | out/in |")
    print("|---|---|---|---|---|---|")
    for name, runs in taken.items():
        ratios = [base["cpu"] / run["cpu"] for base, run in zip(taken["numpy.load"], runs, strict=True)]
        row = [
            spread([raw / run["seconds"] / 1e6 for run in runs]),
            spread([raw / run["cpu"] / 1e6 for run in runs]),
            spread(ratios),
            f"{max(run['rss'] for run in runs) / 1e6:.0f}",
            f"{runs[0]['out'] / packed:.3f}" if runs[0]["out"] else "",
        ]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
