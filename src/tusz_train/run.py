"""A training run, wired: admitted data, model, loop, checkpoints, logs."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from torch import nn

from tusz_cache import DeclaredMount, Durability, ssd
from tusz_cache.errors import Interrupted
from tusz_cache.progress import Progress
from tusz_train import chance, keeping
from tusz_train.admission import Admission, admit
from tusz_train.config import Config, training_hash
from tusz_train.config_file import as_yaml
from tusz_train.data.dataset import WindowDataset, open_datasets
from tusz_train.data.feed import CudaFeed
from tusz_train.data.loader import make_loader
from tusz_train.data.sampler import BalancedBatchSampler, TrainingSampler, UnbalancedBatchSampler
from tusz_train.distributed import World, joined, share_norms
from tusz_train.file_limit import FileLimit, resolve_limit
from tusz_train.loop import Training, train
from tusz_train.model.registry import build
from tusz_train.optimisation import Average, make_optimizer
from tusz_train.origin import patients_of
from tusz_train.outputs import Outputs
from tusz_train.resuming import Resume, find, withdraw_after
from tusz_train.sinks import MetricsFile, Sink, TensorBoard, is_judgement, open_wandb, preflight
from tusz_train.state import Plan
from tusz_train.train_report import TrainReport
from tusz_train.validation import Judgement, judge


def run_training(
    config: Config,
    *,
    resume: Resume = Resume(),  # noqa: B008 - a frozen value
    max_seconds: float | None = None,
    progress: Progress | None = None,
    declared: Sequence[DeclaredMount] = (),
    durability: Durability = Durability(),  # noqa: B008 - a frozen value
    environment: Mapping[str, str] = os.environ,
) -> TrainReport:
    """Train as the configuration says, from the newest checkpoint of its name if there is one.

    max_seconds: stop in time, with a checkpoint. progress: carries the wish to stop. declared: mounts.
    durability: of checkpoints. Raises CacheError.
    """
    began = time.monotonic()
    watcher = progress or Progress()
    watcher.stop_at = None if max_seconds is None else began + max_seconds
    with ExitStack() as stack:
        world = stack.enter_context(joined(environment))
        stack.enter_context(watcher)
        say: Callable[[str], None] = watcher.say if world.is_first else lambda _: None
        limit = resolve_limit(environment, config)
        say(f"configuration of {config.run.name}:\n{as_yaml(config)}")
        say(str(limit) if limit else "file limit: none")
        preflight(config, writes=world.is_first)
        outputs = Outputs.of(config.run)
        try:
            admission = admit(config, world, watcher, declared=declared, durability=durability)
        except Interrupted as error:
            say(f"{error}: {error.hint}")
            return TrainReport.early(config.run.name, outputs, seconds=time.monotonic() - began)
        saved = find(resume, config, admission.cache, outputs, world=world, say=say)

        def wants_stop() -> bool:
            return watcher.stop_signal is not None

        run = _assembled(config, world, admission, limit, wants_stop)
        if saved is not None:
            for note in keeping.take_up(run, saved, allow_changes=resume.allow_changes):
                say(f"note: {note}")
            say(f"going on from step {run.state.step}")
        sinks = _sinks(run, outputs, durability, say) if world.is_first else []
        for sink in sinks:
            stack.callback(sink.close)
        if world.is_first:
            withdraw_after(run.state.step, outputs.checkpoints, durability)
            _record(run, outputs, admission, limit, durability)
        run.log = _logger(run, sinks, watcher)
        run.judge = _judge(run, watcher)
        run.keep = lambda now: _keep(now, outputs, admission, durability, sinks)
        is_over = train(run)
    return TrainReport.of(run, outputs, is_over=is_over, seconds=time.monotonic() - began)


def _assembled(
    config: Config, world: World, admission: Admission, limit: FileLimit | None, wants_stop: Callable[[], bool]
) -> Training:
    """Return the run at its beginning."""
    seed, data, on_gpu = config.run.seed, config.data, world.device.type == "cuda"
    sets = open_datasets(
        admission.windows,
        limits={"train": limit.train, "dev": limit.dev} if limit else None,
        seed=seed,
        raw=admission.is_raw and on_gpu,
        advise=data.advise,
    )
    sampler = _sampler(config, sets["train"], world)
    loader = make_loader(
        sets["train"],
        sampler,
        workers=data.workers if data.worker_mode == "process" else 0,
        threads=data.workers if data.worker_mode == "thread" else 0,
        prefetch=data.prefetch,
        pin_memory=on_gpu,
        seed=seed,
    )
    chance.seed_all(seed)
    model = build(config.model).to(world.device)
    average = None if config.loop.ema_decay is None else Average(model, config.loop.ema_decay)
    if world.size > 1:
        share_norms(model)
    if config.loop.compile:
        model.compile()
    chance.seed_all(seed, world.rank)

    return Training(
        config=config,
        world=world,
        model=model,
        average=average,
        optimizer=make_optimizer(config.optimizer, model),
        feed=CudaFeed(loader, world.device, scale=sets["train"].scale),
        sampler=sampler,
        plan=Plan.of(config, len(sampler)),
        dev=sets["dev"],
        judge=lambda _: None,
        keep=lambda _: None,
        log=lambda _, __: None,
        wants_stop=wants_stop,
        patients={split: patients_of(one.manifest.files) for split, one in sets.items()},
    )


def _sampler(config: Config, train_set: WindowDataset, world: World) -> TrainingSampler:
    balance, size = config.data.balance, config.data.batch_size
    alike: dict[str, Any] = {"seed": config.run.seed, "rank": world.rank, "world_size": world.size}
    if balance is None:
        return UnbalancedBatchSampler(train_set.manifest, size, **alike)
    return BalancedBatchSampler(
        train_set.manifest,
        size,
        draw=balance.draw,
        full_share=balance.full_ratio,
        none_share=balance.background_ratio,
        **alike,
    )


def _sinks(run: Training, outputs: Outputs, durability: Durability, say: Callable[[str], None]) -> list[Sink]:
    """Open what measurements go to. Raises ConfigError for what is required and cannot be had."""
    step = run.state.step
    wandb = open_wandb(run.config, outputs, say)  # first: it may refuse
    sinks: list[Sink] = [wandb] if wandb else []
    if run.config.logging.tensorboard:
        sinks.append(TensorBoard(outputs.tensorboard, step))
    return [MetricsFile(outputs.metrics, durability, trained=step, judged=run.state.judged), *sinks]


def _judge(run: Training, watcher: Progress) -> Callable[[nn.Module], Judgement | None]:
    """Return what validates a model on dev, and tells the person who waits how far it is."""

    def said(done: int, total: int) -> None:
        if run.world.is_first:
            watcher.show(run.state.step, run.plan.total, "step", f"validating: {done} of {total} recordings")

    def judged(model: nn.Module) -> Judgement | None:
        return judge(model, run.dev, run.config, world=run.world, stops=run.wants_stop, said=said)

    return judged


def _logger(run: Training, sinks: Sequence[Sink], watcher: Progress) -> Callable[[int, Mapping[str, Any]], None]:
    """Return what takes each line of measurements: to the sinks, and to the person who waits."""

    def log(step: int, values: Mapping[str, Any]) -> None:
        for sink in sinks:
            sink.log(step, values)
        if not run.world.is_first:
            return
        if is_judgement(values):
            found = f"SzCORE event F1 {values['dev_szcore_event_f1']:.3f} at threshold {values['dev_threshold']}"
            watcher.say(f"step {step}: dev {found}")
        else:
            rate, waits = values["windows_per_s"], values["wait_share"]
            note = f"loss {values['loss']:.4f}, {rate:.0f} windows/s, {waits:.0%} waiting for data"
            watcher.show(step, run.plan.total, "step", note)

    return log


def _keep(run: Training, outputs: Outputs, admission: Admission, durability: Durability, sinks: Sequence[Sink]) -> None:
    for sink in sinks:
        if isinstance(sink, MetricsFile):
            sink.sync()
    keeping.write(run, outputs.checkpoints, admission.cache, durability)


def _record(
    run: Training, outputs: Outputs, admission: Admission, limit: FileLimit | None, durability: Durability
) -> None:
    """Write run.json: what the run is, and each of its starts."""
    try:
        starts = list(json.loads(outputs.record.read_bytes())["starts"])
    except (OSError, ValueError, KeyError, TypeError):
        starts = []
    device = f"{run.world.device} x {run.world.size}"
    told = {
        "name": run.config.run.name,
        "configuration": run.config.model_dump(mode="json"),
        "training_hash": training_hash(run.config),
        "cache": admission.cache,
        "verdict": admission.verdict,
        "file_limit": {"train": limit.train, "dev": limit.dev} if limit else None,
        "versions": keeping.versions(),
        "starts": [*starts, {"at": datetime.now(UTC).isoformat(), "step": run.state.step, "device": device}],
    }
    ssd.make_directories([outputs.run])
    ssd.write_file(ssd.Target(outputs.run, durability), outputs.record, json.dumps(told, indent=1).encode() + b"\n")
