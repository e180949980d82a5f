"""How well probabilities rank ictal above other seconds: AUROC and average precision, exact, at 1 Hz.

Written here, since scikit-learn and scipy would bring 190 MB for twenty lines. S = seconds of some recordings.
"""

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import UsageError
from tusz_train.events import Event, Floats

Float32s = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def by_second(p_T: Floats, rate: float, n_seconds: int) -> Float32s:
    """Return the mean probability (S,) of each second; for one without predictions, the nearest stands."""
    if rate < 1:
        raise UsageError(f"{rate} predictions a second are too few for 1 Hz", hint="predict at 1 Hz or faster")
    bounds = np.rint(np.arange(n_seconds + 1) * rate).astype(np.intp)
    starts = np.minimum(bounds[:-1], len(p_T) - 1)
    stops = np.clip(bounds[1:], starts + 1, len(p_T))
    sums = np.concatenate(([0.0], np.cumsum(p_T, dtype=np.float64)))
    means: Float32s = ((sums[stops] - sums[starts]) / (stops - starts)).astype(np.float32)
    return means


def ictal_seconds(events: tuple[Event, ...], n_seconds: int) -> Bools:
    """Return which seconds (S,) are ictal, as SzCORE's sample score has it: bounds are rounded to seconds."""
    ictal_S = np.zeros(n_seconds, np.bool_)
    for event in events:
        ictal_S[round(event.start) : round(event.stop)] = True
    return ictal_S


def auroc(scores_S: Floats, ictal_S: Bools) -> float | None:
    """Return the chance that an ictal second scores above another one, ties half; None if either kind is missing."""
    ictal, other = _by_score(scores_S, ictal_S)
    pairs = float(ictal.sum()) * float(other.sum())
    below = np.cumsum(other) - other
    return float(np.sum(ictal * (below + other / 2.0)) / pairs) if pairs else None


def average_precision(scores_S: Floats, ictal_S: Bools) -> float | None:
    """Return the mean precision over ictal seconds, each at its own score as threshold; None without ictal seconds."""
    ictal, other = (counts[::-1] for counts in _by_score(scores_S, ictal_S))
    found = np.cumsum(ictal)
    called = found + np.cumsum(other)
    return float(np.sum(ictal * found / called) / found[-1]) if len(found) and found[-1] else None


def _by_score(scores_S: Floats, ictal_S: Bools) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return how many ictal and how many other seconds have each score, by rising score."""
    _, rank_S = np.unique(scores_S, return_inverse=True)
    counts = [np.bincount(rank_S[mask], minlength=int(rank_S.max(initial=-1)) + 1) for mask in (ictal_S, ~ictal_S)]
    return counts[0], counts[1]
