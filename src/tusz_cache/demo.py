"""`python -m tusz_cache.demo [DIR]`: the whole way on one machine, from an embedded S3 server to a scored detector.

The commands run as a user types them. The copy is killed once with SIGKILL and goes on. Both ways to read windows are
timed: `numpy.load` for each, and the store. Where torch is there, a smoke run trains from the store and is scored.
"""

import argparse
import importlib.util
import itertools
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tusz_cache import cli
from tusz_cache.errors import Incomplete, TargetError, UsageError
from tusz_cache.layout import as_table
from tusz_cache.packing.store import open_store
from tusz_cache.packing.windows import WindowStore
from tusz_cache.progress import Progress
from tusz_cache.stores.base import Access
from tusz_cache.stores.opening import target_path, upload
from tusz_cache.synth import SIZES, SynthReport, write_cache
from tusz_cache.units import format_bytes, format_seconds

BUCKET = "demo"
STEPS = 12  # of training: enough to see it all work, too few to learn much
TIMED = 2.0  # seconds that each way to read windows is timed for
PATIENCE = 120.0  # seconds until the copy to be killed must have begun
_TRAINING = ("torch", "yaml", "pydantic", "timescoring", "tensorboard", "matplotlib")  # the packages of `train`
_KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_EC2_METADATA_DISABLED": "true"}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "demo",
        "Make a TUSZ-shaped cache, serve it from an embedded S3 server, bring it to DIR, prove and pack it, train.",
    )
    made.add_argument("dir", metavar="DIR", nargs="?", default="demo-cache", help="made anew (default: demo-cache)")
    made.add_argument("--size", choices=("small", "real"), default="small", help="small: 90 MB; real: files of 70 MB")
    return made


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo saw."""

    source: SynthReport
    killed_after: int  # files under their final names when the copy was killed
    sync: Mapping[str, Any]  # as `sync --json` printed it
    again: Mapping[str, Any]  # of the run after it
    verify: Mapping[str, Any]
    pack: Mapping[str, Any]
    rates: Mapping[str, float]  # windows of train in random order, per second: "npz" by numpy.load, "store"
    evaluation: Mapping[str, Any] | None  # as `tusz_train evaluate --json` printed it; None: nothing was trained
    report: str  # where it lies
    seconds: float
    exit_code: int = 0

    def as_json(self) -> str:
        """Return one JSON object."""
        named = {"killed_after": self.killed_after, "sync": self.sync, "again": self.again, "verify": self.verify}
        named |= {"pack": self.pack, "windows_per_second": self.rates}
        named |= {"evaluation": self.evaluation, "report": self.report or None}
        return json.dumps(named | {"seconds": round(self.seconds, 1)})

    def as_text(self) -> str:
        """Return what happened, for a person."""
        files = self.sync["files"]
        rows = [
            (
                "source",
                f"{self.source.files} files, {format_bytes(self.source.bytes)}, {self.source.seizures} seizures",
            ),
            ("killed", f"by SIGKILL, with {self.killed_after} files whole under their names"),
            ("gone on", f"{files['copied']} files copied, {files['resumed']} resumed amid, {files['unchanged']} there"),
            ("second run", f"{self.again['bytes']['copied']} bytes in {format_seconds(self.again['seconds'])}"),
            (
                "verified",
                f"every byte of {self.verify['files']} files, {format_bytes(self.verify['bytes_per_second'])}/s",
            ),
            ("seal", str(self.sync["seal"])),
            ("packed", f"{self._packed('windows')} windows, {format_bytes(self._packed('bytes_out'))}"),
            ("numpy.load", f"{self.rates['npz']:.0f} windows/s: it inflates a recording for each"),
            ("the store", f"{self.rates['store']:.0f} windows/s, in memory"),
            ("trained", self._trained()),
            ("report", self.report or "none"),
            ("took", format_seconds(self.seconds)),
            ("next", f"python -m tusz_cache.verify {self.sync['target']} --level full"),
        ]
        return as_table(rows)

    def _trained(self) -> str:
        if self.evaluation is None:
            return "not: its packages are not installed (pip install 'tusz-cache[train]')"
        event = self.evaluation["szcore"]["event"]
        return (
            f"{STEPS} steps; on dev {event['tp']} of {event['ref']} seizures found, {event['fp']} false (SzCORE event)"
        )

    def _packed(self, what: str) -> int:
        return sum(split[what] for split in self.pack["splits"].values())


def run_demo(directory: Path, size: str, say: Callable[[str], None]) -> DemoReport:
    """Run it all in `directory`, which is made anew. Raises CacheError if any step does not do what it should."""
    began = time.monotonic()
    _make_anew(directory)
    source, target = directory / "source", directory / "cache"
    say(f"making a TUSZ-shaped cache in {source}")
    made = write_cache(source, SIZES[size], workers=min(4, os.cpu_count() or 1))
    with _s3_server() as endpoint:
        say(f"serving it as s3://{BUCKET}/tusz at {endpoint}")
        upload(
            source,
            f"s3://{BUCKET}/tusz",
            Access(endpoint_url=endpoint, storage_options={"key": "demo", "secret": "demo"}),
        )
        command = [
            "tusz_cache.sync",
            f"s3://{BUCKET}/tusz",
            str(target),
            "--endpoint-url",
            endpoint,
            "--part-size",
            "512KiB",
            "--workers",
            "3",
        ]
        whole = _kill_amid([*command, "--bwlimit", "40MB/s", "--quiet"], target, made.files // 3, say)
        say("the same command again: it goes on from what is whole")
        synced = _run([*command, "--json"], say)
        again = _run([*command, "--json", "--quiet"], say)
    counts = [f"--expect={split}={len(list((source / split).glob('*.npz')))}" for split in ("train", "dev")]
    verified = _run(["tusz_cache.verify", str(target), "--level", "full", *counts, "--json", "--quiet"], say)
    if again["bytes"]["copied"] or not again["sealed"]:
        raise Incomplete("the second run was not idle", hint="this is a bug: please report it")
    _run(["tusz_cache.guard", str(target), *counts, "--json", "--quiet"], say)
    packed = _run(["tusz_cache.pack", str(target), str(directory / "store"), "--json", "--quiet"], say)
    rates = _rates(target, directory / "store", say)
    evaluation, report = _trained(directory, say)
    seconds = time.monotonic() - began
    return DemoReport(made, whole, synced, again, verified, packed, rates, evaluation, report, seconds)


def _make_anew(directory: Path) -> None:
    marker = directory / ".tusz_demo"
    if directory.exists() and any(directory.iterdir()) and not marker.exists():
        raise TargetError(f"{directory} was not made by the demo and is not empty", hint="name another directory")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    marker.touch()


@contextmanager
def _s3_server() -> Iterator[str]:
    """Run moto's S3 server on a free loopback port with an empty bucket. Yields its URL."""
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - only the demo needs it
    except ImportError as error:
        raise UsageError("the demo needs moto's server", hint="pip install 'tusz-cache[demo]'") from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def _start(arguments: Sequence[str], **streams: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.Popen(command, env={**os.environ, **_KEYS}, text=True, **streams)  # noqa: S603 - our own commands


def _run(arguments: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    say(f"$ python -m {shlex.join(arguments)}")
    process = _start(arguments, stdout=subprocess.PIPE)
    out, _ = process.communicate()
    if process.returncode != 0:
        raise Incomplete(
            f"that ended with exit code {process.returncode}",
            hint="do what its message says; if it does not say, please report it",
        )
    result: dict[str, Any] = json.loads(out)
    return result


def _kill_amid(arguments: Sequence[str], target: Path, files: int, say: Callable[[str], None]) -> int:
    """Start a copy and kill it once `files` files are whole. Returns how many were."""
    say(f"$ python -m {shlex.join(arguments)}")
    process = _start(arguments, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    whole = 0
    while whole < files and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
        whole = sum(1 for path in target.glob("*/*") if path.is_file() and path.parent.name != ".tusz_cache")
    if process.poll() is not None or whole < files:
        process.kill()
        raise Incomplete("the copy could not be caught in the middle", hint="this is a bug: please report it")
    process.kill()
    process.wait()
    say(f"killed it with SIGKILL: {whole} files are whole, others are in the middle")
    return whole


def _trained(directory: Path, say: Callable[[str], None]) -> tuple[dict[str, Any] | None, str]:
    """Train a few steps from the store, and score. Returns what `evaluate` said, and where its report lies."""
    if missing := [name for name in _TRAINING if importlib.util.find_spec(name) is None]:
        say(f"nothing is trained without {', '.join(missing)}: pip install 'tusz-cache[train]'")
        return None, ""
    config, results = directory / "smoke.yaml", directory / "results"
    sections = {
        "run": {"name": "demo", "output_dir": str(results), "smoke": True},
        "data": {"cache_dir": str(directory / "cache"), "store_dir": str(directory / "store"), "batch_size": 4},
        "model": {"name": "small"},
        "optimizer": {"lr": 1e-3},
        "loop": {"steps": STEPS, "ema_decay": 0.5},
    }
    config.write_text(json.dumps(sections, indent=1))  # JSON is YAML, too
    _run(["tusz_train", "train", "--config", str(config), "--json", "--quiet"], say)
    checkpoints = str(results / "checkpoints" / "demo")
    evaluation = _run(["tusz_train", "evaluate", "--checkpoint", checkpoints, "--json", "--quiet"], say)
    return evaluation, str(results / "runs" / "demo" / "report.html")


def _rates(cache: Path, store: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Return windows per second, read in random order. Raises Incomplete if the store has other bytes."""
    packed = open_store(store, "train")
    order = np.random.default_rng(0).permutation(len(packed)).tolist()
    for i in order:
        if _numpy_window(cache, packed, i) != packed[i][0].tobytes():
            raise Incomplete(f"window {i} of the store differs", hint="this is a bug: please report it")
    say(f"reading windows in random order, {format_seconds(TIMED)} with numpy.load and as long from the store")
    return {
        "npz": _rate(lambda i: _numpy_window(cache, packed, i), order),
        "store": _rate(packed.__getitem__, order),
    }


def _numpy_window(cache: Path, packed: WindowStore, i: int) -> bytes:
    """Read a window and its labels as the users' own data set does. Returns the window's bytes."""
    name, number = packed.locate(i)
    with np.load(cache / packed.split / name) as npz:
        window, _ = npz["windows"][number], npz["labels"][number] if "labels" in npz else None
    return bytes(window.data)


def _rate(read: Callable[[int], object], order: Sequence[int]) -> float:
    began = time.monotonic()
    for count, i in enumerate(itertools.cycle(order)):
        if (seconds := time.monotonic() - began) >= TIMED:
            return count / seconds
        read(i)
    raise UsageError("the cache has no windows of train", hint="this is a bug: please report it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)

    def work(progress: Progress) -> cli.Report:
        return run_demo(target_path(options.dir), options.size, progress.say)

    return cli.run(options, work)


if __name__ == "__main__":
    cli.main(main)
