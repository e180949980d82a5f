"""Tiny trainings: a small sealed cache, a tiny model, and runs of the command in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.caches import seal_cache
from tests.support.recordings import name_of, recording, write_split
from tests.support.running import Ran, environment

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "BGB_LIMIT_FILES": None}
TIMINGS = ("seconds", "windows_per_s", "wait_share")
TINY = {
    "filters": [4, 4, 4, 4, 4],
    "residual_kernels": [3],
    "layers": 1,
    "heads": 1,
    "feed_forward": 4,
}


def training_cache(root: Path, seed: int = 0) -> Path:
    """Write and seal a cache: six recordings to train on, two to judge on. Returns `root`."""
    write_split(root, "train", {name_of(number): recording(2 + number % 2, seed=seed + number) for number in range(6)})
    write_split(root, "dev", {name_of(6 + number): recording(2, seed=seed + 20 + number) for number in range(2)})
    return seal_cache(root)


def config_of(cache: Path, output: Path, **changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a training of seconds: 4 windows a batch. changes: of sections."""
    sections: dict[str, Any] = {
        "run": {"name": "tiny", "output_dir": str(output), "seed": 3},
        "data": {
            "cache_dir": str(cache),
            "batch_size": 4,
            "workers": 0,
            "balance": {"full_ratio": 1.0, "background_ratio": 1.0},
        },
        "model": {"name": "small", "options": TINY},
        "optimizer": {"lr": 1e-2},
        "loop": {"steps": 9},
        "validation": {"every_steps": 4, "thresholds": [0.2, 0.4, 0.5, 0.6], "patience": None},
        "checkpoint": {"every_steps": 3, "every_minutes": None},
        "logging": {"tensorboard": False},
    }
    return {name: {**section, **changes.get(name, {})} for name, section in sections.items()} | {
        name: section for name, section in changes.items() if name not in sections
    }


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """Write a configuration. Returns its file."""
    path.write_text(yaml.safe_dump(dict(config)))
    return path


def train(config: Path, *arguments: object, env: Mapping[str, str | None] | None = None, timeout: float = 120) -> Ran:
    """Run `python -m tusz_train train` to its end."""
    return _ran([sys.executable, "-m", "tusz_train", "train", "--config", config, *arguments], env, timeout)


def record(output: Path, name: str = "tiny") -> dict[str, Any]:
    """Return what a run's run.json says."""
    told: dict[str, Any] = json.loads((output / "runs" / name / "run.json").read_text())
    return told


def torchrun(processes: int, config: Path, *, module: str = "tusz_train", first: tuple[str, ...] = ("train",)) -> Ran:
    """Run it by torchrun, with several processes. module, first: what else is run, and its first arguments."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    return _ran([*launcher, "-m", module, *first, "--config", config], None, 120)


def killed(config: Path, step: int, how: str, *arguments: object) -> Ran:
    """Run it, and have it end behind `step`: by KILL at once, by TERM as a signal would."""
    return _ran([sys.executable, "-m", "tests.support.killtrain", step, how, "--config", config, *arguments], None, 120)


def _ran(command: list[object], env: Mapping[str, str | None] | None, timeout: float) -> Ran:
    given = environment({**ONE_THREAD, **(env or {})})
    given.pop("RANK", None)
    ran = subprocess.run(
        list(map(str, command)),
        env=given,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def metrics(output: Path, name: str = "tiny") -> list[dict[str, Any]]:
    """Return what a run measured, but for timings."""
    lines = (output / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]


def steps(output: Path, name: str = "tiny") -> list[int]:
    """Return the steps of a run's checkpoints."""
    return sorted(json.loads(path.read_text())["step"] for path in (output / "checkpoints" / name).glob("step-*.json"))


def signal_me(how: str) -> None:
    """Send this process a signal: KILL, TERM or INT."""
    import signal

    os.kill(os.getpid(), getattr(signal, f"SIG{how}"))


def run_here(config: dict[str, Any], *, stop_at: int | None = None, **options: Any) -> Any:
    """Train in this process; with `stop_at`, as if a signal came behind that step. Returns the report."""
    from unittest import mock

    import torch

    from tusz_cache import Durability
    from tusz_cache.progress import Progress
    from tusz_train import sinks
    from tusz_train.config import Config
    from tusz_train.run import run_training

    torch.set_num_threads(1)  # as in processes of their own: the order of sums depends on it
    progress = Progress("quiet")
    log = sinks.MetricsFile.log

    def logged(self: Any, step: int, values: Mapping[str, Any]) -> None:
        log(self, step, values)
        if step == stop_at:
            progress.stop_signal = 15

    options = {"durability": Durability("none"), "environment": {}} | options
    with mock.patch.object(sinks.MetricsFile, "log", logged):
        return run_training(Config.model_validate(config), progress=progress, **options)
