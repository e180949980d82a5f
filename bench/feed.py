"""How fast can windows be fed? `python -m bench.feed`: the packed store, its peers and its ceilings, interleaved.

Every arm gives the same batches in the same shuffled order, as a process of its own that waits for its turn; what
others use the machine for hits all alike. CPU seconds say more than rates on a busy machine.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.feed_arms import ARMS, Arm, Batches
from bench.verify import drop
from tests.support.caches import seal_cache
from tests.support.running import environment
from tusz_cache.durability import Durability
from tusz_cache.packing.blocks import CHANNELS, WINDOW, WINDOW_BLOCKS
from tusz_cache.packing.store import open_store
from tusz_cache.packing.writer import pack_cache
from tusz_cache.synth import SIZES, write_cache

BATCH = 64
SEED = 2026
READ = 8 * 1024**2  # bytes at once, where a file is read whole


@dataclass
class Turns:
    """What an arm's turns took."""

    rates: list[float] = field(default_factory=list)  # windows/s
    cpu: list[float] = field(default_factory=list)  # seconds for 1,000 windows
    waits: list[float] = field(default_factory=list)  # seconds, of batches

    def add(self, answer: dict[str, Any], windows: int) -> None:
        """Take in the answer of a turn."""
        self.rates.append(windows / answer["wall"])
        self.cpu.append(answer["cpu"] / windows * 1000)
        self.waits += answer["waits"]


