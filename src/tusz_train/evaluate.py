"""`python -m tusz_train evaluate --checkpoint PATH --split dev`: predict a split, score it, write the report."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tusz_cache import cli
from tusz_cache.errors import UsageError
from tusz_cache.progress import Progress

if TYPE_CHECKING:
    from tusz_train.config import Config
    from tusz_train.evaluating import Evaluation, EvaluationSettings
    from tusz_train.events import RecordingEvents


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "evaluate",
        "Predict the recordings of a split with a checkpoint's weights, score them, and write events and a report.",
        prog="python -m tusz_train evaluate",
    )
    made.add_argument(
        "--checkpoint", metavar="PATH", type=Path, required=True, help="a step-*.pt; or their folder, for the best one"
    )
    made.add_argument("--split", choices=("train", "dev", "eval"), default="dev", help="default dev")
    made.add_argument("--out", metavar="DIR", type=Path, help="default: the run's own folder, runs/<run.name>")
    made.add_argument(
        "--cache", metavar="DIR", help="a cache or packed store to read instead of the one that the run was trained on"
    )
    made.add_argument(
        "--references",
        metavar="DIR",
        type=Path,
        help="annotation files of the recordings: their true durations and events count; without, windows and labels",
    )
    made.add_argument("--batch-size", metavar="N", type=int, default=64, help="windows at once (default 64)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(options, lambda progress: _evaluate(options, progress))


def _evaluate(options: argparse.Namespace, progress: Progress) -> "Evaluation":
    from tusz_cache import open_store  # noqa: PLC0415 - --help starts without torch
    from tusz_train import checkpoint  # noqa: PLC0415 - likewise
    from tusz_train.admission import admit_one  # noqa: PLC0415 - likewise
    from tusz_train.config import Config  # noqa: PLC0415 - likewise
    from tusz_train.distributed import joined  # noqa: PLC0415 - likewise
    from tusz_train.evaluating import evaluate  # noqa: PLC0415 - likewise
    from tusz_train.model.registry import build  # noqa: PLC0415 - likewise
    from tusz_train.outputs import Outputs  # noqa: PLC0415 - likewise
    from tusz_train.report import write_report  # noqa: PLC0415 - likewise

    saved = checkpoint.load(options.checkpoint)
    config = Config.model_validate_json(json.dumps(saved["config"]))
    outputs = Outputs.of(config.run)
    with joined({}) as world:
        source = options.cache or config.data.store_dir or config.data.cache_dir
        cache = admit_one(config, source, progress.say)
        model = build(config.model).to(world.device)
        model.load_state_dict(saved["average"] or saved["model"])
        out = options.out or outputs.run
        evaluation = evaluate(
            model,
            open_store(cache, options.split),
            _settings(config, saved["threshold"], options.batch_size, str(world.device)),
            out,
            references=_references(options.references) if options.references else None,
            check_stop=lambda: progress.check_stop("stopped while evaluating"),
        )
    write_report(out / "report.html", evaluation, run=_record(outputs.record, saved), history=_history(outputs.metrics))
    progress.say(f"the report is {out / 'report.html'}")
    return evaluation


def _settings(config: "Config", threshold: float | None, batch_size: int, device: str) -> "EvaluationSettings":
    """Return how a run is evaluated: with the threshold that its checkpoint froze, if it has one."""
    from tusz_train.evaluating import EvaluationSettings  # noqa: PLC0415 - --help starts without torch
    from tusz_train.events import Detection  # noqa: PLC0415 - likewise
    from tusz_train.predict import Inference  # noqa: PLC0415 - likewise

    asked = config.postprocessing
    detection = Detection(release=asked.release, min_duration_s=asked.min_duration_s, close_gap_s=asked.close_gap_s)
    frozen = asked.threshold if asked.threshold is not None else threshold
    if frozen is not None:
        detection = replace(detection, threshold=frozen)
    return EvaluationSettings(
        inference=Inference(batch_size=batch_size, device=device, amp=config.loop.amp),
        detection=detection,
        frozen=frozen is not None,
    )


def _references(folder: Path) -> dict[str, "RecordingEvents"]:
    from tusz_train.event_files import FORMS, read_events  # noqa: PLC0415 - --help starts without torch

    paths = [path for form in FORMS for path in sorted(folder.rglob(f"*{form}"))]
    if not paths:
        raise UsageError(f"{folder} holds no annotation files", hint=f"give the folder of *{' or *'.join(FORMS)}")
    return {one.recording: one for one in map(read_events, paths)}


def _record(path: Path, saved: dict[str, Any]) -> dict[str, Any]:
    """Return what the run was: its own record, else what the checkpoint says of it."""
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    told = {"name": saved["config"]["run"]["name"], "configuration": saved["config"]}
    return told | {name: saved[name] for name in ("cache", "versions")}


def _history(path: Path) -> list[dict[str, Any]]:
    from tusz_train.history import read_history  # noqa: PLC0415 - --help starts without torch

    return read_history(path) if path.is_file() else []


if __name__ == "__main__":
    cli.main(main)
