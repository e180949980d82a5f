"""What turns gradients into weights: the optimiser, its rate as a function of the step, the average of weights."""

import copy
import math

import torch
from torch import Tensor, nn

from tusz_train.config import OptimizerConfig, ScheduleConfig
from tusz_train.model.weight_decay import decay_groups

_FAST_START = 10  # steps in which the average of weights forgets where it began


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of all weights that are trained."""
    groups = decay_groups(model, config.weight_decay)
    if config.name == "radam":
        return torch.optim.RAdam(groups, lr=config.lr, betas=config.betas, decoupled_weight_decay=True)
    on_gpu = any(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=on_gpu)


def learning_rate(step: int, total: int, optimizer: OptimizerConfig, schedule: ScheduleConfig) -> float:
    """Return the learning rate of optimiser step `step`, counted from 0, of `total`. Pure.

    It rises to `lr` within the warm-up; as a cosine it then falls to `floor * lr` at the last step.
    """
    warmup = schedule.warmup_steps if schedule.warmup_share is None else round(schedule.warmup_share * total)
    warmup = min(warmup or 0, total)
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup
    if schedule.shape == "constant":
        return optimizer.lr
    done = (step - warmup) / max(total - 1 - warmup, 1)
    share = schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    return optimizer.lr * share


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Have the next step take `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class Average:
    """The exponential moving average of a model's weights and norms' statistics, as a model of its own."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """model: what to begin with."""
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(requires_grad=False), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after `step` steps. The first steps count more, else short runs never leave their start."""
        share = 1 - min(self.decay, (1 + step) / (_FAST_START + step))
        for mine, theirs in zip(_tensors(self.model), _tensors(model), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, share)
            else:
                mine.copy_(theirs)


def _tensors(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())
