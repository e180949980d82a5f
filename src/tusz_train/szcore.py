"""Scoring as SzCORE does it: events and samples (1 Hz), counted by the field's own library, `timescoring`.

Its parameters are left as they are: events at 10 Hz, gaps below 90 s closed, events over 300 s split, a detection may
begin 30 s before and end 60 s after. Here are only the sums over recordings, and the ratios by its conventions.
"""

import functools
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tusz_cache.errors import MissingPackage
from tusz_train.events import DAY_S, RecordingEvents

_RATE = 256  # samples a second of the masks handed over; the library resamples events, not masks


@dataclass(frozen=True, slots=True)
class Counts:
    """Detections over some recordings, as events or as seconds. None is what the library calls NaN: undefined."""

    tp: int = 0  # of the reference's, found
    fp: int = 0
    ref: int = 0  # of the reference
    seconds: float = 0.0  # true duration of the recordings

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.ref + other.ref, self.seconds + other.seconds)

    @property
    def sensitivity(self) -> float | None:
        """Share of the reference that was found; None without a reference."""
        return self.tp / self.ref if self.ref else None

    @property
    def precision(self) -> float | None:
        """Share of detections that are true; None without detections."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; 0 where nothing is found, None where there is nothing to find and nothing found."""
        return 2 * self.tp / (self.tp + self.fp + self.ref) if self.ref + self.fp else None

    @property
    def fp_per_day(self) -> float | None:
        """False detections per 24 h of recording."""
        return self.fp / self.seconds * DAY_S if self.seconds else None

    def as_dict(self) -> dict[str, float | None]:
        """Return counts and ratios by name."""
        return {"tp": self.tp, "fp": self.fp, "ref": self.ref} | {name: getattr(self, name) for name in RATIOS}


RATIOS = ("sensitivity", "precision", "f1", "fp_per_day")


@dataclass(frozen=True, slots=True)
class Szcore:
    """Counts by event and by sample."""

    event: Counts = field(default_factory=Counts)
    sample: Counts = field(default_factory=Counts)

    def __add__(self, other: "Szcore") -> "Szcore":
        return Szcore(self.event + other.event, self.sample + other.sample)


def count(reference: RecordingEvents, hypothesis: RecordingEvents) -> Szcore:
    """Count one recording. Raises MissingPackage if `timescoring` is not installed."""
    return Szcore(count_events(reference, hypothesis), count_samples(reference, hypothesis))


def count_events(reference: RecordingEvents, hypothesis: RecordingEvents) -> Counts:
    """Count the events of one recording."""
    return _counted(_library("scoring").EventScoring, reference, hypothesis)


def count_samples(reference: RecordingEvents, hypothesis: RecordingEvents) -> Counts:
    """Count the seconds of one recording."""
    return _counted(_library("scoring").SampleScoring, reference, hypothesis)


def mean_of(subjects: Iterable[Counts]) -> dict[str, float | None]:
    """Return each ratio's mean over the subjects for whom it is defined, as the SzCORE leaderboard does."""
    counted = list(subjects)
    return {name: mean(getattr(counts, name) for counts in counted) for name in RATIOS}


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is defined, None if nothing is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def shown(value: float | None, digits: int = 3) -> str:
    """Return a ratio for a person."""
    return "undefined" if value is None else f"{value:.{digits}f}"


def _counted(scoring: Any, reference: RecordingEvents, hypothesis: RecordingEvents) -> Counts:
    scored = scoring(_annotation(reference), _annotation(hypothesis))
    return Counts(int(scored.tp), int(scored.fp), int(scored.refTrue), reference.duration)


def _annotation(recording: RecordingEvents) -> Any:
    """Return the library's own form. Events and not a mask, so that it rounds times once."""
    events = [(event.start, event.stop) for event in recording.events]
    return _library("annotations").Annotation(events, _RATE, round(recording.duration * _RATE))


@functools.cache
def _library(module: str) -> Any:
    try:
        return importlib.import_module(f"timescoring.{module}")
    except ImportError as error:
        raise MissingPackage("scoring needs the package timescoring", hint="pip install 'tusz-cache[score]'") from error
