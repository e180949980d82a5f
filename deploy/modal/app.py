"""The cache and the training at Modal: `modal run deploy/modal/app.py --action ACTION`. docs/modal.md is the guide.

Nothing is decided here: settings come from the environment, work is done by tusz_cache and tusz_train. Modal imports
this file again in each container, as /root/app.py, and must find the same volumes and secrets defined there.
"""

import os
import shlex
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import modal

import tusz_cache
import tusz_train
from tusz_cache import CacheError, CacheGuard, DeclaredMount, Durability, UsageError, cli, cost
from tusz_cache.doctoring import examine
from tusz_cache.modal_settings import DAY, assume_role, declared_mounts, read_settings, sealed_on, travelling
from tusz_cache.populating import Population
from tusz_cache.progress import Progress

try:
    SETTINGS = read_settings(os.environ)
except CacheError as error:
    raise SystemExit(cli.fail(error, as_json=False)) from None

RESULTS, RAW, BUCKET = "/results", "/data", "/s3_cache"  # the volume; raw EDF files; the cache's bucket, if mounted
CACHE, STORE = f"{RESULTS}/cache/tusz", f"{RESULTS}/cache/tusz-packed"
TORCH = "torch==2.13.0"  # the package index has it with CUDA, for Linux
HOUR, GIB = 3600, 1024  # in seconds; in MiB, as Modal counts memory and disk
RETRIES = modal.Retries(max_retries=10, initial_delay=60.0, backoff_coefficient=1.0)  # a killed attempt's lock lapses

volume = modal.Volume.from_name(SETTINGS.volume, create_if_missing=True, version=SETTINGS.volume_version)


def image() -> modal.Image:
    """Return what containers start from: one for all, told in full only where the repository is."""
    if not modal.is_local():
        return modal.Image.debian_slim(python_version="3.11")
    root = Path(__file__).resolve().parents[2]
    return (
        modal.Image.debian_slim(python_version="3.11")
        .pip_install(TORCH)
        .pip_install_from_pyproject(str(root / "pyproject.toml"), optional_dependencies=["train"])
        .add_local_python_source("tusz_cache", "tusz_train", ignore=["**/__pycache__/**"])
        .add_local_dir(root / "configs", "/root/configs")
    )


def secrets(name: str, *keys: str) -> list[modal.Secret]:
    """Return the secret of that name; none without a name."""
    return [modal.Secret.from_name(name, required_keys=list(keys))] if name else []


AWS = secrets(SETTINGS.aws_secret, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
WANDB = secrets(SETTINGS.wandb_secret, "WANDB_API_KEY")


def bucket(path: str, name: str, prefix: str = "") -> dict[str, Any]:
    """Return the read-only mount of a bucket at `path`; none without a name."""
    mounted = modal.CloudBucketMount(
        bucket_name=name,
        bucket_endpoint_url=SETTINGS.endpoint_url or None,
        key_prefix=f"{prefix}/" if prefix else None,
        secret=next(iter(AWS), None),
        oidc_auth_role_arn=SETTINGS.oidc_role_arn or None,
        read_only=True,
    )
    return {path: mounted} if name else {}


DISK: dict[str, Any] = {RESULTS: volume}
SOURCE = DISK | bucket(BUCKET, SETTINGS.mounted_bucket, SETTINGS.prefix)

# What each function is given: cores, MiB, seconds for an attempt, mounts. Only populate may see the cache's bucket.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "populate_cache": {  # waits for the shards, so it is not moved meanwhile: others would be asked for the same
        "cpu": 1.0,
        "memory": 4 * GIB,
        "timeout": DAY,
        "volumes": SOURCE,
        "secrets": AWS,
        "nonpreemptible": True,
    },
    "populate_shard": {
        "cpu": 4.0,
        "memory": 8 * GIB,
        "timeout": 6 * HOUR,
        "volumes": SOURCE,
        "secrets": AWS,
        "max_containers": SETTINGS.populate_containers,
        "retries": RETRIES,
        "single_use_containers": True,
    },
    "verify_cache": {"cpu": 8.0, "memory": 8 * GIB, "timeout": 6 * HOUR, "volumes": DISK, "secrets": AWS},
    "pack_cache": {
        "cpu": 16.0,
        "memory": 32 * GIB,
        "timeout": DAY,
        "volumes": DISK,
        "retries": RETRIES,
        "single_use_containers": True,
    },
    "doctor": {"cpu": 1.0, "memory": 2 * GIB, "timeout": HOUR, "volumes": DISK},
    "train": {
        "gpu": "A100-80GB",
        "cpu": 16.0,
        "memory": 64 * GIB,
        "ephemeral_disk": 700 * GIB,  # data.stage_to copies the packed store there
        "timeout": DAY,
        "volumes": DISK | bucket(RAW, SETTINGS.raw_bucket),
        "secrets": WANDB,
        "retries": RETRIES,
        "single_use_containers": True,
    },
    "evaluate": {
        "gpu": "A100-80GB",
        "cpu": 8.0,
        "memory": 64 * GIB,
        "ephemeral_disk": 700 * GIB,
        "timeout": 6 * HOUR,
        "volumes": DISK,
        "retries": RETRIES,
        "single_use_containers": True,
    },
}
app = modal.App("tusz", image=image())
TOLD = travelling(os.environ)


