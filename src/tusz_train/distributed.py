"""Several devices: the same global batches as one, the same mean gradient, the same statistics of norms.

Started by torchrun. A gradient is averaged in one piece after the backward pass: its sum has the same order in every
run, which an overlap with the backward pass would not promise. Axes: B = windows, D = channels of a layer, T = time.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from tusz_cache import CacheError, UsageError
from tusz_train.errors import RankFailed

PATIENCE = timedelta(hours=24)  # for what one process does before all train, such as copying the data

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of a training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    patient: Any = None  # the group whose members wait for each other as long as PATIENCE

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def any(self, *wishes: bool, patiently: bool = False) -> tuple[bool, ...]:
        """Return for each wish whether any process has it. patiently: some come hours after the others."""
        if self.size == 1:
            return wishes
        said = torch.tensor(wishes, dtype=torch.uint8)
        distributed.all_reduce(said, distributed.ReduceOp.MAX, self.patient if patiently else None)
        return tuple(bool(one) for one in said.tolist())

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def first(self, value: Any) -> Any:
        """Return the first process's value. It also waits for it."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, 0)
        return values[0]

    def led(self, work: Callable[[], T]) -> T:
        """Have the first process do something, and return what came of it; the others wait.

        Raises its CacheError in all of them: none waits for one that has ended.
        """
        came: tuple[T | None, CacheError | None] = None, None
        if self.is_first:
            try:
                came = work(), None
            except CacheError as error:
                came = None, error
        result, failure = self.first(came)
        if failure is not None:
            raise failure
        return result  # type: ignore[no-any-return] # what `work` gave

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over all processes."""
        if self.size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.size

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Have every process hold the mean of all their gradients."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        together = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        pieces = torch.split(together, [gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[World]:
    """Enter the training that torchrun started this process for; without torchrun, be alone.

    Raises UsageError if there are fewer GPUs than processes, RankFailed if another process ends meanwhile.
    """
    try:
        rank, size, local = (int(environment.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError as error:
        raise UsageError(f"what torchrun says makes no sense: {error}", hint="start by torchrun, or without") from error
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}",
                hint="give --nproc-per-node the number of GPUs",
            )
        torch.cuda.set_device(device)
    if size <= 1:
        yield World(device=device)
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size, local, device, distributed.new_group(timeout=PATIENCE, backend="gloo"))
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise RankFailed(
                f"rank {rank} of {size} lost the others: {str(error).partition(chr(10))[0]}",
                hint="look for the first error above: one process ended, and the others cannot go on without it",
            ) from error
        raise
    finally:
        distributed.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        """Return the sum."""
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of each process's part: the sum of all gradients."""
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _summed(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call] # torch has no types for it
    return total


class GlobalBatchNorm(nn.BatchNorm1d):
    """Batch norm over the windows of all processes, on any device; torch's own wants GPUs."""

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Return (B, D, T)."""
        if not self.training:
            return super().forward(x_BDT)
        x = x_BDT.float()
        count = x.shape[0] * x.shape[2] * distributed.get_world_size()
        mean_D = _summed(x.sum((0, 2))) / count
        apart = x - mean_D[:, None]
        variance_D = _summed(apart.square().sum((0, 2))) / count
        with torch.no_grad():
            for running, now in ((self.running_mean, mean_D), (self.running_var, variance_D * count / (count - 1))):
                assert running is not None
                running.lerp_(now, self.momentum or 0.0)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
        scale_D = torch.rsqrt(variance_D + self.eps) * self.weight
        return (apart * scale_D[:, None] + self.bias[:, None]).to(x_BDT.dtype)


def share_norms(model: nn.Module) -> None:
    """Have the batch norms of a model see the windows of all processes; their weights and names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = GlobalBatchNorm
