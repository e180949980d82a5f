"""A split in memory, and a model that needs no training: for evaluation and its report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WINDOW, STEP, RATE = 15360, 2560, 256

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class File:
    """What a split tells of a recording's file."""

    name: str
    n_windows: int
    is_labelled: bool = True


class Split:
    """Recordings in memory. Channel 0 is +1 where a seizure is, else -1; the others are noise."""

    def __init__(self, recordings: dict[str, tuple[int, Spans | None]], split: str = "dev", seed: int = 0) -> None:
        """recordings: windows, and seizures in seconds (None: no labels), by recording."""
        self.split = split
        self.recordings = tuple(
            File(f"{name}_windows.npz", count, spans is not None) for name, (count, spans) in recordings.items()
        )
        self.read: list[list[int]] = []  # what was asked for
        chance = np.random.default_rng(seed)
        self._windows: list[tuple[np.ndarray, np.ndarray]] = []
        for count, spans in recordings.values():
            length = (count - 1) * STEP + WINDOW if count else 0
            y_N = np.full(length, np.nan if spans is None else 0.0, np.float32)
            for start, stop in spans or ():
                y_N[round(start * RATE) : round(stop * RATE)] = 1
            x_CN = chance.standard_normal((19, length), np.float32)
            x_CN[0] = np.where(y_N == 1, 1, -1)
            for start in range(0, count * STEP, STEP):
                self._windows.append((x_CN[:, start : start + WINDOW], y_N[start : start + WINDOW]))

    def read_batch(self, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return windows and labels, as a WindowStore does."""
        self.read.append(list(indices))
        windows, labels = zip(*(self._windows[i] for i in indices), strict=True)
        return np.stack(windows), np.stack(labels)


def seeing(x_BCT: Tensor) -> Tensor:
    """Return logits that see every seizure: channel 0 tells."""
    return 4 * x_BCT[:, 0]


def smoothing(x_BCT: Tensor, seconds: float = 2.0) -> Tensor:
    """Return logits that rise with the power of a window's last channels: right at times, as models are."""
    power_B1T = x_BCT[:, 1:].square().mean(1, keepdim=True)
    width = int(seconds * RATE)
    mean_B1T = torch.nn.functional.avg_pool1d(power_B1T, width | 1, 1, width // 2, count_include_pad=False)
    return 3 * (mean_B1T[:, 0] - 1.6)
