"""Evaluation: recordings are predicted once, probabilities kept on disk, then scored at every threshold and at one.

<out>/probabilities/<recording>.npy            float32 at the inference's rate
<out>/events/<recording>.csv_bi, _events.tsv   what was detected
<out>/metrics.json
"""

import dataclasses
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from tusz_cache.errors import UsageError
from tusz_cache.layout import as_html, as_table
from tusz_train import nedc, szcore
from tusz_train.calibration import Calibration
from tusz_train.curves import THRESHOLDS, CurveReport, Predicted, score_predictions
from tusz_train.event_files import FORMS, recording_of, write_events
from tusz_train.events import Detection, RecordingEvents
from tusz_train.files import publish
from tusz_train.origin import Origin
from tusz_train.predict import Inference, Model, Windows, predict, read_batches
from tusz_train.schedule import STEP_S, CacheFile, Coverage, Schedule, make_schedule
from tusz_train.scoring import ScoreReport, score_recordings
from tusz_train.strips import ScoredRecording, Strip, best_and_worst, telling_window
from tusz_train.szcore import shown

EVENTS, PROBABILITIES, METRICS = "events", "probabilities", "metrics.json"
CHOOSE_ON = "dev"  # the split that a threshold may be chosen on


class Split(Windows, Protocol):
    """A split that is evaluated, such as a `tusz_cache.WindowStore`."""

    @property
    def split(self) -> str:
        """Its name."""

    @property
    def recordings(self) -> Sequence[CacheFile]:
        """Its files, in the order of windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How a model is evaluated."""

    inference: Inference = field(default_factory=Inference)
    stride_s: int = STEP_S  # between windows: 10 overlaps six times, 60 not at all
    detection: Detection = field(default_factory=Detection)  # its threshold counts where `threshold` is frozen
    frozen: bool = False  # take the threshold of `detection`; else the best of `thresholds`, on dev only
    frozen_from: str = "given"  # where that one comes from
    thresholds: tuple[float, ...] = THRESHOLDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model reaches on the recordings of a split."""

    split: str
    settings: EvaluationSettings
    detection: Detection  # as used: with the threshold that was frozen or chosen
    coverage: Coverage
    scores: ScoreReport
    curves: CurveReport
    calibration: Calibration
    recordings: tuple[ScoredRecording, ...]
    strips: tuple[Strip, ...] = ()
    origin: Origin | None = None  # what is known of the data beside the training's

    exit_code: ClassVar[int] = 0

    @property
    def threshold_from(self) -> str:
        """Where the threshold comes from."""
        if self.settings.frozen:
            return self.settings.frozen_from
        return f"chosen on {self.split}, which is scored here, by SzCORE event F1, pooled"

    def as_dict(self) -> dict[str, Any]:
        """Return everything by name of the scorer, as in `metrics.json`; undefined values are None."""
        inference = dataclasses.asdict(self.settings.inference)
        return {
            "split": self.split,
            "data": self.origin.as_dict() if self.origin else None,
            "coverage": self.coverage.as_dict(),
            "inference": {**inference, "bf16": self.settings.inference.bf16, "stride_s": self.settings.stride_s},
            "detection": {**dataclasses.asdict(self.detection), "threshold_from": self.threshold_from},
            **self.scores.as_dict(),
            "curves": self.curves.as_dict(),
            "calibration": self.calibration.as_dict(),
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict(), allow_nan=False)

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        return [
            ("threshold", f"{self.detection.threshold:.4f}, {self.threshold_from}"),
            *self.scores.rows(),
            *self.curves.rows(),
            ("calibration error (ECE) at 1 Hz", shown(self.calibration.ece)),
            *(("recordings", sentence) for sentence in self.coverage.sentences()),
            *(("data", sentence) for sentence in (self.origin.sentences() if self.origin else ())),
        ]

    def as_text(self) -> str:
        """Return `rows` as a table."""
        return as_table(self.rows())

    def _repr_html_(self) -> str:
        return as_html(f"evaluation on {self.split}", self.rows())


def evaluate_model(
    model: Model,
    split: Split,
    settings: EvaluationSettings,
    out_dir: Path,
    *,
    references: Mapping[str, RecordingEvents] | None = None,
    only: Collection[str] | None = None,
    origin: Origin | None = None,
    said: Callable[[int, int], None] = lambda _done, _of: None,
) -> Evaluation:
    """Predict and score the recordings of a split, and write what was found below `out_dir`.

    `references` of annotation files, by recording, make durations true; without them labels and windows of the cache
    count. `only` names the files that are taken, where not all are. `origin` is reported. `said` is called with the
    recordings that are done and all of them, and may raise. Raises UsageError for a threshold that is to be chosen on
    another split than dev, and for a folder with events of other recordings.
    """
    check_choice(settings, split.split)
    schedule = make_schedule(split.recordings, stride_s=settings.stride_s, references=references, only=only)
    _check_folder(out_dir / EVENTS, {one.recording for one in schedule.recordings})
    batches = read_batches(split, schedule, settings.inference.batch_size)
    kept = _Kept(out_dir / PROBABILITIES, lambda done: said(done, len(schedule.recordings)))
    predictions = predict(model, batches, schedule, settings.inference)
    curves = score_predictions(kept.keep(predictions), settings.detection, thresholds=settings.thresholds)
    threshold = settings.detection.threshold if settings.frozen else curves.best_szcore_event_f1.threshold
    detection = dataclasses.replace(settings.detection, threshold=threshold)
    scored = tuple(_scored(one, detection, out_dir / EVENTS) for one in kept.again())
    evaluation = Evaluation(
        split=split.split,
        settings=settings,
        detection=detection,
        coverage=schedule.coverage,
        scores=score_recordings((one.reference, one.hypothesis) for one in scored),
        curves=curves,
        calibration=kept.calibration,
        recordings=scored,
        strips=tuple(_strips(scored, schedule, split, kept)),
        origin=origin,
    )
    publish(out_dir / METRICS, json.dumps(evaluation.as_dict(), allow_nan=False, indent=1) + "\n")
    return evaluation


def check_choice(settings: EvaluationSettings, split: str) -> None:
    """Raise UsageError if a threshold would be chosen on what it must not be chosen on."""
    if not settings.frozen and split != CHOOSE_ON:
        raise UsageError(
            f"no threshold is frozen, and none may be chosen on {split}",
            hint=f"choose it on {CHOOSE_ON} first, then give it here",
        )


class _Kept:
    """Predictions on disk, and what is counted of them on the way there."""

    def __init__(self, folder: Path, said: Callable[[int], None]) -> None:
        self.folder, self.said = folder, said
        self.calibration = Calibration()
        self.references: dict[str, tuple[RecordingEvents, float]] = {}  # by recording, with the predictions' rate

    def keep(self, predictions: Iterable[Predicted]) -> Iterator[Predicted]:
        """Pass predictions on."""
        for one in predictions:
            self.said(len(self.references))
            held = io.BytesIO()
            np.save(held, one.probabilities)
            publish(self._path(one.reference.recording), held.getvalue())
            self.calibration = self.calibration.counting(*one.seconds())
            self.references[one.reference.recording] = one.reference, one.rate
            yield one

    def again(self) -> Iterator[Predicted]:
        """Yield them once more."""
        for name in self.references:
            self.said(len(self.references))
            yield self.of(name)

    def of(self, name: str) -> Predicted:
        """Return the prediction of one recording."""
        reference, rate = self.references[name]
        return Predicted(reference, np.load(self._path(name), allow_pickle=False), rate)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def _scored(predicted: Predicted, detection: Detection, folder: Path) -> ScoredRecording:
    found = predicted.detected(detection)
    for form in FORMS:
        write_events(folder / f"{found.recording}{form}", found)
    reference = predicted.reference
    return ScoredRecording(reference, found, szcore.count(reference, found), nedc.count(reference, found))


def _strips(scored: Sequence[ScoredRecording], schedule: Schedule, split: Split, kept: _Kept) -> Iterator[Strip]:
    scheduled = {one.recording: one for one in schedule.recordings}
    for kind, one in best_and_worst([one for one in scored if scheduled[one.name].windows]).items():
        place = scheduled[one.name]
        number, shows = telling_window(one, place, kind)
        eeg_BCT, _ = split.read_batch([place.first + number])
        predicted = kept.of(one.name)
        yield Strip(kind, one, predicted.probabilities, predicted.rate, float(number * STEP_S), shows, eeg_BCT[0])


def _check_folder(folder: Path, recordings: set[str]) -> None:
    """Raise UsageError if a folder holds events of other recordings, which would be scored with these."""
    there = {recording_of(path) for form in FORMS for path in folder.glob(f"*{form}")}
    if others := sorted(there - recordings):
        raise UsageError(
            f"{folder} holds events of {len(others)} recordings that are not evaluated, e.g. {others[0]}",
            hint="give an empty folder by --out, or move these files away",
        )
