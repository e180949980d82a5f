"""Which recordings of a split are predicted and scored, by which of their windows, and how long they last. Pure.

The cache has windows of 60 s, one every 10 s, as long as they fit: of a recording it tells (N - 1) * 10 + 60 s, leaving
out a tail below 10 s, and nothing of one below 60 s. How long a recording truly lasts is known from its reference file
alone; the dataset index counts windows. So a result says which of the two its durations are.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from tusz_cache.errors import UsageError
from tusz_train.events import RecordingEvents

WINDOW_S, STEP_S = 60, 10  # of the cache
TAIL_S = 10.0  # by which a recording may differ from its windows

_SUFFIX = "_windows.npz"


class CacheFile(Protocol):
    """What is to be known of a recording's file."""

    @property
    def name(self) -> str:
        """Of the file, without folders."""

    @property
    def n_windows(self) -> int:
        """How many windows it holds."""

    @property
    def is_labelled(self) -> bool:
        """Whether it has labels."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One recording that is predicted."""

    recording: str
    duration: float  # seconds
    first: int  # its first window's number in the split
    windows: tuple[int, ...]  # numbers within the recording, rising; without any, it is background
    reference: RecordingEvents | None = None  # of its file; None: the labels of its windows stand

    @property
    def windowed_s(self) -> int:
        """Seconds that its windows reach."""
        return self.windows[-1] * STEP_S + WINDOW_S if self.windows else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was scored and what was not, in recordings."""

    scored: int
    seconds: float  # of what was scored
    duration_from: str  # "reference files" or "windows"
    without_windows: int = 0  # of the scored: below 60 s, so background for their true duration
    left_out_short: int = 0  # below 60 s, and how long they last is not known without reference files
    left_out_unlabelled: int = 0
    references_unused: int = 0  # reference files of recordings that the cache does not have

    def as_dict(self) -> dict[str, float | str]:
        """Return everything by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def sentences(self) -> list[str]:
        """Return what a reader of the numbers must know."""
        whole = f"{self.scored} recordings, {self.seconds / 3600:.1f} h"
        told = [f"{whole}; durations are those of the {self.duration_from}."]
        if self.duration_from == "windows":
            told.append("Windows leave out up to 10 s at the end of a recording.")
        for what, count in (
            (
                "Recordings without windows (under 60 s), predicted as background for their true duration",
                self.without_windows,
            ),
            (
                "Recordings left out since they have no windows (under 60 s), so their duration is not known",
                self.left_out_short,
            ),
            ("Recordings left out since they have no labels", self.left_out_unlabelled),
            ("Reference files left out since the cache does not have their recordings", self.references_unused),
        ):
            told += [f"{what}: {count}."] if count else []
        return told


@dataclass(frozen=True, slots=True)
class Schedule:
    """The recordings that are predicted, in order."""

    recordings: tuple[Scheduled, ...]
    coverage: Coverage

    def rows(self) -> Iterator[int]:
        """Yield the number in the split of each window that is read."""
        return (one.first + window for one in self.recordings for window in one.windows)


def make_schedule(
    files: Sequence[CacheFile],
    *,
    stride_s: int = STEP_S,
    references: Mapping[str, RecordingEvents] | None = None,
    only: Collection[str] | None = None,
) -> Schedule:
    """Schedule a split's files, in their order: of each every `stride_s` a window, and the last.

    `references` by recording, of annotation files: with them, durations are true and labels are not needed. `only`
    names the files that are taken, where not all are.
    Raises UsageError for a stride that the cache does not have, a recording without its reference, one that does not
    fit its windows, and if nothing is left.
    """
    if stride_s % STEP_S or not STEP_S <= stride_s <= WINDOW_S:
        raise UsageError(f"a stride of {stride_s} s makes no sense", hint="give 10, 20, 30, 40, 50 or 60 seconds")
    chosen: list[Scheduled] = []
    short = unlabelled = 0
    firsts = accumulate((file.n_windows for file in files), initial=0)
    for file, first in zip(files, firsts, strict=False):
        if only is not None and file.name not in only:
            continue
        name = file.name.removesuffix(_SUFFIX)
        if references is not None:
            reference = _reference_of(name, file.n_windows, references)
            chosen.append(Scheduled(name, reference.duration, first, _windows(file.n_windows, stride_s), reference))
        elif not file.n_windows:
            short += 1
        elif not file.is_labelled:
            unlabelled += 1
        else:
            chosen.append(Scheduled(name, _windowed(file.n_windows), first, _windows(file.n_windows, stride_s)))
    if not chosen:
        raise UsageError(
            f"none of {len(files)} recordings can be scored",
            hint="scoring needs labels in the cache, or reference files",
        )
    coverage = Coverage(
        scored=len(chosen),
        seconds=sum(one.duration for one in chosen),
        duration_from="windows" if references is None else "reference files",
        without_windows=sum(not one.windows for one in chosen),
        left_out_short=short,
        left_out_unlabelled=unlabelled,
        references_unused=0 if references is None else len(references.keys() - {one.recording for one in chosen}),
    )
    return Schedule(tuple(chosen), coverage)


def _windows(count: int, stride_s: int) -> tuple[int, ...]:
    taken = range(0, count, stride_s // STEP_S)
    last = (count - 1,) if count and taken[-1] != count - 1 else ()
    return (*taken, *last)


def _windowed(count: int) -> float:
    return float((count - 1) * STEP_S + WINDOW_S)


def _reference_of(name: str, n_windows: int, references: Mapping[str, RecordingEvents]) -> RecordingEvents:
    if (reference := references.get(name)) is None:
        raise UsageError(f"{name} has no reference file", hint="give the folder with the references of this split")
    if n_windows and abs(reference.duration - _windowed(n_windows)) > TAIL_S:
        raise UsageError(
            f"{name} lasts {reference.duration:g} s by its reference and {_windowed(n_windows):g} s by its windows",
            hint="give references and cache of the same version of the corpus",
        )
    return reference
