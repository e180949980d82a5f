"""Scoring detections against references, recording by recording, by two scorers side by side."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tusz_cache.errors import UsageError
from tusz_cache.layout import as_html, as_table
from tusz_train import nedc, szcore
from tusz_train.events import RecordingEvents
from tusz_train.nedc import Ovlp
from tusz_train.pairing import pair_files, read_pairs
from tusz_train.szcore import Counts, Szcore, shown

TOLERANCE_S = 10.0  # below it lies the tail that windows at a stride of 10 s leave out

Pair = tuple[RecordingEvents, RecordingEvents]


@dataclass(frozen=True, slots=True)
class Scored:
    """What was counted over some recordings."""

    recordings: int = 0
    szcore: Szcore = field(default_factory=Szcore)
    nedc_ovlp: Ovlp = field(default_factory=Ovlp)

    def __add__(self, other: "Scored") -> "Scored":
        return Scored(self.recordings + other.recordings, self.szcore + other.szcore, self.nedc_ovlp + other.nedc_ovlp)


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """How well detections agree with references: pooled over all recordings, and as the mean over subjects."""

    per_subject: Mapping[str, Scored]

    exit_code: ClassVar[int] = 0

    @property
    def pooled(self) -> Scored:
        """Everything counted as if it were one long recording."""
        return sum(self.per_subject.values(), Scored())

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `score --json` prints; what is undefined is None."""
        pooled, subjects = self.pooled, self.per_subject.values()
        return {
            "recordings": pooled.recordings,
            "subjects": len(subjects),
            "seconds": pooled.nedc_ovlp.seconds,
            "szcore": {
                "event": pooled.szcore.event.as_dict(),
                "sample": pooled.szcore.sample.as_dict(),
                "aggregation": "event and sample: pooled; macro: mean over subjects, where defined",
                "macro": {
                    "event": szcore.mean_of(one.szcore.event for one in subjects),
                    "sample": szcore.mean_of(one.szcore.sample for one in subjects),
                },
                "per_subject": {
                    name: {"event": one.szcore.event.as_dict(), "sample": one.szcore.sample.as_dict()}
                    for name, one in self.per_subject.items()
                },
            },
            "nedc_ovlp": pooled.nedc_ovlp.as_dict()
            | {"per_subject": {name: one.nedc_ovlp.as_dict() for name, one in self.per_subject.items()}},
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict(), allow_nan=False)

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        pooled, subjects = self.pooled, self.per_subject.values()
        hours = pooled.nedc_ovlp.seconds / 3600
        found = pooled.nedc_ovlp
        alarms = f"{found.hits} of {found.hits + found.misses} hit, {found.false_alarms} false"
        return [
            ("recordings", f"{pooled.recordings} of {len(subjects)} subjects, {hours:.1f} h"),
            ("SzCORE event, pooled", _szcore_line(pooled.szcore.event, "found")),
            ("SzCORE event, mean of subjects", _ratios(szcore.mean_of(one.szcore.event for one in subjects))),
            ("SzCORE sample, pooled", _szcore_line(pooled.szcore.sample, "s found")),
            ("SzCORE sample, mean of subjects", _ratios(szcore.mean_of(one.szcore.sample for one in subjects))),
            (
                "NEDC OVLP, pooled",
                f"sensitivity {shown(found.sensitivity)}, FA/24h {shown(found.fa_per_24h, 2)} ({alarms})",
            ),
        ]

    def as_text(self) -> str:
        """Return `rows` as a table."""
        return as_table(self.rows())

    def _repr_html_(self) -> str:
        return as_html("scores", self.rows())


def score_recordings(pairs: Iterable[Pair]) -> ScoreReport:
    """Score (reference, hypothesis) after (reference, hypothesis); only counts are kept of each.

    Raises UsageError where a pair is no pair, a recording comes twice, or there is none.
    """
    per_subject: defaultdict[str, Scored] = defaultdict(Scored)
    seen: set[str] = set()
    for reference, hypothesis in pairs:
        _check_pair(reference, hypothesis, seen)
        counted = Scored(1, szcore.count(reference, hypothesis), nedc.count(reference, hypothesis))
        per_subject[reference.subject] += counted
        seen.add(reference.recording)
    if not per_subject:
        raise UsageError("there is nothing to score", hint="give at least one pair of reference and hypothesis")
    return ScoreReport(dict(sorted(per_subject.items())))


def score_folders(references: Path, hypotheses: Path, *, tolerance_s: float = TOLERANCE_S) -> ScoreReport:
    """Score the annotation files of two folders, paired by recording.

    Durations may differ by `tolerance_s`: the reference's counts. Raises UsageError and BadAnnotations.
    """
    return score_recordings(read_pairs(pair_files(references, hypotheses), tolerance_s=tolerance_s))


def _check_pair(reference: RecordingEvents, hypothesis: RecordingEvents, seen: set[str]) -> None:
    if (reference.recording, reference.duration) != (hypothesis.recording, hypothesis.duration):
        raise UsageError(
            f"{hypothesis.recording} of {hypothesis.duration} s was to be scored against {reference.recording} "
            f"of {reference.duration} s",
            hint="pair hypotheses with the reference of the same recording, and give them its duration",
        )
    if reference.recording in seen:
        raise UsageError(f"{reference.recording} comes twice", hint="stitch its windows, and score it once")


def _szcore_line(counts: Counts, found: str) -> str:
    return f"{_ratios(counts.as_dict())} ({counts.tp} of {counts.ref} {found}, {counts.fp} false)"


def _ratios(values: Mapping[str, float | None]) -> str:
    ratios = ", ".join(f"{name} {shown(values[key])}" for name, key in _NAMES.items())
    return f"{ratios}, FP/day {shown(values['fp_per_day'], 2)}"


_NAMES = {"F1": "f1", "sensitivity": "sensitivity", "precision": "precision"}
