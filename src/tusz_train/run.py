"""A training run, wired: admitted data, model, loop, checkpoints, logs."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from tusz_cache import CacheRefused, DeclaredMount, Durability
from tusz_cache.errors import Interrupted
from tusz_cache.progress import Progress
from tusz_train import chance, keeping, run_record
from tusz_train.admission import Admission, admit
from tusz_train.alone import alone
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
from tusz_train.resuming import Basis, Resume, Start, find, make_way
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

    One process at a time, or group of them, trains a run of one name in one `run.output_dir`: LockHeld for another.
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
            world.led(lambda: stack.enter_context(alone(outputs, durability, watcher)))
        except Interrupted as error:
            say(f"{error}: {error.hint}")
            return TrainReport.early(config.run.name, outputs, seconds=time.monotonic() - began)
        basis = Basis(config, admission.cache, limit)
        start, saved, is_new = find(resume, basis, outputs, world=world, say=say)

        def wants_stop() -> bool:
            return watcher.stop_signal is not None

        run = _assembled(config, world, admission, limit, wants_stop)
        if saved is not None:
            for note in keeping.take_up(run, saved, allow_changes=resume.allow_changes):
                say(f"note: {note}")
            run.kept = None if is_new else run.state
            if is_new:
                run.state = run.state.judged_anew()
                say("note: what was best so far was of another run or configuration: that begins anew here")
            say(f"going on from step {run.state.step}")
        sinks: list[Sink] = []
        told: dict[str, Any] = {}

        def begin() -> None:
            """Only now, when all else works, is anything of an earlier run touched."""
            make_way(start, run.state.step, outputs, durability, say)
            for sink in _sinks(run, outputs, durability, say):
                stack.callback(sink.close)
                sinks.append(sink)
            before = run_record.read(outputs.record)
            told.update(_told(run, basis, admission, resume=resume, start=start, before=before))
            run_record.write(outputs.record, told, durability)

        world.led(begin)
        run.recheck = lambda: _recheck(admission, say)
        run.log = _logger(run, sinks, watcher)
        run.judge = _judge(run, watcher)
        run.keep = lambda now: _keep(now, outputs, basis, durability, sinks)
        is_over = train(run)
        report = TrainReport.of(run, outputs, is_over=is_over, seconds=time.monotonic() - began)
        world.led(lambda: run_record.write(outputs.record, told | {"ended": _ended(report)}, durability))
        if world.size > 1 and not is_over:
            say(f"stopped in time: status {report.exit_code}, of which torchrun makes 1; {outputs.record} keeps it")
    return report


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
        recheck=lambda: None,
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
    step, judged = run.state.step, max(run.state.judged, run.state.since)  # what is of an earlier history stays
    wandb = open_wandb(run.config, outputs, say)  # first: it may refuse
    sinks: list[Sink] = [wandb] if wandb else []
    if run.config.logging.tensorboard:
        sinks.append(TensorBoard(outputs.tensorboard, step))
    return [MetricsFile(outputs.metrics, durability, trained=step, judged=judged), *sinks]


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


def _recheck(admission: Admission, say: Callable[[str], None]) -> None:
    """Make sure that what is read is still what the guard let through."""
    try:
        admission.windows.recheck()
    except CacheRefused as error:
        say(error.verdict.as_text())
        raise


def _keep(run: Training, outputs: Outputs, basis: Basis, durability: Durability, sinks: Sequence[Sink]) -> None:
    for sink in sinks:
        if isinstance(sink, MetricsFile):
            sink.sync()
    keeping.write(run, outputs.checkpoints, basis, durability)


def _told(
    run: Training, basis: Basis, admission: Admission, *, resume: Resume, start: Start, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what run.json says: what the run is, and each of its starts. before: what it said."""
    this = {
        "at": run_record.now(),
        "step": run.state.step,
        "from": None if start.path is None else str(start.path),
        "device": f"{run.world.device} x {run.world.size}",
    }
    return {
        "name": run.config.run.name,
        "configuration": run.config.model_dump(mode="json"),
        "training_hash": training_hash(run.config),
        "cache": admission.cache,
        "verdict": admission.verdict,
        "file_limit": basis.limit_as_dict(),
        "versions": keeping.versions(),
        "request": resume.request if start.begins else before.get("request"),
        "starts": [*before.get("starts", []), this],
        "ended": None,
    }


def _ended(report: TrainReport) -> dict[str, Any]:
    """Return how a start ended, for who cannot see its exit status. Of one that failed or was killed there is none."""
    says = "over" if report.is_over else "stopped in time: run it again to go on"
    return {"at": run_record.now(), "status": report.exit_code, "step": report.steps, "says": says}
