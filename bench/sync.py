"""How fast is sync? `python -m bench.sync`: this tool, its peers and the raw-socket floor over one server, interleaved.

nginx serves a cache on loopback, by http and https; each arm runs as a process of its own, in turn, to a fresh
directory. Two sizes of the source tell start-up (interpreter, imports, listing) from the rate: marginal = extra work /
extra seconds. "Until durable" ends with a sync of the file system: only this tool waits for that by itself.
"""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.arms import ARMS, AS_INSTALLED, Arm, Job
from bench.memory import splinter
from bench.nginx import BUCKET, Nginx
from tests.support.running import environment

KIB, MIB = 1024, 1024**2
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LONGEST = 300.0  # seconds that one run of an arm may take
_SAMPLE = 0.1  # seconds between two looks at the memory of an arm


@dataclass(frozen=True)
class Load:
    """What is copied: `many` files, and `few` of them to tell start-up from the rate."""

    name: str
    many: int
    few: int
    size: int  # bytes


@dataclass(frozen=True)
class Sample:
    """One run of one arm."""

    seconds: float
    cpu_seconds: float
    rss: int  # bytes, the whole tree of processes, the most at any time
    sync_seconds: float = 0.0  # until the bytes are on the disk


@dataclass(frozen=True)
class Found:
    """An arm that can run here."""

    arm: Arm
    program: str


def make_files(directory: Path, load: Load) -> None:
    """Write the load's files below `directory`/NAME/all, and links to some below `directory`/NAME/few."""
    every, some = directory / load.name / "all", directory / load.name / "few"
    every.mkdir(parents=True)
    some.mkdir()
    for number in range(load.many):
        path = every / f"p{number:05d}_s001_t000_windows.npz"
        path.write_bytes(os.urandom(load.size))
        if number < load.few:
            os.link(path, some / path.name)


def measure(found: Found, job: Job, expected: int, *, durable: bool) -> Sample:
    """Run an arm once to an empty target. Raises AssertionError unless all bytes are there."""
    shutil.rmtree(job.target, ignore_errors=True)
    os.sync()
    job.target.mkdir()
    env = environment({"AWS_CA_BUNDLE": str(job.cafile), "AWS_REGION": "us-east-1"} | AS_INSTALLED)
    began = time.perf_counter()
    process = subprocess.Popen(
        found.arm.command(found.program, job), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    most = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, most))
    watcher.start()
    assert process.stderr is not None
    killer = threading.Timer(_LONGEST, process.kill)
    killer.start()
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    killer.cancel()
    assert process.returncode == 0, f"{found.arm.name} ended with {process.returncode}: {said.decode()[:3000]}"
    if durable:
        subprocess.run(["sync", "-f", str(job.target)], check=True)
    there = sum(path.stat().st_size for path in job.target.rglob("*.npz"))
    assert there == expected, f"{found.arm.name} left {there} of {expected} bytes"
    synced = time.perf_counter() - began - seconds if durable else 0.0
    return Sample(seconds, usage.ru_utime + usage.ru_stime, most[0], synced)


def _watch(pid: int, most: list[int]) -> None:
    """Note the most memory that a process and those it started hold together."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended
        while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            most[0] = max(most[0], sum(_resident(one) for one in tree(pid)))
            time.sleep(_SAMPLE)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def tree(pid: int) -> Iterator[int]:
    """Yield a process and those that it started, which still run."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield from tree(child)


def compare(arms: list[Found], server: Nginx, scheme: str, load: Load, place: Path, runs: int) -> None:
    """Run every arm `runs` times in turn, and print the table."""
    durable = not str(place).startswith("/dev/shm")
    samples: dict[tuple[str, int], list[Sample]] = {}
    for number in range(runs + 1):  # the first fills caches and is not counted
        for part, count in (("few", load.few), ("all", load.many)):
            for found in arms if number % 2 else reversed(arms):
                prefix = f"{BUCKET}/{load.name}/{part}"
                job = Job(server.url(scheme), prefix, place / "target", server.cafile)
                sample = measure(found, job, count * load.size, durable=durable)
                if number:
                    samples.setdefault((found.arm.name, count), []).append(sample)
    shutil.rmtree(place / "target")
    report(samples, [found.arm for found in arms], load, f"{scheme}, to {'disk' if durable else 'tmpfs'}")


