"""Calibration: whether seconds that get the probability p are ictal as often as p says. A histogram, no samples kept.

S = seconds of a recording.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tusz_train.ranking import Bools, Float32s

N_BINS = 15  # of equal width
_NONE = (0,) * N_BINS


@dataclass(frozen=True, slots=True)
class Calibration:
    """Seconds by predicted probability, in bins of equal width from 0 to 1."""

    seconds: tuple[int, ...] = _NONE
    ictal: tuple[int, ...] = _NONE  # of those seconds
    summed: tuple[float, ...] = _NONE  # probabilities of those seconds
    squared_error: float = 0.0  # summed over all seconds

    def counting(self, scores_S: Float32s, ictal_S: Bools) -> "Calibration":
        """Return the histogram with the seconds of one recording more."""
        bins_S = np.minimum((scores_S * N_BINS).astype(np.intp), N_BINS - 1)
        counts, ictal, summed = (
            np.bincount(bins_S, weights, N_BINS).tolist() for weights in (None, ictal_S, scores_S.astype(np.float64))
        )
        error = float(np.sum((scores_S.astype(np.float64) - ictal_S) ** 2))
        return Calibration(
            tuple(a + b for a, b in zip(self.seconds, counts, strict=True)),
            tuple(a + round(b) for a, b in zip(self.ictal, ictal, strict=True)),
            tuple(a + b for a, b in zip(self.summed, summed, strict=True)),
            self.squared_error + error,
        )

    @property
    def bins(self) -> list[tuple[float, float, int]]:
        """(mean probability, share of ictal seconds, seconds) of each bin that holds any."""
        filled = zip(self.summed, self.ictal, self.seconds, strict=True)
        return [(total / count, ictal / count, count) for total, ictal, count in filled if count]

    @property
    def ece(self) -> float | None:
        """Expected calibration error: the mean over seconds of how far share and probability of a bin lie apart."""
        total = sum(self.seconds)
        return sum(abs(p - share) * count for p, share, count in self.bins) / total if total else None

    @property
    def brier(self) -> float | None:
        """Mean squared error of the probabilities."""
        total = sum(self.seconds)
        return self.squared_error / total if total else None

    def as_dict(self) -> dict[str, Any]:
        """Return errors and histogram by name."""
        return {
            "ece_1hz": self.ece,
            "brier_1hz": self.brier,
            "seconds": list(self.seconds),
            "ictal": list(self.ictal),
            "mean_probability": [t / n if n else None for t, n in zip(self.summed, self.seconds, strict=True)],
        }
