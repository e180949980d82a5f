"""How long does the guard take? `python -m bench.guard [DIR]`: milliseconds, warm, for a sealed cache of small files.

The cache is made below DIR (default: the working directory, so that it lies on a disk) and removed afterwards.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from tests.support.caches import seal_cache
from tests.support.running import environment
from tusz_cache.guarding import files, guard, reaching
from tusz_cache.guarding.guard import CacheGuard

COUNTS = {"train": 4667, "dev": 1832}


def make_cache(root: Path) -> None:
    """Write a sealed cache with as many files as the real one has."""
    names = {f"{split}/aaaa{number:04}_s001_t000_windows.npz": 64 for split, n in COUNTS.items() for number in range(n)}
    for key, size in names.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    seal_cache(root)


STAGES = (
    (reaching.Reach, "__enter__", "start of the child"),
    (reaching.Reach, "open", "open, until it is up"),
    (guard, "see", "gather"),
    (guard, "classify", "classify"),
    (files, "sealed_records", "seal and manifest"),
    (reaching.Reach, "look", "look at every file"),
    (files, "look", "look and judge"),
    (reaching.Reach, "__exit__", "end of the child"),
)


@contextmanager
def timed(taken: dict[str, list[float]]) -> Iterator[None]:
    """Time the stages."""

    def wrapped(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)

        return call

    patches = [patch.object(place, name, wrapped(getattr(place, name), label)) for place, name, label in STAGES]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", nargs="?", default=".")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="bench-guard-") as place:
        root = Path(place)
        make_cache(root)
        made = CacheGuard(expect=COUNTS)
        verdict = made.check(root)
        assert verdict.admitted, verdict.as_text()
        command = [sys.executable, "-m", "tusz_cache.guard", place, "--json"]
        rows = {
            "check": [milliseconds(lambda: made.check(root)) for _ in range(options.runs)],
            "whole command": [
                milliseconds(lambda: subprocess.run(command, env=environment(), check=True, capture_output=True))
                for _ in range(options.runs)
            ],
        }
        with timed(rows):
            for _ in range(options.runs):
                made.check(root)
    print(f"{sum(COUNTS.values())} files, {os.cpu_count()} cores, warm, median of {options.runs}\n")
    print("| stage | ms (least-most) |\n|---|---|")
    for name, taken in rows.items():
        print(f"| {name} | {median(taken):.1f} ({min(taken):.1f}-{max(taken):.1f}) |")


if __name__ == "__main__":
    main()
