"""What can be reached at any threshold: sensitivity at given false alarms per day, AUROC, average precision.

All from stitched probabilities of whole recordings, one recording at a time.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tusz_cache.errors import UsageError
from tusz_cache.layout import as_html, as_table
from tusz_train import nedc, ranking, szcore
from tusz_train.events import Detection, Floats, RecordingEvents, check_probabilities, find_events
from tusz_train.nedc import Ovlp
from tusz_train.szcore import Counts, mean, shown

FALSE_ALARMS_PER_DAY = (10.0, 5.0, 2.5, 1.0)
# Even steps of log odds, from 0.0003 to 0.9997: trained models put most of their probabilities near 0 and 1.
THRESHOLDS = tuple(float(1 / (1 + np.exp(-step / 4))) for step in range(-32, 33))
Seconds = tuple[ranking.Float32s, ranking.Bools]  # probabilities and labels of a recording, (S,) at 1 Hz
_RATES = {"szcore_event": "fp_per_day", "nedc_ovlp": "fa_per_24h"}  # what each scorer calls false alarms per day


@dataclass(frozen=True, slots=True)
class Predicted:
    """One recording with probabilities for the whole of its true duration."""

    reference: RecordingEvents
    probabilities: Floats  # (T,), one for each sample of the true duration
    rate: float  # of probabilities, a second

    def __post_init__(self) -> None:
        check_probabilities(self.probabilities, self.rate)
        if abs(len(self.probabilities) - self.reference.duration * self.rate) > 1:
            raise UsageError(
                f"{self.reference.recording}: {len(self.probabilities)} probabilities at {self.rate:g} Hz "
                f"are not those of {self.reference.duration:g} s",
                hint="stitch the windows over the recording's true duration; its tail counts too",
            )

    def detected(self, detection: Detection) -> RecordingEvents:
        """Return the events that are detected."""
        events = find_events(self.probabilities, self.rate, detection)
        return RecordingEvents(self.reference.recording, self.reference.duration, events)

    def seconds(self) -> Seconds:
        """Return probabilities and labels (S,) at 1 Hz."""
        n_seconds = round(self.reference.duration)
        scores_S = ranking.by_second(self.probabilities, self.rate, n_seconds)
        return scores_S, ranking.ictal_seconds(self.reference.events, n_seconds)


@dataclass(frozen=True, slots=True)
class Point:
    """Pooled counts of both scorers at one threshold."""

    threshold: float
    szcore_event: Counts = field(default_factory=Counts)
    nedc_ovlp: Ovlp = field(default_factory=Ovlp)

    def counting(self, reference: RecordingEvents, hypothesis: RecordingEvents) -> "Point":
        """Return the counts with one recording more."""
        events, overlaps = szcore.count_events(reference, hypothesis), nedc.count(reference, hypothesis)
        return Point(self.threshold, self.szcore_event + events, self.nedc_ovlp + overlaps)

    def __add__(self, other: "Point") -> "Point":
        return Point(self.threshold, self.szcore_event + other.szcore_event, self.nedc_ovlp + other.nedc_ovlp)

    def as_dict(self) -> dict[str, Any]:
        """Return counts and ratios by name."""
        counts = {"szcore_event": self.szcore_event.as_dict(), "nedc_ovlp": self.nedc_ovlp.as_dict()}
        return {"threshold": self.threshold, **counts}


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well probabilities rank seconds, at 1 Hz; None where undefined."""

    auroc_1hz: float | None
    average_precision_1hz: float | None

    @classmethod
    def of(cls, recordings: Sequence[Seconds]) -> "Ranking":
        """Rank the seconds of some recordings together."""
        scores_S = np.concatenate([scores for scores, _ in recordings])
        ictal_S = np.concatenate([ictal for _, ictal in recordings])
        return cls(ranking.auroc(scores_S, ictal_S), ranking.average_precision(scores_S, ictal_S))


