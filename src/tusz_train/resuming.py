"""Which checkpoint a run goes on from, and whether it may; what of an earlier one gives way to it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tusz_cache import Durability, UsageError
from tusz_train import checkpoint, run_record
from tusz_train.config import Config, counts, training_hash
from tusz_train.distributed import World
from tusz_train.errors import OtherRun
from tusz_train.file_limit import FileLimit
from tusz_train.outputs import Outputs

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resume:
    """How a run begins. Raises UsageError for what makes no sense."""

    how: str = "auto"  # from the newest whole checkpoint of its name, if any; "never"; or the path of a checkpoint
    allow_changes: bool = False  # go on from a given checkpoint although configuration, cache or limit are not its own
    request: str | None = None  # id of the wish to begin: a start with that of the run's beginning goes on, as by auto

    def __post_init__(self) -> None:
        if self.allow_changes and self.path is None:
            raise UsageError("--allow-changes needs a checkpoint to go on from", hint="give it by --resume PATH")
        if not self.how:
            raise UsageError("--resume names nothing", hint="is a variable unset? Give auto, never or a checkpoint")
        if self.request is not None and not self.request.strip():
            raise UsageError(
                "the id of the request is empty", hint="is a variable unset? Leave --request out, or set it"
            )

    @property
    def path(self) -> Path | None:
        """The checkpoint that was given."""
        return None if self.how in {"auto", "never"} else Path(self.how)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a run's result follows from. Two starts of one run have the same."""

    config: Config
    cache: Mapping[str, Any]  # what the windows are
    limit: FileLimit | None

    def as_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {
            "config": self.config.model_dump(mode="json"),
            "training_hash": training_hash(self.config),
            "cache": dict(self.cache),
            "file_limit": self.limit_as_dict(),
        }

    def limit_as_dict(self) -> dict[str, int] | None:
        """Return the recordings that are taken of each split; None: all."""
        return {"train": self.limit.train, "dev": self.limit.dev} if self.limit else None


@dataclass(frozen=True, slots=True)
class Start:
    """How a start was decided to begin."""

    path: Path | None  # checkpoint to go on from
    begins: bool  # the run begins with this start; else it began with an earlier one
    sets_aside: bool  # what an earlier run of this name wrote gives way


def find(
    resume: Resume, basis: Basis, outputs: Outputs, *, world: World, say: Say
) -> tuple[Start, dict[str, Any] | None, bool]:
    """Return how the run begins, what the checkpoint holds that it goes on from, and whether a new history begins.

    The first process looks, all read; nothing is changed. What was best, and patience, belong to one run under one
    configuration, cache and limit: a checkpoint of another begins a new history. Raises OtherRun, BadCheckpoint.
    """
    start = world.led(lambda: decide(resume, outputs, say))
    if start.path is None:
        return start, None, False
    saved = checkpoint.load(start.path)
    try:
        check_same(saved, basis, start.path)
        is_same = True
    except OtherRun:
        if not resume.allow_changes:
            raise
        is_same = False
    say(f"going on from {start.path}")
    return start, saved, not is_same or not _is_own(start.path, outputs)


def decide(resume: Resume, outputs: Outputs, say: Say) -> Start:
    """Return how a start begins, by what lies in the folders of the run. Raises BadCheckpoint."""
    is_known = resume.request is not None and run_record.read(outputs.record).get("request") == resume.request
    if resume.how == "auto" or is_known:
        newest = checkpoint.newest(outputs.checkpoints, say)
        return Start(newest or resume.path, begins=newest is None and not is_known, sets_aside=False)
    is_elsewhere = resume.path is None or not _is_own(resume.path, outputs)
    return Start(resume.path, begins=True, sets_aside=is_elsewhere)


def make_way(start: Start, step: int, outputs: Outputs, durability: Durability, say: Say) -> None:
    """Take what is not of this run out of its way, now that it is about to train from `step` on."""
    if start.sets_aside:
        for folder in outputs.set_aside():
            say(f"an earlier run's outputs are set aside in {folder}")
        return
    later = [record for record in checkpoint.records(outputs.checkpoints) if record.step > step]
    if later and start.begins:
        to = outputs.aside(outputs.checkpoints)
        checkpoint.move(outputs.checkpoints, later, to, durability)
        say(f"later checkpoints are set aside in {to}")
    else:
        checkpoint.remove(outputs.checkpoints, later, durability)  # torn ones: the newest whole one was taken


def _is_own(path: Path, outputs: Outputs) -> bool:
    """Whether a checkpoint, or a folder of them, is that of this run."""
    own, given = (Path(os.path.realpath(one)) for one in (outputs.checkpoints, path))  # bears a link to itself
    return own in {given, given.parent}


def check_same(saved: Mapping[str, Any], basis: Basis, path: Path) -> None:
    """Raise OtherRun if a checkpoint is of another configuration, cache or file limit, naming what differs."""
    hint = "give another run.name, or --resume never; --resume PATH --allow-changes goes on all the same"
    now = basis.as_dict()
    if saved["cache"] != now["cache"]:
        raise OtherRun(f"{path} was trained on another cache, or on other values of it", hint=hint)
    if saved["file_limit"] != now["file_limit"]:
        before, limit = _limit_text(saved["file_limit"]), _limit_text(now["file_limit"])
        raise OtherRun(
            f"{path} was trained on {before}, and this start would take {limit}",
            hint=f"set BGB_LIMIT_FILES as it was, or {hint}",
        )
    if saved["training_hash"] != now["training_hash"]:
        changed = ", ".join(key for key in differences(saved["config"], now["config"]) if counts(key)) or "defaults"
        raise OtherRun(f"{path} is of another configuration: {changed}", hint=hint)


def _limit_text(limit: Mapping[str, int] | None) -> str:
    return "all files" if limit is None else f"{limit['train']} files of train and {limit['dev']} of dev"


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """Return the dotted keys whose values differ. Pure."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return [] if before == now else [key]
    names = [*before, *(name for name in now if name not in before)]
    return [
        found
        for name in names
        for found in differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    ]