class Process:
    """An arm in a process of its own."""

    def __init__(self, python: str, arm: Arm, root: Path) -> None:
        self.arm = arm
        command = [python, "-m", "bench.feed_arms", str(root), "--play", arm.name, "--batch", str(BATCH)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def ask(self, do: str, batches: Batches, **more: Any) -> Any:
        """Return the arm's answer. Raises AssertionError with what it said if it ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then it does not answer either
            print(json.dumps({"do": do, "batches": batches} | more), file=self._process.stdin, flush=True)
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._errors.seek(0)
        raise AssertionError(f"{self.arm.name} ended: {self._errors.read().decode()[-3000:]}")

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _environment() -> dict[str, str]:
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    root = Path(__file__).parents[1]
    return environment({"PYTHONPATH": f"{root}:{root / 'src'}", "PYTHONWARNINGS": "ignore", **one})


def make_data(root: Path, recordings: int, arms: Sequence[Arm], python: str) -> None:
    """Write what the arms read, as far as it is not there."""
    if not (root / "npz").exists():
        write_cache(root / "npz", replace(SIZES["real"], train_patients=recordings, dev_patients=1), workers=2)
        seal_cache(root / "npz")
    for data in sorted({arm.data for arm in arms} - {"npz"}):
        if (root / data).exists():
            continue
        if data in {"float32", "int16"}:
            pack_cache(root / "npz", root / data, dtype=data, splits=("train",), durability=Durability("none"))
            continue
        (root / data).mkdir()
        command = [python, "-m", "bench.feed_arms", str(root), "--write", data]
        ran = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"writing {data}: {ran.stderr[-3000:]}"
    os.sync()


def files_of(root: Path, arm: Arm) -> list[Path]:
    """Return the files that an arm reads."""
    folder = root / arm.data
    folder = folder / "train" if (folder / "train").exists() else folder
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def read_whole(paths: Sequence[Path]) -> float:
    """Read files one after the other with large reads. Returns bytes/s."""
    buffer, count, began = memoryview(bytearray(READ)), 0, time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while got := file.readinto(buffer):
                count += got
    return count / (time.perf_counter() - began)


def batches_of(order: Sequence[int]) -> list[list[int]]:
    """Cut an order into batches; what is left at its end is dropped."""
    return [list(order[at : at + BATCH]) for at in range(0, len(order) - BATCH + 1, BATCH)]


def shuffled(windows: int, batches: int) -> Iterator[list[int]]:
    """Yield `batches` batches, epoch after epoch in an order of its own."""
    rng = random.Random(SEED)
    while batches > 0:
        epoch = batches_of(rng.sample(range(windows), windows))[:batches]
        batches -= len(epoch)
        yield from epoch


# the gate


def check(processes: Sequence[Process], root: Path, windows: int) -> None:
    """Raise AssertionError unless exact arms give the same bits, and the others what their error allows."""
    store = open_store(root / "npz", "train")
    chosen = sorted(random.Random(SEED).sample(range(len(store)), windows))
    batches = [chosen[at : at + 50] for at in range(0, windows, 50)]
    x = np.concatenate([store.read_batch(batch)[0] for batch in batches])
    wanted: str | None = None
    with tempfile.TemporaryDirectory(dir=root) as folder:
        exact = Path(folder) / "exact.npy"
        np.save(exact, x)
        for process in processes:
            arm = process.arm
            if arm.few or (arm.opened is None and arm.mode != "stream") or arm.name.startswith("memcpy"):
                continue
            if not arm.exact:
                error = process.ask("errors", batches, exact=str(exact))
                assert error < 0.00016, f"{arm.name} errs by {error}"
                continue
            asked = batches if arm.mode != "stream" else batches_of(range(4 * len(store)))
            found = hashlib.sha256("".join(process.ask("digests", asked, wanted=chosen)).encode()).hexdigest()
            wanted = wanted or found
            assert found == wanted, f"{arm.name} gives other bits"
    print(f"{windows} windows have SHA-256 {wanted[:16] if wanted else ''} in every arm of exact bits\n")


# warm


def play_warm(processes: Sequence[Process], root: Path, options: argparse.Namespace) -> dict[str, Turns]:
    """Give every arm its turns; before each its files are read, so that they lie in memory."""
    windows = len(open_store(root / "float32", "train"))
    order, rounds = list(shuffled(windows, options.batches)), options.rounds
    found = {process.arm.name: Turns() for process in processes}
    each = -(-options.batches // rounds)
    for number in range(rounds + 1):  # the first warms up and is not counted
        some = order[max(0, number - 1) * each :][:each]
        for process in processes if number % 2 else list(reversed(processes)):
            arm = process.arm
            mine = [batch[: arm.few] for batch in some[:1]] if arm.few else some if number else some[:4]
            read_whole(files_of(root, arm))
            answer = process.ask("turn", mine)
            if number:
                found[arm.name].add(answer, sum(map(len, mine)))
                if options.turns:
                    with options.turns.open("a") as file:
                        print(json.dumps({"arm": arm.name, "windows": sum(map(len, mine))} | answer), file=file)
    return found


def report_warm(found: dict[str, Turns], root: Path) -> None:
    """Print the table."""
    print("| arm | windows/s | CPU s/1,000 windows | of memcpy | batch wait ms, p50 | p99 | MB on disk |")
    print("|---|---|---|---|---|---|---|")
    ceiling = found.get(ARMS[0].name)
    for arm in (arm for arm in ARMS if arm.name in found):
        turns = found[arm.name]
        share = "" if ceiling is None else f"{_ratio(ceiling.cpu, turns.cpu):.3g}"
        size = sum(path.stat().st_size for path in files_of(root, arm)) / 1e6 if arm.exact or arm.cold else 0
        waits = [f"{1000 * float(np.percentile(turns.waits, share)):.1f}" for share in (50, 99)]
        row = [arm.name, spread(turns.rates), spread(turns.cpu), share, *waits, f"{size:.0f}" if size else ""]
        print("| " + " | ".join(row) + " |", flush=True)


def _ratio(ceiling: Sequence[float], cpu: Sequence[float]) -> float:
    return median(best / mine for best, mine in zip(ceiling, cpu, strict=True)) if min(cpu) > 0 else float("inf")


def spread(values: Sequence[float]) -> str:
    """Return median (least-most), three digits each."""
    return "{} ({}-{})".format(*(_digits(value) for value in (median(values), min(values), max(values))))


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


# cold


@dataclass(frozen=True)
class Course:
    """An order in which windows are read cold."""

    name: str
    batches: list[list[int]]
    size: Callable[[Arm], int]  # bytes that an arm must read from the disk


def courses(root: Path) -> tuple[Course, Course, Course]:
    """Return the ways to read cold. Window 0 has warmed the processes up, so it is not among those that are apart."""
    windows = len(open_store(root / "float32", "train"))
    apart = list(range(WINDOW_BLOCKS, windows - WINDOW_BLOCKS, WINDOW_BLOCKS))
    in_order, mixed = batches_of(apart), batches_of(random.Random(SEED).sample(apart, len(apart)))
    whole = batches_of(range(windows))

    def size(arm: Arm) -> int:
        return CHANNELS * WINDOW * (2 if arm.data == "int16" else 4) * BATCH * len(mixed)

    return (
        Course("in order, every window", whole, lambda arm: sum(path.stat().st_size for path in files_of(root, arm))),
        Course("in order, windows that share no block", in_order, size),
        Course("shuffled, windows that share no block", mixed, size),
    )


def play_cold(arms: Sequence[Arm], python: str, root: Path, rounds: int, course: Course) -> None:
    """Give every arm turns in fresh processes with its files out of memory, and print the table.

    Right after each turn the disk's own rate is measured: the packed store is read whole with large reads.
    """
    found: dict[str, list[tuple[float, ...]]] = {arm.name: [] for arm in arms}
    disk, count, plain_files = [], sum(map(len, course.batches)), files_of(root, ARMS[0])
    for number in range(rounds):
        for arm in arms if number % 2 else reversed(arms):
            process = Process(python, arm, root)
            process.ask("turn", [[0]])
            drop(files_of(root, arm))
            answer = process.ask("turn", course.batches)
            process.close()
            drop(plain_files)
            disk.append(read_whole(plain_files))
            rate = course.size(arm) / answer["wall"]
            found[arm.name].append((count / answer["wall"], answer["cpu"] / count * 1000, rate / 1e6, rate / disk[-1]))
    print(f"\ncold, {course.name}, {len(course.batches)} batches, {rounds} turns, median (least-most)")
    print(f"the disk gives {spread([rate / 1e6 for rate in disk])} MB/s, read from end to end in pieces of 8 MiB\n")
    print("| arm | windows/s | CPU s/1,000 windows | MB/s | of the disk's rate |\n|---|---|---|---|---|")
    for name, taken in found.items():
        print(f"| {name} | " + " | ".join(spread(column) for column in zip(*taken, strict=True)) + " |", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="a virtual environment with the peers and torch")
    parser.add_argument("--arms", help="names that begin so, separated by ; (default: all that are installed)")
    parser.add_argument("--recordings", type=int, default=28, help="of 70 windows each, 85 MB raw")
    parser.add_argument("--batches", type=int, default=300, help=f"of {BATCH} windows, for an arm; 0: not warm")
    parser.add_argument("--gate", type=int, default=200, help="windows whose bits must agree, a multiple of 50")
    parser.add_argument("--turns", type=Path, help="a file to append each warm turn to, as a line of JSON")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--cold-rounds", type=int, default=3, help="0: no cold turns")
    parser.add_argument("--root", type=Path, default=Path("/tmp"), help="where the data lie, on a disk for cold turns")
    parser.add_argument("--keep", type=Path, help="a directory to keep the data in, and to find them again")
    options = parser.parse_args()
    python = str(options.peers / "bin/python") if options.peers else sys.executable
    wanted = tuple(options.arms.split(";")) if options.arms else ("",)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}, numpy {np.__version__}")
    can = json.loads(_said(python, "-m", "bench.feed_arms", "/", "--has"))
    arms = [arm for arm in ARMS if arm.name.startswith(wanted)]
    for arm in (arm for arm in arms if arm.name not in can):
        print(f"- {arm.name}: {', '.join(arm.needs) or 'torch'} not installed, left out")
    arms = [arm for arm in arms if arm.name in can]
    packages = sorted({name for arm in arms for name in (*arm.needs, *(("torch",) if arm.mode == "workers" else ()))})
    for name in packages:
        distribution = {"streaming": "mosaicml-streaming"}.get(name, name)
        asked = f"import importlib.metadata as m; print(m.version({distribution!r}))"
        print(f"- {distribution} {_said(python, '-c', asked)}")
    root = options.keep or Path(tempfile.mkdtemp(dir=options.root))
    root.mkdir(exist_ok=True)
    try:
        make_data(root, options.recordings, arms, python)
        run(arms, python, root, options)
    finally:
        if options.keep is None:
            shutil.rmtree(root)


def run(arms: Sequence[Arm], python: str, root: Path, options: argparse.Namespace) -> None:
    """Check the arms, then play them."""
    if options.batches:
        processes = [Process(python, arm, root) for arm in arms]
        check(processes, root, options.gate)
        found = play_warm(processes, root, options)
        for process in processes:
            process.close()
        print(f"warm, batches of {BATCH}, {options.batches} an arm in {options.rounds} turns, median (least-most)\n")
        report_warm(found, root)
    if options.cold_rounds:
        cold = [arm for arm in arms if arm.cold]
        ours = [arm for arm in cold if not arm.peer or arm.data == "channels"]
        every, in_order, mixed = courses(root)
        play_cold(ours, python, root, options.cold_rounds, every)
        play_cold(ours, python, root, options.cold_rounds, in_order)
        play_cold(cold, python, root, options.cold_rounds, mixed)


def _said(*command: str) -> str:
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