@dataclass(frozen=True, slots=True)
class CurveReport:
    """What a model's probabilities reach at all thresholds."""

    points: tuple[Point, ...]  # by rising threshold
    pooled: Ranking
    per_subject: Mapping[str, Ranking]
    detection: Detection  # how events were found, but for the threshold

    exit_code: ClassVar[int] = 0

    @property
    def best_szcore_event_f1(self) -> Point:
        """The point of highest SzCORE event F1, pooled; of equals the highest. Choose it on dev, then freeze it."""
        return max(self.points, key=lambda point: (point.szcore_event.f1 or 0.0, point.threshold))

    def sensitivity_at(self, scorer: str, limit: float) -> dict[str, float | None]:
        """Return the highest sensitivity with at most `limit` false alarms per day, and where it is reached.

        `scorer` is "szcore_event" or "nedc_ovlp". Where every threshold has more, what detects nothing stands: 0.
        """
        rate = _RATES[scorer]
        allowed = [point for point in self.points if getattr(getattr(point, scorer), rate) <= limit]
        if not allowed:
            ends = getattr(self.points[-1], scorer).sensitivity
            return {"sensitivity": None if ends is None else 0.0, "threshold": None, rate: 0.0}
        best = max(allowed, key=lambda point: (getattr(point, scorer).sensitivity or 0.0, point.threshold))
        counts = getattr(best, scorer)
        return {"sensitivity": counts.sensitivity, "threshold": best.threshold, rate: getattr(counts, rate)}

    def as_dict(self) -> dict[str, Any]:
        """Return everything by name; each name says by which scorer."""
        named = {
            f"{scorer}_sensitivity_at_{rate}": {
                f"{limit:g}": self.sensitivity_at(scorer, limit) for limit in FALSE_ALARMS_PER_DAY
            }
            for scorer, rate in _RATES.items()
        }
        rankings = {
            name: {
                "pooled": getattr(self.pooled, name),
                "macro": mean(getattr(one, name) for one in self.per_subject.values()),
                "per_subject": {subject: getattr(one, name) for subject, one in self.per_subject.items()},
            }
            for name in ("auroc_1hz", "average_precision_1hz")
        }
        best = self.best_szcore_event_f1
        return {
            **rankings,
            **named,
            "best_szcore_event_f1": {"f1": best.szcore_event.f1, "threshold": best.threshold},
            "detection": {k: v for k, v in dataclasses.asdict(self.detection).items() if k != "threshold"},
            "points": [point.as_dict() for point in self.points],
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict(), allow_nan=False)

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        best = self.best_szcore_event_f1
        rows = [
            ("AUROC at 1 Hz, pooled", shown(self.pooled.auroc_1hz)),
            ("average precision at 1 Hz, pooled", shown(self.pooled.average_precision_1hz)),
            ("best SzCORE event F1, pooled", f"{shown(best.szcore_event.f1)} at threshold {best.threshold:.4f}"),
        ]
        for label, scorer, unit in (
            ("NEDC OVLP", "nedc_ovlp", "FA/24h"),
            ("SzCORE event", "szcore_event", "FP/day"),
        ):
            reached = ((f"{limit:g}", self.sensitivity_at(scorer, limit)) for limit in FALSE_ALARMS_PER_DAY)
            values = (f"{shown(found['sensitivity'])} at {limit}" for limit, found in reached)
            rows.append((f"{label} sensitivity at {unit}, pooled", ", ".join(values)))
        return rows

    def as_text(self) -> str:
        """Return `rows` as a table."""
        return as_table(self.rows())

    def _repr_html_(self) -> str:
        return as_html("at all thresholds", self.rows())


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted over some recordings; of others it can be added."""

    points: tuple[Point, ...]
    seconds: Mapping[str, Seconds]  # of each recording
    subjects: Mapping[str, str]  # of each recording
    detection: Detection

    def __add__(self, other: "Tally") -> "Tally":
        if again := self.seconds.keys() & other.seconds.keys():
            raise _twice(min(again))
        points = tuple(one + another for one, another in zip(self.points, other.points, strict=True))
        seconds, subjects = {**self.seconds, **other.seconds}, {**self.subjects, **other.subjects}
        return Tally(points, seconds, subjects, self.detection)

    def report(self) -> CurveReport:
        """Return what was reached. Raises UsageError where there is nothing to score."""
        if not self.seconds or not self.points:
            raise UsageError("there is nothing to score", hint="give at least one recording and one threshold")
        of_subject: defaultdict[str, list[Seconds]] = defaultdict(list)
        for recording in sorted(self.seconds):
            of_subject[self.subjects[recording]].append(self.seconds[recording])
        per_subject = {subject: Ranking.of(of_subject[subject]) for subject in sorted(of_subject)}
        return CurveReport(self.points, Ranking.of(list(self.seconds.values())), per_subject, self.detection)


def tally(
    recordings: Iterable[Predicted],
    detection: Detection = Detection(),  # noqa: B008 - a frozen value
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Tally:
    """Count recording after recording at all thresholds, as `score_predictions` does."""
    points = tuple(Point(threshold) for threshold in sorted(thresholds))
    seconds: dict[str, Seconds] = {}
    subjects: dict[str, str] = {}
    for predicted in recordings:
        reference = predicted.reference
        if reference.recording in seconds:
            raise _twice(reference.recording)
        points = tuple(
            point.counting(reference, predicted.detected(dataclasses.replace(detection, threshold=point.threshold)))
            for point in points
        )
        seconds[reference.recording], subjects[reference.recording] = predicted.seconds(), reference.subject
    return Tally(points, seconds, subjects, detection)


def score_predictions(
    recordings: Iterable[Predicted],
    detection: Detection = Detection(),  # noqa: B008 - a frozen value
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> CurveReport:
    """Score recording after recording at all thresholds; `detection` says how events are found, but for the threshold.

    Of each recording counts and 5 bytes a second are kept. Raises UsageError where one comes twice, or there is none.
    """
    return tally(recordings, detection, thresholds=thresholds).report()


def _twice(recording: str) -> UsageError:
    return UsageError(f"{recording} comes twice", hint="stitch its windows, score it once")
