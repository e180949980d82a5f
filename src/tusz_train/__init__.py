"""tusz_train: train and score seizure detectors on what `tusz_cache` admits.

Public names are imported when they are first used: scoring needs no torch, and starts without it.
"""

from typing import TYPE_CHECKING

from tusz_cache.lazy import lazily

if TYPE_CHECKING:
    from tusz_train.config import Config
    from tusz_train.config_file import load_config
    from tusz_train.curves import CurveReport, Predicted, score_predictions
    from tusz_train.errors import BadAnnotations
    from tusz_train.evaluating import Evaluation, EvaluationSettings, evaluate_model
    from tusz_train.evaluation_run import evaluate_checkpoint
    from tusz_train.event_files import read_events, write_events
    from tusz_train.events import Detection, Event, RecordingEvents, find_events
    from tusz_train.predict import Inference
    from tusz_train.report import write_report
    from tusz_train.resuming import Resume
    from tusz_train.run import run_training
    from tusz_train.scoring import ScoreReport, score_folders, score_recordings
    from tusz_train.train_report import TrainReport

_HOMES = {
    "BadAnnotations": "errors",
    "Config": "config",
    "CurveReport": "curves",
    "Detection": "events",
    "Evaluation": "evaluating",
    "EvaluationSettings": "evaluating",
    "Event": "events",
    "Inference": "predict",
    "Predicted": "curves",
    "RecordingEvents": "events",
    "Resume": "resuming",
    "ScoreReport": "scoring",
    "TrainReport": "train_report",
    "evaluate_checkpoint": "evaluation_run",
    "evaluate_model": "evaluating",
    "find_events": "events",
    "load_config": "config_file",
    "read_events": "event_files",
    "run_training": "run",
    "score_folders": "scoring",
    "score_predictions": "curves",
    "score_recordings": "scoring",
    "write_events": "event_files",
    "write_report": "report",
}

__all__ = [
    "BadAnnotations",
    "Config",
    "CurveReport",
    "Detection",
    "Evaluation",
    "EvaluationSettings",
    "Event",
    "Inference",
    "Predicted",
    "RecordingEvents",
    "Resume",
    "ScoreReport",
    "TrainReport",
    "evaluate_checkpoint",
    "evaluate_model",
    "find_events",
    "load_config",
    "read_events",
    "run_training",
    "score_folders",
    "score_predictions",
    "score_recordings",
    "write_events",
    "write_report",
]


__getattr__, __dir__ = lazily(__name__, _HOMES, globals())