def report(samples: dict[tuple[str, int], list[Sample]], arms: list[Arm], load: Load, where: str) -> None:
    """Print medians, and ratios to the floor within the same run."""
    runs = len(next(iter(samples.values())))
    size = f"{load.size // MIB} MiB" if load.size >= MIB else f"{load.size // KIB} KiB"
    print(f"\n{load.many} files of {size}, {where}, median of {runs} runs (least-most)\n")
    unit, scale = ("MB/s", load.size / 1e6) if load.size >= MIB else ("files/s", 1.0)
    print(
        f"| arm | whole run {unit} | marginal {unit} | of the floor | CPU s/GB | CPU ms/file | RSS MB "
        "| until durable s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    floor: list[float] = []
    for arm in arms:
        every, some = samples[arm.name, load.many], samples[arm.name, load.few]
        marginal = [(load.many - load.few) * scale / (a.seconds - f.seconds) for a, f in zip(every, some, strict=True)]
        floor = floor or marginal
        cpu = median(sample.cpu_seconds for sample in every)
        row = [
            arm.name,
            _spread([load.many * scale / sample.seconds for sample in every]),
            _spread(marginal),
            f"{median(mine / base for mine, base in zip(marginal, floor, strict=True)):.2f}",
            f"{cpu / (load.many * load.size / 1e9):.2f}",
            f"{cpu / load.many * 1000:.2f}",
            f"{max(sample.rss for sample in every) / 1e6:.0f}",
            f"{median(sample.seconds + sample.sync_seconds for sample in every):.2f}",
        ]
        print("| " + " | ".join(row) + " |", flush=True)


def _spread(values: list[float]) -> str:
    return f"{median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--loads", default="large,small", help="large: 48 x 64 MiB; small: 20,000 x 16 KiB")
    parser.add_argument("--schemes", default="http,https")
    parser.add_argument("--arms", help="names that begin so, e.g. floor,tusz,rclone (default: all that are installed)")
    parser.add_argument("--peers", help="directory with s5cmd, rclone and aws (default: beside Python, then PATH)")
    parser.add_argument("--source", type=Path, default=Path("/dev/shm"), help="where the files to serve lie")
    parser.add_argument("--target", type=Path, action="append", help="where they go; repeatable (default /dev/shm)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files, for a quick look")
    options = parser.parse_args()
    wanted = tuple(options.arms.split(",")) if options.arms else ("",)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}")
    arms: list[Found] = []
    for arm in (arm for arm in ARMS if arm.name.startswith(wanted)):
        if (program := arm.find(options.peers)) is None:
            print(f"- {arm.name}: not installed, left out")
            continue
        arms.append(Found(arm, program if arm.program != "python" else sys.executable))
        print(f"- {arm.name}: {arm.program} {arm.version_of(arms[-1].program)}; checks {arm.checks}")
    scale = options.scale
    sizes = {
        "large": Load("large", max(4, int(48 * scale)), max(1, int(12 * scale)), 64 * MIB),
        "small": Load("small", max(40, int(20_000 * scale)), max(10, int(5_000 * scale)), 16 * KIB),
    }
    loads = [sizes[name] for name in options.loads.split(",")]
    with tempfile.TemporaryDirectory(dir=options.source) as source:
        work = Path(source) / "work"
        work.mkdir()
        Path(source).chmod(0o755)  # nginx reads as another user
        for load in loads:
            make_files(Path(source) / BUCKET, load)
        with Nginx(Path(source), work) as server, splinter():
            for place in options.target or [Path("/dev/shm")]:
                with tempfile.TemporaryDirectory(dir=place) as target:
                    for load in loads:
                        for scheme in options.schemes.split(","):
                            compare(arms, server, scheme, load, Path(target), options.runs)


if __name__ == "__main__":
    main()
