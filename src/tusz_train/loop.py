"""The training loop, from top to bottom: validate, keep, stop, step.

Axes: B = windows of this process's share of a batch, C = channels, T = samples.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tusz_train.config import Config
from tusz_train.data.augment import Augmentation, augment
from tusz_train.data.dataset import Pair, WindowDataset
from tusz_train.data.feed import CudaFeed
from tusz_train.data.sampler import TrainingSampler
from tusz_train.distributed import World
from tusz_train.errors import Diverged
from tusz_train.optimisation import Average, learning_rate, set_learning_rate
from tusz_train.predict import Inference
from tusz_train.state import Plan, State
from tusz_train.validation import Judgement


@dataclass(slots=True)
class Training:
    """All that a run works with. What changes: weights, the sampler's position, and `state`."""

    config: Config
    world: World
    model: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    feed: CudaFeed
    sampler: TrainingSampler
    plan: Plan
    dev: WindowDataset  # that is validated on
    judge: Callable[[nn.Module], Judgement | None]  # None: stopped meanwhile
    keep: Callable[["Training"], None]  # write a checkpoint
    log: Callable[[int, Mapping[str, Any]], None]
    wants_stop: Callable[[], bool]
    recheck: Callable[[], None]  # raise if what is read is no longer what was admitted
    state: State = field(default_factory=State)
    patients: dict[str, frozenset[str]] = field(default_factory=dict)  # that it saw, by split; of earlier starts too
    kept: State | None = None  # that the last checkpoint of this run has

    @property
    def kept_model(self) -> nn.Module:
        """The weights that are validated: their average, if there is one."""
        return self.model if self.average is None else self.average.model


def train(run: Training) -> bool:
    """Train until the plan is over, or a stop is wanted. Returns whether it is over. Both leave a checkpoint.

    Raises Diverged after too many steps in a row without a finite loss and gradient, and what `recheck` raises.
    """
    clock = _Clock(run.config.checkpoint.every_minutes)
    every = run.config.checkpoint.every_steps
    batches = _endless(run)
    run.model.train()
    while True:
        stops, is_late = run.world.any(run.wants_stop(), clock.is_late())
        if not stops and run.plan.is_judgement_due(run.state):
            stops = not _validate(run)
        is_over = not stops and run.plan.is_over(run.state)
        is_due = every is not None and run.state.step > 0 and run.state.step % every == 0
        if run.state != run.kept and (stops or is_over or is_late or is_due or run.state.is_best):
            run.keep(run)
            run.kept = run.state
            clock.restart()
        if stops or is_over:
            return is_over
        _step(run, batches)


def _validate(run: Training) -> bool:
    """Judge the weights on dev. Returns False if a stop was wanted meanwhile: then it is done anew later."""
    began = time.perf_counter()
    judgement = run.judge(run.kept_model)
    if judgement is None:
        return False
    run.state = run.state.after(judgement.f1, judgement.threshold)
    line = judgement.as_line() | {"epoch": run.plan.epoch(run.state.step), "seconds": time.perf_counter() - began}
    run.log(run.state.step, line)
    return True


def _step(run: Training, batches: Iterator[Pair]) -> None:
    """Take one step: the gradients of some batches, clipped, applied if all is finite."""
    began, waited = time.perf_counter(), 0.0
    loop, count = run.config.loop, 0
    rate = learning_rate(run.state.step, run.plan.total, run.config.optimizer, run.config.schedule)
    set_learning_rate(run.optimizer, rate)
    buffers = [buffer.clone() for buffer in run.model.buffers()]  # of norms: a step that is skipped leaves no trace
    loss = torch.zeros((), device=run.world.device)
    for _ in range(loop.accumulation):
        x_BCT, y_BT = next(batches)
        waited += run.feed.wait_s
        count += len(x_BCT) * run.world.size
        x_BCT, y_BT = _varied(run, x_BCT, y_BT)
        with _autocast(run):
            logits_BT = run.model(x_BCT)
        share = _loss(logits_BT, y_BT, loop.pos_weight) / loop.accumulation
        share.backward()  # type: ignore[no-untyped-call] # torch has no types for it
        loss += share.detach()
    epoch = run.sampler.epoch
    parameters = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
    run.world.average_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, loop.clip_norm or math.inf)
    shown, size = torch.stack([run.world.mean(loss), norm.float()]).tolist()  # the only time that the GPU is waited for
    finite = math.isfinite(shown) and math.isfinite(size)
    if finite:
        run.optimizer.step()
    else:
        _restore(run.model, buffers)
    run.optimizer.zero_grad(set_to_none=True)
    run.state = run.state.stepped(finite=finite)
    if finite and run.average is not None:
        run.average.update(run.model, run.state.step)
    seconds = time.perf_counter() - began
    line = {"epoch": epoch, "loss": shown, "grad_norm": size, "learning_rate": rate, "skipped": run.state.skipped}
    timings = {"seconds": seconds, "windows_per_s": count / seconds, "wait_share": min(1.0, waited / seconds)}
    run.log(run.state.step, line | timings)
    if run.state.skipped_in_row > loop.max_nonfinite_steps:
        state = run.state
        raise Diverged(
            f"loss or gradient was not finite for {state.skipped_in_row} steps in a row, up to step {state.step}",
            hint="lower optimizer.lr or lengthen the warm-up; the last checkpoint is from before",
        )


def _loss(logits_BT: Tensor, y_BT: Tensor, pos_weight: float | None) -> Tensor:
    """Return the mean cross-entropy, in float32. It is the one place where samples are weighted, if at all."""
    weight = None if pos_weight is None else logits_BT.new_tensor(pos_weight, dtype=torch.float32)
    return functional.binary_cross_entropy_with_logits(logits_BT.float(), y_BT, pos_weight=weight)


def _varied(run: Training, x_BCT: Tensor, y_BT: Tensor) -> Pair:
    """Return the batch that was just taken, augmented by its place in the order."""
    asked = run.config.data.augmentation
    return augment(
        x_BCT,
        y_BT,
        Augmentation(
            scale=asked.scale,
            shift=round(asked.shift_s * 256),
            drop=asked.drop,
            swap=asked.swap,
            noise=asked.noise,
        ),
        seed=run.sampler.seed,
        epoch=run.sampler.epoch,
        batch=run.sampler.consumed - 1,
        rank=run.world.rank,
        world_size=run.world.size,
    )


def _autocast(run: Training) -> AbstractContextManager[Any]:
    device = run.world.device
    in_bf16 = Inference(device=str(device), amp=run.config.loop.amp).bf16
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16)


def _endless(run: Training) -> Iterator[Pair]:
    """Yield batch after batch, epoch after epoch, from where the sampler stands.

    Between two epochs nothing reads ahead: then it is looked whether the path still leads to what was admitted.
    """
    while True:
        run.recheck()
        yield from run.feed


@torch.no_grad()
def _restore(model: nn.Module, buffers: list[Tensor]) -> None:
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)


class _Clock:
    """Says when the next checkpoint is due by time."""

    def __init__(self, minutes: float | None) -> None:
        self.seconds = math.inf if minutes is None else minutes * 60
        self.restart()

    def restart(self) -> None:
        """Begin to count."""
        self.began = time.monotonic()

    def is_late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() - self.began >= self.seconds
