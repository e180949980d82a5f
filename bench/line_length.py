"""The classic one-line seizure detector: line length (Esteller et al. 2001) above a threshold, tuned on training data.

Axes: C = channels, T = samples, S = steps of half a second.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tusz_train import szcore
from tusz_train.events import Detection, Event, RecordingEvents, find_events
from tusz_train.montage import SAMPLING_RATE
from tusz_train.szcore import Counts

STEP = SAMPLING_RATE // 2
RATE = SAMPLING_RATE / STEP  # steps a second

Floats = npt.NDArray[np.floating]
Recording = tuple[Floats, RecordingEvents]  # z-scores (C, T) and the seizures


@dataclass(frozen=True, slots=True, kw_only=True)
class LineLength:
    """The detector's settings. What the grid leaves open is no property of the method, but how it is used."""

    lowpass: int  # samples of a moving average that takes muscle away; 1 leaves all
    over_channels: float  # quantile that makes one value of the channels': 0.5 is the median, 1 the most
    relative: bool  # in units of the recording's median
    smooth: int  # steps of a moving average
    min_duration_s: float
    close_gap_s: float
    threshold: float = 0.0

    def features(self, x_CT: Floats) -> Floats:
        """Return (S,)."""
        if self.lowpass > 1:
            sums_CT = np.cumsum(x_CT, axis=1, dtype=np.float64)
            x_CT = (sums_CT[:, self.lowpass :] - sums_CT[:, : -self.lowpass]) / self.lowpass
        steps = x_CT.shape[1] // STEP
        lengths_CT = np.abs(np.diff(x_CT, axis=1, prepend=x_CT[:, :1]))
        lengths_CS = lengths_CT[:, : steps * STEP].reshape(len(x_CT), steps, STEP).sum(axis=2)
        return np.quantile(lengths_CS, self.over_channels, axis=0)

    def scores(self, feature_S: Floats) -> Floats:
        """Return (S,), to be compared with the threshold."""
        smooth_S = np.convolve(np.pad(feature_S, self.smooth, "edge"), np.full(self.smooth, 1 / self.smooth), "same")
        smooth_S = smooth_S[self.smooth : self.smooth + len(feature_S)]
        return smooth_S / np.median(smooth_S) if self.relative else smooth_S

    def detected(self, score_S: Floats, reference: RecordingEvents) -> RecordingEvents:
        """Return what is found in a recording."""
        detection = Detection(threshold=1.0, close_gap_s=self.close_gap_s, min_duration_s=self.min_duration_s)
        events: tuple[Event, ...] = find_events((score_S >= self.threshold).astype(np.float32), RATE, detection)
        return RecordingEvents(reference.recording, reference.duration, events)


GRID: dict[str, tuple[float, ...]] = {
    "lowpass": (1, 8, 16),  # 16 samples: half the amplitude is left at 10 Hz
    "over_channels": (0.5, 0.8, 1.0),
    "relative": (False, True),
    "smooth": (2, 4, 10, 20, 40),
    "min_duration_s": (0.0, 5.0, 10.0, 20.0),
    "close_gap_s": (0.0, 10.0),
}
_THRESHOLDS = 1 - np.geomspace(0.003, 0.7, 20)  # as quantiles of all training scores


def settings() -> Iterator[LineLength]:
    """Yield all settings of the grid; those of the same features and scores follow each other."""
    for values in itertools.product(*GRID.values()):
        yield LineLength(**dict(zip(GRID, values, strict=True)))  # type: ignore[arg-type]  # whole numbers are floats


def tune(recordings: Sequence[Recording]) -> tuple[LineLength, Counts]:
    """Return the settings of highest SzCORE event F1, pooled over the recordings, and what they reach."""
    best: tuple[LineLength, Counts] | None = None
    references = [reference for _, reference in recordings]
    for _, same_features in itertools.groupby(settings(), lambda one: (one.lowpass, one.over_channels)):
        group = list(same_features)
        features = [group[0].features(x_CT) for x_CT, _ in recordings]
        for _, same_scores in itertools.groupby(group, lambda one: (one.relative, one.smooth)):
            found = list(same_scores)
            scores = [found[0].scores(feature_S) for feature_S in features]
            for threshold in np.quantile(np.concatenate(scores), _THRESHOLDS):
                for one in found:
                    detector = replace(one, threshold=float(threshold))
                    counts = _count(detector, scores, references)
                    if best is None or (counts.f1 or 0.0) > (best[1].f1 or 0.0):
                        best = detector, counts
    assert best is not None
    return best


def evaluate(detector: LineLength, recordings: Sequence[Recording]) -> Counts:
    """Return what the settings reach on other recordings."""
    scores = [detector.scores(detector.features(x_CT)) for x_CT, _ in recordings]
    return _count(detector, scores, [reference for _, reference in recordings])


def _count(detector: LineLength, scores: Sequence[Floats], references: Sequence[RecordingEvents]) -> Counts:
    pairs = zip(scores, references, strict=True)
    counted = (szcore.count_events(one, detector.detected(score_S, one)) for score_S, one in pairs)
    return sum(counted, Counts())