def mounts(function: str) -> list[DeclaredMount]:
    """Return the guard's table of the dictionary that the function was given."""
    return declared_mounts(FUNCTIONS[function]["volumes"])


def attempt(work: Callable[..., cli.Report], *given: Any, **named: Any) -> int:
    """Do `work` on the volume as it is now, and leave it committed. Returns the exit status."""
    volume.reload()

    def done(progress: Progress) -> cli.Report:
        os.environ.update(assume_role(SETTINGS, os.environ, Path(tempfile.gettempdir())))
        return work(*given, progress=progress, durability=Durability("commit", commit=volume.commit), **named)

    try:
        return cli.attempt(done)
    finally:
        volume.commit()


@app.function(**FUNCTIONS["populate_cache"], env=TOLD)
def populate_cache(adopt: bool = False) -> int:
    """Plan, have each container copy its shard, then check all and seal it. adopt: what another tool has copied."""
    began, count, (source, access) = time.monotonic(), SETTINGS.populate_containers, SETTINGS.origin
    on = sealed_on(mounts("populate_cache"), RESULTS)
    told: dict[str, Any] = {"access": access, "volume": on, "adopt": adopt}
    estimates: list[Population] = []

    def planned(**with_: Any) -> cli.Report:
        plan = tusz_cache.write_plan(source, CACHE, **told, **with_)
        estimates.append(Population.of(plan, count, tusz_cache.read_prices(), datetime.now(UTC).date()))
        return estimates[0]

    def copied() -> int:
        """Return the worst status of all shards; no container starts if there is nothing to copy."""
        shards = [str(shard) for shard in tusz_cache.Shard.all(count)] if estimates[0].has_work else []
        return max(populate_shard.map(shards, kwargs={"adopt": adopt}), default=0)

    def finished(*, progress: Progress, **with_: Any) -> cli.Report:
        report = tusz_cache.finish_shards(source, CACHE, progress=progress, **told, **with_)
        progress.say(estimates[0].took(time.monotonic() - began).as_text())
        return report

    return attempt(planned) or copied() or attempt(finished)


@app.function(**FUNCTIONS["populate_shard"], env=TOLD)
def populate_shard(shard: str, adopt: bool = False) -> int:
    """Copy one container's share of the plan."""
    source, access = SETTINGS.origin
    told = {"access": access, "volume": sealed_on(mounts("populate_shard"), RESULTS), "adopt": adopt}
    return attempt(tusz_cache.copy_shard, source, CACHE, tusz_cache.Shard.parse(shard), **told)


@app.function(**FUNCTIONS["verify_cache"], env=TOLD)
def verify_cache(level: Literal["quick", "full"] = "quick", repair: bool = False) -> int:
    """Check the cache: sizes and seal, or every byte. repair: fetch from the bucket what is missing or damaged."""
    told = {"access": SETTINGS.access, "volume": sealed_on(mounts("verify_cache"), RESULTS)}
    return attempt(tusz_cache.verify_cache, CACHE, level=level, repair=repair, expect=SETTINGS.expect, **told)


