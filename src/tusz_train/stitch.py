"""From windows to recordings: where windows lie, and how their overlapping predictions become one line.

Axes: C = channels, T = samples of a recording, L = samples of a window. Where a model predicts at a lower rate than the
samples', read "prediction" for "sample".
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import UsageError

Floats = npt.NDArray[np.floating]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

_IN_ORDER = "give the windows of one recording, each once, in the order of their starts"


def window_starts(n_samples: int, length: int, stride: int) -> range:
    """Return where windows begin so that each sample is in one. The last may reach past the end: `cut_window` pads."""
    if not 0 < stride <= length:
        raise UsageError(f"a stride of {stride} with windows of {length} makes no sense", hint="0 < stride <= length")
    if n_samples < 1:
        raise UsageError("a recording without samples has no windows", hint="leave it out")
    return range(0, max(n_samples - length, 0) + stride, stride)


def cut_window(x_CT: Floats, start: int, length: int) -> Floats:
    """Return (C, L) from `start` on; past the recording's end come zeros, the mean of standardised channels."""
    window = x_CT[:, start : start + length]
    return np.pad(window, ((0, 0), (0, length - window.shape[1])))


def hann(length: int) -> Float64s:
    """Return weights (L,) of a Hann window sampled between its zeros: no sample is without weight."""
    return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2


def trapezoid(length: int, ramp: int) -> Float64s:
    """Return weights (L,) that rise over `ramp` samples to 1 and fall likewise, never to zero."""
    if ramp < 0:
        raise UsageError(f"a ramp of {ramp} samples makes no sense", hint="give 0 or more")
    edge = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(1.0, edge / (ramp + 1))


def stitch(
    windows: Iterable[tuple[int, Floats]], n_samples: int, weights_L: Floats, *, unseen: float = 0.0
) -> Float32s:
    """Return predictions (T,) of one recording, as `stitch_pieces` gives them piece after piece."""
    stitched_T = np.empty(n_samples, np.float32)
    at = 0
    for piece in stitch_pieces(windows, n_samples, weights_L, unseen=unseen):
        stitched_T[at : at + len(piece)] = piece
        at += len(piece)
    return stitched_T


def stitch_pieces(
    windows: Iterable[tuple[int, Floats]], n_samples: int, weights_L: Floats, *, unseen: float = 0.0
) -> Iterator[Float32s]:
    """Yield the weighted means of overlapping windows' predictions, from the first of `n_samples` to the last.

    `windows` are (start, predictions (L,)) of one recording in order; one is held at a time. What reaches past the end
    is dropped. A tail that no window saw (in a recording without windows: all) is `unseen`; 0 calls it background.
    Raises UsageError for windows out of order or apart, and for predictions that are not finite.
    """
    length = len(weights_L)
    if not np.all(weights_L > 0):
        raise UsageError("some weights are not above 0", hint="take hann() or trapezoid(): the ends need weight too")
    sums_L, totals_L = np.zeros(length), np.zeros(length)
    at, seen = 0, 0  # the sample at which the sums begin; the one before which all lie in a window
    for start, predictions_L in windows:
        _check_window(start, predictions_L, length, n_samples)
        if start > seen or (seen and start <= at):
            raise UsageError(f"a window begins at {start}, after one that began at {at}", hint=_IN_ORDER)
        if done := start - at:
            yield (sums_L[:done] / totals_L[:done]).astype(np.float32)
            for buffer_L in (sums_L, totals_L):
                buffer_L[:-done] = buffer_L[done:]
                buffer_L[-done:] = 0
        sums_L += weights_L * predictions_L
        totals_L += weights_L
        at, seen = start, start + length
    rest = min(seen, n_samples) - at
    yield (sums_L[:rest] / totals_L[:rest]).astype(np.float32)
    yield np.full(n_samples - at - rest, unseen, np.float32)


def _check_window(start: int, predictions_L: Floats, length: int, n_samples: int) -> None:
    if predictions_L.shape != (length,):
        raise UsageError(
            f"the predictions of a window have the shape {predictions_L.shape}, its weights ({length},)",
            hint="give one prediction for each weight",
        )
    if not np.all(np.isfinite(predictions_L)):
        raise UsageError(f"the window at {start} holds NaN or infinite predictions", hint="look at the model's output")
    if start >= n_samples:
        raise UsageError(f"a window begins at {start} in a recording of {n_samples}", hint=_IN_ORDER)
