"""Seizure events of a recording, and how they are found in a model's probabilities. Times are seconds.

Axes: T = predictions of one recording, `rate` of them a second. Prediction i stands for [i / rate, (i + 1) / rate).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import UsageError
from tusz_train.errors import BadAnnotations

DAY_S = 86400.0  # seconds of a day

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One seizure: [start, stop) in seconds from the beginning of the recording."""

    start: float
    stop: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop < math.inf:
            raise BadAnnotations(
                f"an event from {self.start} s to {self.stop} s is none",
                hint="times are seconds from the recording's beginning, the start first",
            )


@dataclass(frozen=True, slots=True)
class RecordingEvents:
    """The seizures of one recording: sorted, apart from each other, within the recording."""

    recording: str  # e.g. "aaaaaaac_s001_t000"
    duration: float  # seconds, of the whole recording and not of the windows cut from it
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.duration < math.inf:
            raise BadAnnotations(
                f"{self.recording}: a duration of {self.duration} s makes no sense",
                hint="state the recording's duration in seconds; what is shorter than 1 s cannot be scored",
            )
        object.__setattr__(self, "events", united(self.events, self.duration))

    @property
    def subject(self) -> str:
        """The patient: what stands before the first underscore, "aaaaaaac" or "sub-01"."""
        return self.recording.partition("_")[0]


def united(events: Iterable[Event], duration: float) -> tuple[Event, ...]:
    """Return events in order, cut at `duration`; those that overlap or touch are one, those without length are gone."""
    found: list[Event] = []
    for event in sorted(events):
        stop = min(event.stop, duration)
        if event.start >= stop:
            continue
        if found and event.start <= found[-1].stop:
            found[-1] = Event(found[-1].start, max(found[-1].stop, stop))
        else:
            found.append(Event(event.start, stop))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How probabilities become events."""

    threshold: float = 0.5  # an event begins where the probability reaches it
    release: float = 0.9  # share of the threshold below which the event ends
    close_gap_s: float = 0.0  # shorter gaps between events are closed; SzCORE closes 90 s by itself, NEDC none
    min_duration_s: float = 2.0  # shorter events are dropped, after gaps were closed

    def __post_init__(self) -> None:
        if not (0 < self.threshold <= 1 and 0 < self.release <= 1):
            raise UsageError(
                f"threshold {self.threshold} and release {self.release} make no sense",
                hint="both lie above 0 and at most at 1",
            )
        if not (0 <= self.close_gap_s < math.inf and 0 <= self.min_duration_s < math.inf):
            raise UsageError(
                f"close_gap_s {self.close_gap_s} and min_duration_s {self.min_duration_s} make no sense",
                hint="both are seconds, 0 or more",
            )


def find_events(p_T: Floats, rate: float, detection: Detection) -> tuple[Event, ...]:
    """Return the events in the probabilities of one recording: hysteresis, then close gaps, then drop short ones.

    Raises UsageError for what is no probability.
    """
    check_probabilities(p_T, rate)
    starts, stops = _hysteresis(p_T, detection.threshold, detection.threshold * detection.release)
    apart = (starts[1:] - stops[:-1]) / rate >= detection.close_gap_s
    starts = starts[np.concatenate(([True], apart))[: len(starts)]]
    stops = stops[np.concatenate((apart, [True]))[: len(stops)]]
    long = (stops - starts) / rate >= detection.min_duration_s
    seconds = zip((starts[long] / rate).tolist(), (stops[long] / rate).tolist(), strict=True)
    return tuple(Event(start, stop) for start, stop in seconds)


def _hysteresis(p_T: Floats, on: float, off: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return starts and stops of what begins at `on` or above and ends below `off`, where `off` <= `on`."""
    held_T = np.concatenate(([False], p_T >= off, [False]))
    starts, stops = np.flatnonzero(held_T[1:] != held_T[:-1]).reshape(-1, 2).T
    reached = np.append(np.flatnonzero(p_T >= on), len(p_T))  # the end stands for "never"
    first = reached[np.searchsorted(reached, starts)]
    return first[first < stops], stops[first < stops]


def check_probabilities(p_T: Floats, rate: float) -> None:
    """Raise UsageError unless `p_T` (T,) holds probabilities of one recording at `rate` a second."""
    if not 0 < rate < math.inf:
        raise UsageError(f"a rate of {rate} makes no sense", hint="give the number of predictions a second")
    if p_T.ndim != 1:
        raise UsageError(f"probabilities have the shape {p_T.shape}", hint="stitch one recording at a time into (T,)")
    if not np.all((p_T >= 0) & (p_T <= 1)):  # NaN is neither
        raise UsageError(
            "some predictions are no probabilities", hint="apply the sigmoid, and look for NaN in the model's output"
        )
