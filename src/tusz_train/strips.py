"""Which recordings a report shows, and the window of them that says most. Pure, but for reading that window.

Axes: C = channels, T = samples of a window, N = predictions of a recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tusz_train.events import Event, RecordingEvents
from tusz_train.nedc import Ovlp
from tusz_train.ranking import Float32s
from tusz_train.schedule import STEP_S, Scheduled
from tusz_train.szcore import Szcore

_LEAD_S = 20.0  # of what happened before, in the window that is shown


@dataclass(frozen=True, slots=True)
class ScoredRecording:
    """One recording, what was found in it, and how it scored."""

    reference: RecordingEvents
    hypothesis: RecordingEvents
    szcore: Szcore
    nedc_ovlp: Ovlp

    @property
    def name(self) -> str:
        """The recording's."""
        return self.reference.recording


@dataclass(frozen=True, slots=True)
class Strip:
    """One recording as a report shows it: all of its probabilities, and the EEG of one window."""

    kind: str  # "best" or "worst"
    scored: ScoredRecording
    probabilities: Float32s  # (N,)
    rate: float  # of probabilities
    start: float  # of the EEG, seconds from the recording's beginning
    shows: str  # what the EEG was chosen for
    eeg: Float32s  # (C, T), standardised


def best_and_worst(recordings: Sequence[ScoredRecording]) -> dict[str, ScoredRecording]:
    """Return the recordings of highest and of lowest SzCORE sample F1, by "best" and "worst".

    Of equals, the best has most ictal seconds, the worst most wrong ones. Recordings without ictal seconds and without
    detections say nothing; where only one is left, it is not called the worst as well.
    """
    told = [one for one in recordings if one.szcore.sample.f1 is not None]
    if not told:
        return {}
    best = max(told, key=lambda one: (one.szcore.sample.f1 or 0.0, one.szcore.sample.ref))
    worst = min(told, key=lambda one: (one.szcore.sample.f1 or 0.0, -_wrong_seconds(one)))
    return {"best": best} | ({} if worst is best else {"worst": worst})


def telling_window(one: ScoredRecording, scheduled: Scheduled, kind: str) -> tuple[int, str]:
    """Return the window to show, as its number in the recording, and what it is there for.

    The worst recording shows a missed seizure, else a false alarm; the best the longest seizure that was found.
    """
    found, missed = _split(one.reference, one.hypothesis)
    true, false = _split(one.hypothesis, one.reference)
    by_kind = {
        "best": (("seizure found", found), ("seizure", missed), ("false alarm", false)),
        "worst": (("seizure missed", missed), ("false alarm", false), ("seizure found in part", found)),
    }
    what, events = next(((what, events) for what, events in by_kind[kind] if events), ("detection", true))
    longest = max(events, key=lambda event: event.stop - event.start)
    last = scheduled.windows[-1]
    return min(max(int((longest.start - _LEAD_S) // STEP_S), 0), last), what


def _split(events: RecordingEvents, others: RecordingEvents) -> tuple[list[Event], list[Event]]:
    """Return the events that overlap any of the others, and those that do not."""
    overlap = {
        event: any(event.start < other.stop and other.start < event.stop for other in others.events)
        for event in events.events
    }
    return [event for event, does in overlap.items() if does], [event for event, does in overlap.items() if not does]


def _wrong_seconds(one: ScoredRecording) -> int:
    sample = one.szcore.sample
    return sample.fp + sample.ref - sample.tp
