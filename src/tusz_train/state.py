"""How far a run has come: a value, and what follows from it. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tusz_train.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a run has come."""

    step: int = 0  # optimiser steps that were tried
    skipped: int = 0  # of them, those without a finite loss and gradient
    skipped_in_row: int = 0  # of the last ones
    judged: int = 0  # step of the last validation; 0: none yet
    metric: float | None = None  # that it found
    threshold: float | None = None  # that reaches it
    best_metric: float | None = None
    best_step: int | None = None
    best_threshold: float | None = None
    worse_in_row: int = 0  # validations since the best one
    since: int = 0  # step at which this history of validations began: those before were of another run or configuration

    @property
    def is_judged(self) -> bool:
        """Whether the weights of this very step were validated."""
        return self.judged == self.step > 0

    @property
    def is_best(self) -> bool:
        """Whether the weights of this very step are the best so far."""
        return self.is_judged and self.best_step == self.step

    def stepped(self, *, finite: bool) -> "State":
        """Return the state after one more step."""
        if finite:
            return replace(self, step=self.step + 1, skipped_in_row=0)
        return replace(self, step=self.step + 1, skipped=self.skipped + 1, skipped_in_row=self.skipped_in_row + 1)

    def after(self, metric: float, threshold: float) -> "State":
        """Return the state after a validation of this step."""
        now = replace(self, judged=self.step, metric=metric, threshold=threshold)
        if self.best_metric is not None and metric <= self.best_metric:
            return replace(now, worse_in_row=self.worse_in_row + 1)
        return replace(now, best_metric=metric, best_step=self.step, best_threshold=threshold, worse_in_row=0)

    def judged_anew(self) -> "State":
        """Return the state at the beginning of a history: what was best elsewhere is not what is best here."""
        return State(step=self.step, skipped=self.skipped, skipped_in_row=self.skipped_in_row, since=self.step)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "State":
        """Return what `as_dict` gave."""
        return cls(**{field.name: saved[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is, in optimiser steps, and where it is validated. One epoch's last batch may open a step whose
    other batches are the next epoch's.
    """

    total: int
    batches: int  # of an epoch
    accumulation: int
    every: int | None  # steps between validations; None: one behind each epoch
    patience: int | None

    @classmethod
    def of(cls, config: Config, batches: int) -> "Plan":
        """Return the plan of a configuration. batches: of an epoch."""
        loop, judged = config.loop, config.validation
        total = loop.steps or max(1, (loop.epochs or 1) * batches // loop.accumulation)
        return cls(total, batches, loop.accumulation, judged.every_steps, judged.patience)

    def epoch(self, step: int) -> int:
        """Return the epochs that are complete after `step` steps."""
        return step * self.accumulation // self.batches

    def is_over(self, state: State) -> bool:
        """Whether nothing is left to do: all steps are done, or no validation was better for too long."""
        return state.step >= self.total or (self.patience is not None and state.worse_in_row >= self.patience)

    def is_judgement_due(self, state: State) -> bool:
        """Whether the weights of this step are to be validated, and were not: at intervals, and at the end."""
        step = state.step
        if step in {0, state.judged}:
            return False
        at_interval = step % self.every == 0 if self.every else self.epoch(step) > self.epoch(step - 1)
        return at_interval or step >= self.total
