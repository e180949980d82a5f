"""An evaluation, wired: a checkpoint, admitted data, the scores, and the report of its run."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from tusz_cache import AdmittedCache, DeclaredMount, Durability, open_store, read_window_manifest, ssd
from tusz_cache.disk_errors import translated
from tusz_cache.progress import Progress
from tusz_train import checkpoint, run_record
from tusz_train.admission import admit
from tusz_train.config import Config
from tusz_train.config_file import config_of
from tusz_train.data.limit import limited
from tusz_train.distributed import joined
from tusz_train.errors import BadCheckpoint
from tusz_train.evaluating import EVENTS, PROBABILITIES, Evaluation, EvaluationSettings, check_choice, evaluate_model
from tusz_train.events import Detection
from tusz_train.file_limit import FileLimit, resolve_limit
from tusz_train.history import read_history
from tusz_train.model.registry import build
from tusz_train.origin import Origin, patients_of
from tusz_train.outputs import Outputs
from tusz_train.pairing import read_references
from tusz_train.predict import Inference
from tusz_train.report import FIGURES, write_report

REPORT = "report.html"


def evaluate_checkpoint(
    path: Path,
    split: str,
    *,
    out: Path | None = None,
    references: Path | None = None,
    threshold: float | Literal["best"] | None = None,
    allow_seen: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    declared: Sequence[DeclaredMount] = (),
    durability: Durability = Durability(),  # noqa: B008 - a frozen value
    environment: Mapping[str, str] = os.environ,
) -> Evaluation:
    """Evaluate a checkpoint on a split of a cache, its own or another, and write scores, events and report.

    path: a file, or a folder, of which the best is taken. out: where to; without it the folder of the run that the
    checkpoint lies among, or of the one that its configuration names. references: folder of annotation files.
    threshold: "best" is chosen on dev; without one, the run's own. allow_seen: score patients of dev and eval that were
    trained on. overrides: of the checkpoint's configuration. declared: mounts. durability: of what `data.stage_to`
    copies. Raises CacheError.
    """
    saved = checkpoint.load(path)
    config = config_of(dict(saved["config"]), str(path), overrides)
    with joined({}) as world, progress or Progress() as watcher:
        limit = resolve_limit(environment, config)
        source = Outputs.around(path)
        folder = out or (source if source and not _is_sent_elsewhere(saved, config) else Outputs.of(config.run)).run
        ssd.check_writable([folder, *(folder / name for name in (EVENTS, PROBABILITIES, FIGURES))])
        # what can be wrong is told before hours of copying and predicting
        settings = _settings(config, saved, threshold, str(world.device))
        check_choice(settings, split)
        known = None if references is None else read_references(references)
        told = {"checkpoint": str(path), "checkpoint_step": saved["step"], **_record(source, config.run.name, saved)}
        history = _history(source)
        admission = admit(config, world, watcher, splits=[split], declared=declared, durability=durability)
        store = open_store(admission.windows, split)
        only = None if limit is None else _limited(admission.windows, split, limit, config)
        origin = Origin.of(
            saved,
            split=split,
            cache_dir=config.data.cache_dir,
            store_dir=config.data.store_dir,
            verdict=admission.verdict["verdict"],
            cache=admission.cache,
            patients=patients_of(store.cache_files if only is None else only),
        )
        origin.check(allow_seen=allow_seen)
        for sentence in origin.sentences():
            watcher.say(sentence)

        def said(done: int, total: int) -> None:
            watcher.check_stop("stopped while evaluating")
            watcher.show(done, total, "recording", f"split {split}")

        evaluation = evaluate_model(
            _model(saved, config).to(world.device),
            store,
            dataclasses.replace(settings, frozen_from=settings.frozen_from or origin.threshold_chosen),
            folder,
            references=known,
            only=only,
            origin=origin,
            said=said,
        )
        write_report(folder / REPORT, evaluation, run=told, history=history)
        watcher.say(f"report: {folder / REPORT}")
    return evaluation


def _model(saved: Mapping[str, Any], config: Config) -> nn.Module:
    """Return the model with the weights that were validated: the averaged ones, if there are any."""
    model = build(config.model)
    try:
        model.load_state_dict(saved["average"] or saved["model"])
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[1:2])
        raise BadCheckpoint(f"the checkpoint is of another model: {first}", hint="set model as it was") from error
    return model


def _settings(
    config: Config,
    saved: Mapping[str, Any],
    threshold: float | Literal["best"] | None,
    device: str,
) -> EvaluationSettings:
    """Return how to evaluate: the threshold is frozen if it is given, configured, or was found in training.

    What the last one was chosen on is said once the patients are known. Raises UsageError for an impossible one.
    """
    asked = config.postprocessing
    if threshold == "best":
        frozen, source = None, ""
    elif threshold is not None:
        frozen, source = threshold, "given"
    elif asked.threshold is not None:
        frozen, source = asked.threshold, "set by postprocessing.threshold"
    else:
        frozen, source = saved["threshold"], ""
    detection = Detection(
        threshold=Detection().threshold if frozen is None else frozen,
        release=asked.release,
        close_gap_s=asked.close_gap_s,
        min_duration_s=asked.min_duration_s,
    )
    inference = Inference(batch_size=config.data.batch_size, device=device, amp=config.loop.amp)
    return EvaluationSettings(inference=inference, detection=detection, frozen=frozen is not None, frozen_from=source)


def _limited(windows: AdmittedCache, split: str, limit: FileLimit, config: Config) -> tuple[str, ...]:
    """Return the files that a smoke run takes of a split, the same as in training."""
    count = limit.train if split == "train" else limit.dev
    return limited(read_window_manifest(windows, split), count, config.run.seed).files


def _is_sent_elsewhere(saved: Mapping[str, Any], config: Config) -> bool:
    """Whether overrides name another run or another place for its outputs."""
    return bool(saved["config"]["run"] != config.run.model_dump(mode="json"))


def _record(source: Outputs | None, name: str, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what run.json says of this checkpoint's run; where that is not there, what the checkpoint says.

    source: the run that it lies among. A run of the same name may be another one: it is not asked.
    """
    told = run_record.read(source.record) if source else {}
    if told.get("training_hash") == saved["training_hash"]:
        return told
    return {"name": source.name if source else name, "configuration": saved["config"], **{k: saved[k] for k in _TOLD}}


def _history(source: Outputs | None) -> list[dict[str, Any]]:
    """Return what was measured in the training of the checkpoint's run. Raises Damaged, TargetError."""
    if source is None or not source.metrics.exists():
        return []
    with translated(source.metrics):
        return read_history(source.metrics)


_TOLD = ("training_hash", "cache", "versions")
