"""Any-overlap scoring (OVLP) of the label SEIZ, as the corpus' authors do it in nedc_eeg_eval.

A reference event is hit if any detection overlaps it, however briefly; a detection that overlaps none is one false
alarm. There is no tolerance, gaps stay open, and events that only touch do not overlap. False alarms of the label BCKG,
which that tool adds to its total, are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tusz_train.events import DAY_S, Event, RecordingEvents


@dataclass(frozen=True, slots=True)
class Ovlp:
    """Hits, misses and false alarms over some recordings. What is undefined is None."""

    hits: int = 0
    misses: int = 0
    false_alarms: int = 0
    seconds: float = 0.0  # true duration of the recordings

    def __add__(self, other: "Ovlp") -> "Ovlp":
        return Ovlp(
            self.hits + other.hits,
            self.misses + other.misses,
            self.false_alarms + other.false_alarms,
            self.seconds + other.seconds,
        )

    @property
    def sensitivity(self) -> float | None:
        """Share of the reference's events that are hit; None without any."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    @property
    def fa_per_24h(self) -> float | None:
        """False alarms per 24 h of recording."""
        return self.false_alarms / self.seconds * DAY_S if self.seconds else None

    def as_dict(self) -> dict[str, float | None]:
        """Return counts and ratios by name."""
        counts = {"hits": self.hits, "misses": self.misses, "false_alarms": self.false_alarms}
        return counts | {"sensitivity": self.sensitivity, "fa_per_24h": self.fa_per_24h}


def count(reference: RecordingEvents, hypothesis: RecordingEvents) -> Ovlp:
    """Count one recording."""
    hits = _overlapping(reference.events, hypothesis.events)
    true = _overlapping(hypothesis.events, reference.events)
    return Ovlp(hits, len(reference.events) - hits, len(hypothesis.events) - true, reference.duration)


def _overlapping(events: Sequence[Event], others: Sequence[Event]) -> int:
    """Return how many of `events` overlap any of `others`; both are sorted and apart."""
    if not others:
        return 0
    begins = np.array([other.start for other in others] + [np.inf])
    ends = np.array([other.stop for other in others])
    next_begin = begins[np.searchsorted(ends, [event.start for event in events], side="right")]
    return int(np.count_nonzero(next_begin < [event.stop for event in events]))
