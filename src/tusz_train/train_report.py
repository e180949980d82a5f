"""What a training run came to."""

import json
from dataclasses import dataclass
from typing import Any

from tusz_cache.layout import as_table
from tusz_train.loop import Training
from tusz_train.outputs import Outputs

STOPPED = 75  # exit status: stopped on purpose in time


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What a run came to."""

    run: str
    is_over: bool  # else it was stopped, and goes on when started again
    steps: int | None  # None: stopped before training began
    total: int | None
    skipped: int | None
    best_metric: float | None
    best_step: int | None
    best_threshold: float | None
    checkpoints: str  # their folder
    seconds: float

    @classmethod
    def of(cls, run: Training, outputs: Outputs, *, is_over: bool, seconds: float) -> "TrainReport":
        """Return that of a run."""
        state = run.state
        return cls(
            run=run.config.run.name,
            is_over=is_over,
            steps=state.step,
            total=run.plan.total,
            skipped=state.skipped,
            best_metric=state.best_metric,
            best_step=state.best_step,
            best_threshold=state.best_threshold,
            checkpoints=str(outputs.checkpoints),
            seconds=seconds,
        )

    @classmethod
    def early(cls, run: str, outputs: Outputs, *, seconds: float) -> "TrainReport":
        """Return that of a run which was stopped before training began; a checkpoint may be there from before."""
        return cls(
            run=run,
            is_over=False,
            steps=None,
            total=None,
            skipped=None,
            best_metric=None,
            best_step=None,
            best_threshold=None,
            checkpoints=str(outputs.checkpoints),
            seconds=seconds,
        )

    @property
    def exit_code(self) -> int:
        """0, or that of a run that was stopped in time."""
        return 0 if self.is_over else STOPPED

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `train --json` prints."""
        best = {"szcore_event_f1": self.best_metric, "step": self.best_step, "threshold": self.best_threshold}
        steps = {"done": self.steps, "total": self.total, "skipped": self.skipped}
        told = {"run": self.run, "over": self.is_over, "steps": steps, "best": best, "checkpoints": self.checkpoints}
        return told | {"seconds": round(self.seconds, 1)}

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict(), allow_nan=False)

    def as_text(self) -> str:
        """Return lines for a person."""
        done = "over" if self.is_over else "stopped in time: run it again with --resume auto, the default, to go on"
        steps = f"{self.steps} of {self.total}, {self.skipped} skipped"
        rows = [
            ("run", f"{self.run}, {done}"),
            ("steps", "none: stopped before training began" if self.steps is None else steps),
        ]
        if self.best_metric is not None:
            found = f"SzCORE event F1 {self.best_metric:.3f} at threshold {self.best_threshold}, step {self.best_step}"
            rows.append(("best on dev", found))
        return as_table([*rows, ("checkpoints", self.checkpoints)])
