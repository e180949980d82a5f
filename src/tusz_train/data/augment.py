"""Variations of a batch that leave its labels true. Pure: the same key gives the same variation.

No time reversal and no mixing in time: a seizure evolves. Draws are of the whole batch of all ranks, so a window is
varied alike for any number of them; only noise depends on the rank's part, the device, and the version of torch.

Axes: B = windows of a rank's batch, C = 19 channels, T = samples.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tusz_cache import UsageError
from tusz_train.data.order import numbers, uniform
from tusz_train.montage import SWAP_SIDES


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much a window may be varied; 0 throughout leaves it as it is."""

    scale: float = 0.0  # amplitude: by up to this share, up or down alike, as in 1.2 and 1 / 1.2 for 0.2
    shift: int = 0  # samples: signal and labels are rotated together by up to so many either way
    drop: float = 0.0  # probability that a channel is silent
    swap: float = 0.0  # probability that left and right are exchanged
    noise: float = 0.0  # standard deviation of Gaussian noise, at most; the signal's is about 1

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        odd = [field.name for field in fields(self) if not getattr(self, field.name) >= 0]
        odd += [name for name in ("drop", "swap") if getattr(self, name) > 1]
        if odd:
            raise UsageError(
                f"augmentation with {', '.join(odd)} makes no sense",
                hint="give numbers from 0 on, probabilities up to 1",
            )


def augment(
    x_BCT: Tensor,
    y_BT: Tensor,
    how: Augmentation,
    *,
    seed: int,
    epoch: int,
    batch: int,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return a rank's part of batch number `batch` of `epoch`, varied; what is given stays as it is.

    Rotation keeps every sample and its label, at the price of one seam where the window's ends meet.
    """
    key = (seed, epoch, batch)
    count, part = len(x_BCT) * world_size, slice(rank * len(x_BCT), (rank + 1) * len(x_BCT))

    def draw(name: str, *shape: int) -> Tensor:
        """Return numbers from 0 to below 1, (B, *shape)."""
        drawn = uniform((count, *shape), name, *key)[part]
        return torch.from_numpy(np.ascontiguousarray(drawn)).to(x_BCT.device, torch.float32)

    if how.shift:
        shifts_B = (draw("shift") * (2 * how.shift + 1)).long() - how.shift
        x_BCT, y_BT = rotated(x_BCT, y_BT, shifts_B)
    if how.swap:
        mirrored_BCT = x_BCT[:, SWAP_SIDES]
        x_BCT = torch.where((draw("swap") < how.swap)[:, None, None], mirrored_BCT, x_BCT)
    if how.drop:
        x_BCT = x_BCT * (draw("drop", x_BCT.shape[1]) >= how.drop)[..., None]
    if how.scale:
        x_BCT = x_BCT * torch.exp((2 * draw("scale") - 1) * math.log1p(how.scale))[:, None, None].to(x_BCT.dtype)
    if how.noise:
        generator = torch.Generator(x_BCT.device)
        generator.manual_seed(int(numbers(1, "noise", *key, rank)[0] >> np.uint64(1)))
        noise_BCT = torch.randn(x_BCT.shape, generator=generator, device=x_BCT.device, dtype=x_BCT.dtype)
        x_BCT = x_BCT + noise_BCT * (draw("deviation") * how.noise)[:, None, None].to(x_BCT.dtype)
    return x_BCT, y_BT


def rotated(x_BCT: Tensor, y_BT: Tensor, shifts_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return signal and labels, those of each window rotated by its shift: what was at t is at t + shift."""
    times = torch.arange(y_BT.shape[1], device=y_BT.device)
    from_BT = (times - shifts_B[:, None]) % len(times)
    return x_BCT.gather(2, from_BT[:, None].expand_as(x_BCT)), y_BT.gather(1, from_BT)
