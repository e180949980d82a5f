"""Where measurements go: `metrics.jsonl` always, TensorBoard and W&B if asked for."""

import importlib
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tusz_cache import Durability, ssd
from tusz_cache.disk_errors import translated
from tusz_train.config import Config
from tusz_train.errors import ConfigError
from tusz_train.outputs import Outputs

TIMINGS = ("seconds", "windows_per_s", "wait_share")  # of a line: what differs between runs that are else the same

Values = Mapping[str, Any]


class Sink(Protocol):
    """Takes what was measured at a step."""

    def log(self, step: int, values: Values) -> None:
        """Take it."""

    def close(self) -> None:
        """Write what is left."""


class MetricsFile:
    """`metrics.jsonl`: one object a line. A run that goes on cuts off what its checkpoint does not know."""

    def __init__(self, path: Path, durability: Durability, *, trained: int = 0, judged: int = 0) -> None:
        """trained, judged: the last step whose training, whose validation is kept."""
        ssd.make_directories([path.parent])
        with translated(path):
            before = path.read_bytes() if path.exists() else b""
        kept = kept_bytes(before, trained, judged)
        self._file = ssd.Appender(ssd.Target(path.parent, durability), path, keep_bytes=kept)

    def log(self, step: int, values: Values) -> None:
        """See Sink. What is not finite is null: JSON knows no such numbers."""
        plain = {name: None if _is_odd(value) else value for name, value in values.items()}
        self._file.append(json.dumps({"step": step} | plain, allow_nan=False).encode() + b"\n")

    def sync(self) -> None:
        """Make what was logged survive."""
        self._file.sync()

    def close(self) -> None:
        """See Sink."""
        self._file.close()


def kept_bytes(text: bytes, trained: int, judged: int) -> int:
    """Return how much of a file of metrics a run keeps that trained and judged up to these steps. Pure.

    A line that is torn, or of a later step, ends what is kept.
    """
    kept = 0
    for line in text.splitlines(keepends=True):
        try:
            values = json.loads(line)
            limit = judged if is_judgement(values) else trained
            if not line.endswith(b"\n") or values["step"] > limit:
                return kept
        except (ValueError, TypeError, KeyError):
            return kept
        kept += len(line)
    return kept


def is_judgement(values: Values) -> bool:
    """Whether a line is of a validation."""
    return any(name.startswith("dev_") for name in values)


class TensorBoard:
    """TensorBoard's files. A thread of its own writes them: TargetError and NoSpace are raised at a later call."""

    def __init__(self, folder: Path, step: int) -> None:
        """step: what was written for later ones is not shown."""
        self._folder = folder
        with translated(folder):
            self._writer = _tensorboard().SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, step: int, values: Values) -> None:
        """See Sink."""
        with translated(self._folder):
            for name, value in values.items():
                if isinstance(value, int | float) and not _is_odd(value):
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See Sink."""
        with translated(self._folder):
            self._writer.close()


class Wandb:
    """A run at Weights & Biases; the same one again when training goes on."""

    def __init__(self, module: Any, config: Config, folder: Path) -> None:
        known = folder / "id"
        ssd.make_directories([folder])
        if not known.exists():
            ssd.write_file(ssd.Target(folder), known, uuid.uuid4().hex[:12].encode())
        self._run = module.init(
            project=config.logging.wandb_project,
            entity=config.logging.wandb_entity,
            name=config.run.name,
            id=known.read_text(),
            resume="allow",
            dir=str(folder),
            config=config.model_dump(mode="json"),
        )

    def log(self, step: int, values: Values) -> None:
        """See Sink."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See Sink."""
        self._run.finish()


def open_wandb(config: Config, outputs: Outputs, say: Callable[[str], None]) -> Wandb | None:
    """Return the run at W&B, or None if it is off, or optional and cannot be had: then `say` says why.

    Raises ConfigError if it is required and cannot be had.
    """
    if config.logging.wandb == "off":
        return None
    try:
        return _required_wandb(config, outputs)
    except ConfigError as error:
        if config.logging.wandb == "required":
            raise
        say(f"warning: going on without W&B: {error} ({error.hint})")
        return None


def preflight(config: Config, *, writes: bool = True) -> None:
    """Make sure of what a run needs at its end, and not after hours of copying. writes: this process is the one.

    Raises ConfigError if something that the logs need is not there; TargetError, NoSpace where outputs cannot be.
    """
    if config.logging.tensorboard:
        _tensorboard()
    if config.logging.wandb == "required":
        _wandb()
    if writes:
        Outputs.of(config.run).prepare(config.logging)


def _tensorboard() -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ConfigError(
            "logging.tensorboard is true, and tensorboard is not installed",
            hint="pip install 'tusz-cache[train]', or set logging.tensorboard: false",
        ) from error


def _wandb() -> Any:
    """Return the module, once it is there and has a key."""
    try:
        wandb: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise ConfigError("wandb is not installed", hint="pip install wandb, or set logging.wandb: off") from error
    is_offline = os.environ.get("WANDB_MODE") in {"offline", "dryrun", "disabled"}
    if not (is_offline or os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise ConfigError("wandb has no API key", hint="set WANDB_API_KEY, run wandb login, or set logging.wandb: off")
    return wandb


def _required_wandb(config: Config, outputs: Outputs) -> Wandb:
    wandb = _wandb()
    try:
        return Wandb(wandb, config, outputs.wandb)
    except (wandb.Error, OSError) as error:
        raise ConfigError(f"wandb does not start: {error}", hint="check the key, project and entity") from error


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
