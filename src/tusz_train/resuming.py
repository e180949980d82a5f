"""Which checkpoint a run goes on from, and whether it may."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tusz_cache import Durability, UsageError
from tusz_train import checkpoint
from tusz_train.config import Config, training_hash
from tusz_train.distributed import World
from tusz_train.errors import OtherRun
from tusz_train.outputs import Outputs


@dataclass(frozen=True, slots=True)
class Resume:
    """How a run begins. Raises UsageError for what makes no sense."""

    how: str = "auto"  # from the newest whole checkpoint of its name, if any; "never"; or the path of a checkpoint
    allow_changes: bool = False  # go on from a given checkpoint although configuration or cache are not its own

    def __post_init__(self) -> None:
        if self.allow_changes and self.path is None:
            raise UsageError("--allow-changes needs a checkpoint to go on from", hint="give it by --resume PATH")

    @property
    def path(self) -> Path | None:
        """The checkpoint that was given."""
        return None if self.how in {"auto", "never"} else Path(self.how)


def find(
    resume: Resume,
    config: Config,
    cache: Mapping[str, Any],
    outputs: Outputs,
    *,
    world: World,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Return what the checkpoint holds that the run goes on from, or None. The first process looks, all read.

    never: what an earlier run of this name wrote is set aside. Raises OtherRun, BadCheckpoint.
    """
    path = resume.path
    if world.is_first and resume.how == "never":
        for folder in outputs.set_aside():
            say(f"an earlier run's outputs are set aside in {folder}")
    if world.is_first and resume.how == "auto" and (newest := checkpoint.newest(outputs.checkpoints, say)):
        path = newest
    if (path := world.first(path)) is None:
        return None
    saved = checkpoint.load(path)
    if not resume.allow_changes:
        check_same(saved, config, cache, path)
    say(f"going on from {path}")
    return saved


def withdraw_after(step: int, folder: Path, durability: Durability) -> None:
    """Withdraw the checkpoints of later steps: the run goes another way from here."""
    for record in checkpoint.records(folder):
        if record.step > step:
            checkpoint.withdraw(folder, record, durability)


def check_same(saved: Mapping[str, Any], config: Config, cache: Mapping[str, Any], path: Path) -> None:
    """Raise OtherRun if a checkpoint is of another configuration or cache, naming what differs."""
    hint = "give another run.name, or --resume never; --resume PATH --allow-changes goes on all the same"
    if saved["cache"] != dict(cache):
        raise OtherRun(f"{path} was trained on another cache, or on other values of it", hint=hint)
    if saved["training_hash"] != training_hash(config):
        changed = ", ".join(differences(saved["config"], config.model_dump(mode="json"))) or "defaults"
        raise OtherRun(f"{path} is of another configuration: {changed}", hint=hint)


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
