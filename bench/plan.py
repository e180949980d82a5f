"""How fast is planning? `python -m bench.plan`: a million keys from the listing to the saved manifest, no network.

Every run is a process of its own, so that its peak memory is its own. Beside it, fewer keys over HTTP from a server on
this machine: this tool's listing and that of others, as whole commands, start-up included.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

from bench.keys import entries
from tests.support.running import environment
from tusz_cache.entry import Entry
from tusz_cache.keys import check_keys
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import from_lines, to_lines
from tusz_cache.plan import diff
from tusz_cache.planning import _list_once
from tusz_cache.progress import Progress
from tusz_cache.stores.base import Access
from tusz_cache.stores.opening import open_source

GOAL_SECONDS, GOAL_MB = 15, 800
COUNTED = ("list", "check_keys", "diff, empty target", "diff, equal target", "save", "load")
T = TypeVar("T")


class Lister:
    """A source that knows its objects without asking anybody."""

    url = "synthetic:"

    def __init__(self, count: int) -> None:
        self._count = count

    def entries(self) -> Iterator[Entry]:
        """Yield every object."""
        return entries(self._count)


def plan_once(count: int, folder: Path) -> dict[str, float]:
    """Go through the stages once. Returns seconds for each, and the peak memory of this process in MB."""
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        seconds[stage] = time.perf_counter() - began
        return result

    def save() -> None:
        with path.open("wb") as file:
            file.writelines(to_lines(target))

    def load() -> Manifest:
        with path.open("rb") as file:
            return from_lines(file, path=str(path))

    path = folder / "manifest.jsonl"
    source = timed("list", lambda: _list_once(Lister(count), Progress("quiet"))).manifest
    timed("check_keys", lambda: check_keys(source))
    plan = timed("diff, empty target", lambda: diff(source, Manifest()))
    assert len(plan.copy) == count
    proofs = array("b", bytes(count)), array("Q", range(count)), array("q", range(count))
    target = Manifest(source.keys, source.sizes, source.etags, *proofs)
    plan = timed("diff, equal target", lambda: diff(source, target, ours=frozenset(target.keys)))
    assert len(plan.unchanged) == count
    timed("save", save)
    assert timed("load", load) == target
    return seconds | {"MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}


def list_http(url: str) -> None:
    """List the bucket as sync does, and print how many objects it has."""
    print(len(Manifest.of(open_source("s3://b", Access(endpoint_url=url)).entries())))


def others(url: str, tools: Path | None) -> Iterator[tuple[str, list[str] | None]]:
    """Yield (name, command that prints a line for each object; None where it is not installed)."""
    endpoint = f"--endpoint-url={url}"
    remote = f":s3,provider=Other,env_auth=true,list_version=2,endpoint='{url}':b"
    for name, arguments in (
        ("rclone lsf -R --files-only", ["lsf", "-R", "--files-only", remote]),
        ("rclone lsf -R --files-only --fast-list", ["lsf", "-R", "--files-only", "--fast-list", remote]),
        ("s5cmd ls", [endpoint, "ls", "s3://b/*"]),
        ("aws s3 ls --recursive", [endpoint, "s3", "ls", "--recursive", "s3://b/"]),
    ):
        tool = name.split()[0]
        places = [str(tools or ""), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        found = shutil.which(tool, path=os.pathsep.join(filter(None, places)))
        yield name, [found, *arguments] if found else None


def measure(command: list[str]) -> tuple[float, float, float, str]:
    """Run a command. Returns seconds, CPU seconds, peak memory in MB and what it printed."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        env = environment() | {"AWS_DEFAULT_REGION": "us-east-1", "RCLONE_CONFIG": os.devnull}
        process = subprocess.Popen(command, env=env, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{command} ended with {process.returncode}"
        out.seek(0)
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, out.read()


def spread(values: list[float], digits: int = 2) -> str:
    """Return "median (least-most)"."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def report_planning(count: int, runs: int, folder: Path) -> None:
    """Measure and print the stages."""
    command = [sys.executable, "-m", "bench.plan", "--keys", str(count), "--one-run", str(folder)]
    samples = [json.loads(measure(command)[3]) for _ in range(runs)]
    print(f"{count} keys, in process, {runs} runs, each a process of its own: median (least-most)\n")
    print("| stage | s |\n|---|---|")
    for stage in COUNTED:
        print(f"| {stage} | {spread([sample[stage] for sample in samples])} |")
    total = [sum(sample[stage] for stage in COUNTED) for sample in samples]
    print(f"| **together** (goal: below {GOAL_SECONDS}) | {spread(total)} |")
    print(f"| **peak MB** (goal: below {GOAL_MB}) | {spread([sample['MB'] for sample in samples], 0)} |\n")


def report_http(count: int, latency: float, runs: int, tools: Path | None) -> None:
    """Measure and print listings over HTTP, in turns."""
    server = [sys.executable, "-m", "bench.lister", "--keys", str(count), "--latency", str(latency)]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        ours = [sys.executable, "-m", "bench.plan", "--list", url]
        arms: dict[str, list[str] | None] = {"this tool's listing": ours, **dict(others(url, tools))}
        samples: dict[str, list[tuple[float, float, float, str]]] = {name: [] for name in arms}
        for _ in range(runs):
            for name, command in arms.items():
                if command is not None:
                    samples[name].append(measure(command))
        process.communicate()
    print(
        f"{count} keys over HTTP on this machine, {latency * 1000:.0f} ms before each answer, whole commands in turns,"
    )
    print(f"{runs} runs: median (least-most)\n")
    print("| arm | s | CPU s | peak MB |\n|---|---|---|---|")
    for name, taken in samples.items():
        if not taken:
            print(f"| {name} | not installed, skipped | | |")
            continue
        text = taken[0][3]
        listed = int(text) if name == next(iter(samples)) else len(text.splitlines())
        assert listed == count, f"{name} lists {listed} objects"
        figures = (spread([run[number] for run in taken], digits) for number, digits in ((0, 2), (1, 2), (2, 0)))
        print(f"| {name} | {' | '.join(figures)} |")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--http-keys", type=int, default=100_000, help="0: nothing over HTTP")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer over HTTP")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tools", type=Path, help="where to look first for rclone, s5cmd and aws")
    parser.add_argument("--workspace", type=Path, default=Path("/dev/shm"), help="where the manifest is saved")
    parser.add_argument("--one-run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--list", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_run:
        print(json.dumps(plan_once(options.keys, options.one_run)))
        return
    if options.list:
        list_http(options.list)
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("orjson", "s3fs", "botocore"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}\n")
    with tempfile.TemporaryDirectory(dir=options.workspace) as folder:
        report_planning(options.keys, options.runs, Path(folder))
    if options.http_keys:
        report_http(options.http_keys, options.latency, options.runs, options.tools)


if __name__ == "__main__":
    main()