@app.function(**FUNCTIONS["pack_cache"], env=TOLD)
def pack_cache(dtype: Literal["float32", "int16"] = "float32") -> int:
    """Write the cache's windows as a packed store beside it."""
    known = mounts("pack_cache")
    told = {"guard": CacheGuard(known), "volume": sealed_on(known, RESULTS)}
    return attempt(tusz_cache.pack_cache, CACHE, STORE, dtype=dtype, **told)


@app.function(**FUNCTIONS["doctor"], env=TOLD)
def doctor() -> int:
    """Say where the cache is, whether it is whole, how fast it is, what to do next."""

    def work(*, progress: Progress, **_: Any) -> cli.Report:
        return examine(CACHE, mounts=mounts("doctor"), progress=progress)

    return attempt(work)


@app.function(**FUNCTIONS["train"], env=TOLD)
def train(config: str, text: str | None = None, overrides: str = "", resume: str = "auto", request: str = "") -> int:
    """Train as `config` says, a file of the image unless its text is given; stop in time for the next attempt.

    request: tells attempts of this call from other calls, so that `resume` "never" begins anew once.
    """

    def work(**on: Any) -> cli.Report:
        return tusz_train.run_training(
            tusz_train.load_config(Path("/root") / config, words(overrides), text=text),
            resume=tusz_train.Resume(resume, request=request or None),
            max_seconds=SETTINGS.train_seconds,
            declared=mounts("train"),
            **on,
        )

    return attempt(work)


@app.function(**FUNCTIONS["evaluate"], env=TOLD)
def evaluate(checkpoint: str, split: str = "dev", overrides: str = "") -> int:
    """Evaluate a checkpoint of the volume on a split, and write its report."""

    def work(**on: Any) -> cli.Report:
        told: dict[str, Any] = {"overrides": words(overrides), "declared": mounts("evaluate")}
        return tusz_train.evaluate_checkpoint(Path(RESULTS) / checkpoint, split, **told, **on)

    return attempt(work)


Action = Literal["populate-cache", "verify-cache", "pack-cache", "doctor", "train", "evaluate", "cost"]


@app.local_entrypoint()
def main(
    *,
    action: Action,
    config: str = "",
    checkpoint: str = "",
    split: Literal["train", "dev", "eval"] = "dev",
    resume: str = "auto",
    overrides: str = "",
    level: Literal["quick", "full"] = "quick",
    repair: bool = False,
    adopt: bool = False,
    dtype: Literal["float32", "int16"] = "float32",
) -> None:
    """Make one call of one function, so that it goes on alone with --detach; end with its exit status."""
    try:
        if action == "cost":
            raise SystemExit(cost.main([]))
        calls: dict[str, Callable[[], Any]] = {
            "populate-cache": lambda: SETTINGS.source and populate_cache.spawn(adopt),  # a bucket must be named
            "verify-cache": lambda: verify_cache.spawn(level, repair),
            "pack-cache": lambda: pack_cache.spawn(dtype),
            "doctor": doctor.spawn,
            "train": lambda: train.spawn(*sent(config), overrides, resume, uuid.uuid4().hex),
            "evaluate": lambda: evaluate.spawn(named("--checkpoint", checkpoint), split, overrides),
        }
        status = calls[action]().get()
    except CacheError as error:
        status = cli.fail(error, as_json=False)
    if status:
        raise SystemExit(status)


def sent(config: str) -> tuple[str, str | None]:
    """Return a configuration's name, and its text if the file is here. Raises UsageError."""
    path = Path(named("--config", config))
    try:
        return config, path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="give a YAML file, as in configs/modal") from error


def named(option: str, value: str) -> str:
    """Return an option's value. Raises UsageError if there is none."""
    if not value:
        raise UsageError(f"this action needs {option}", hint="docs/modal.md shows each command")
    return value


def words(text: str) -> list[str]:
    """Return what a shell would make of a line. Raises UsageError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--overrides {text!r}: {error}", hint="e.g. --overrides 'loop.steps=200'") from error
