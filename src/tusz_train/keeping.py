"""What a checkpoint holds, and how a run takes it up again."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tusz_cache
from tusz_cache import Durability
from tusz_train import chance, checkpoint
from tusz_train.errors import BadCheckpoint, OrderChanged
from tusz_train.loop import Training
from tusz_train.resuming import Basis, differences
from tusz_train.state import State


def versions() -> dict[str, str | None]:
    """Return the versions of what determines a result."""
    return {
        "python": platform.python_version(),
        "tusz-cache": tusz_cache.__version__,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "numpy": np.__version__,
    }


def content_of(run: Training, basis: Basis) -> dict[str, Any]:
    """Return everything that a run goes on from. Every process takes part."""
    state = run.state
    return {
        "step": state.step,
        "epoch": run.plan.epoch(state.step),
        "metric": state.metric if state.is_judged else None,
        "threshold": state.threshold if state.is_judged else state.best_threshold,
        "state": state.as_dict(),
        "model": run.model.state_dict(),
        "average": None if run.average is None else run.average.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "sampler": run.feed.state_dict(),
        "chance": run.world.gather(chance.states(run.world.device)),  # by rank
        "patients": {split: sorted(seen) for split, seen in run.patients.items()},
        "since": state.since,
        "versions": versions(),
        **basis.as_dict(),
    }


def write(run: Training, folder: Path, basis: Basis, durability: Durability) -> None:
    """Write a checkpoint of this moment, and remove those that are not to be kept."""
    content = content_of(run, basis)

    def publish() -> None:
        checkpoint.save(folder, content, durability)
        checkpoint.prune(folder, run.config.checkpoint.keep_last, durability)

    run.world.led(publish)


def take_up(run: Training, saved: Mapping[str, Any], *, allow_changes: bool) -> list[str]:
    """Bring a run to where a checkpoint is. Returns what could not be taken up exactly, for the log.

    Raises BadCheckpoint if it is of another model, OrderChanged if it is of other windows.
    """
    notes: list[str] = []
    try:
        run.model.load_state_dict(saved["model"])
        if run.average is not None:
            run.average.model.load_state_dict(saved["average"] or saved["model"])
        run.optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise BadCheckpoint(
            f"the checkpoint is of another model or optimiser: {str(error).partition(chr(10))[0]}",
            hint="set model and optimizer as they were",
        ) from error
    run.state = State.of(saved["state"])
    for split, seen in saved.get("patients", {}).items():  # with --allow-changes they may be of another cache
        run.patients[split] = run.patients.get(split, frozenset()) | frozenset(seen)
    try:
        run.feed.load_state_dict(saved["sampler"])
    except OrderChanged as error:
        if not allow_changes:
            raise
        run.sampler.set_epoch(saved["sampler"]["epoch"] + 1)
        notes.append(f"the order of windows is another one ({error}): going on with epoch {run.sampler.epoch}")
    if len(saved["chance"]) == run.world.size:
        chance.restore(saved["chance"][run.world.rank], run.world.device)
    else:
        chance.seed_all(run.config.run.seed, run.world.rank, run.state.step)
        notes.append(
            f"it was written by {len(saved['chance'])} processes and this run has {run.world.size}: "
            "windows come in the same order, dropout is drawn anew"
        )
    if saved["versions"] != versions():
        notes.append(f"versions differ: {', '.join(differences(saved['versions'], versions()))}")
    return notes
