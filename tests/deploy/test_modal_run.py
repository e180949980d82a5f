"""`modal run deploy/modal/app.py`, every action, against a control plane on loopback and a bucket on moto's server."""

import json
import shutil
import signal
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("modal")

from tests.deploy.conftest import BUCKET, ended, overrides
from tests.support.controlplane import Cloud, Task
from tests.support.running import META, tree

TRAIN = ["--action", "train", "--config", "configs/modal/smoke.yaml"]
FILES = {"train": 6, "dev": 2}


def populate_brings_the_cache_though_a_container_is_killed(cloud: Cloud, told: dict[str, str], source: Path):
    """Two shards copy the bucket's bytes to the volume; one is killed as it commits, and its input runs again."""
    cloud.strike = lambda task, rpc: (
        signal.SIGKILL if rpc == "VolumeCommit" and cloud.ran("populate_shard")[:1] == [task] and not task.struck else 0
    )
    ran = ended(cloud.run("--action", "populate-cache", env=told))

    cache = cloud.volume() / "cache" / "tusz"
    assert tree(source) == tree(cache)
    seal = json.loads((cache / META / "seal.json").read_text())
    assert (True, 8) == (seal["complete"], seal["files"])
    assert {"kind": "volume", "name": "tusz", "object_id": cloud.volumes["tusz"][0]} == seal["volume"]
    assert [
        ("populate_cache", (False,)),
        ("populate_shard", ("1/2", False)),
        ("populate_shard", ("2/2", False)),
    ] == sorted(cloud.called)
    codes = [(task.struck, task.code) for task in cloud.ran("populate_shard")]
    assert [(False, 0), (False, 0), (True, -9)] == sorted(codes)
    assert 1 == len(cloud.ran("populate_cache"))
    assert cloud.commits["populate_shard"] >= 2
    assert cloud.commits["populate_cache"] >= 2
    assert cloud.reloads["populate_cache"] >= 2  # before the plan, and once the shards have committed
    assert "estimate" in ran.out
    assert [] == cloud.unknown


def populate_again_copies_nothing(cloud: Cloud, told: dict[str, str]):
    """The same command, detached: one call of one function, which finds all as it must be, and leaves the seal."""
    seal = cloud.volume() / "cache" / "tusz" / META / "seal.json"
    before = seal.read_bytes()
    ended(cloud.run("--action", "populate-cache", env=told, detach=True))

    assert before == seal.read_bytes()
    assert [("populate_cache", (False,))] == cloud.called
    assert cloud.detached


def a_damaged_cache_is_found_and_repaired(cloud: Cloud, told: dict[str, str]):
    """A damaged cache is exit status 7; --repair reads every byte, fetches what is damaged, and ends with 0."""
    path = cloud.volume() / "cache" / "tusz" / "dev" / "ag_s001_t000_windows.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    ended(cloud.run("--action", "verify-cache", env=told), 7)
    ended(cloud.run("--action", "verify-cache", "--repair", env=told))
    assert whole == path.read_bytes()


def pack_writes_the_store_beside_the_cache(cloud: Cloud, told: dict[str, str]):
    """The packed store lies where the configurations look for it, sealed on the same volume."""
    ended(cloud.run("--action", "pack-cache", env=told))

    seal = json.loads((cloud.volume() / "cache" / "tusz-packed" / META / "seal.json").read_text())
    assert cloud.volumes["tusz"][0] == seal["volume"]["object_id"]
    assert cloud.commits["pack_cache"] >= 2


def doctor_says_that_training_may_start(cloud: Cloud, told: dict[str, str]):
    """Doctor sees a declared volume, and names the next step."""
    ran = ended(cloud.run("--action", "doctor", env=told))

    assert "ACCEPT_DECLARED" in ran.out
    assert "training may start" in ran.out


def a_training_out_of_time_is_started_again_then_ends_with_75(cloud: Cloud, told: dict[str, str]):
    """An attempt that stops in time fails, so that the next is started; when there is none, the shell sees 75."""
    cloud.patience = 1  # the policy grants ten, which takes as many containers
    changes = overrides(data__expected_files=FILES)
    env = told | {"BGB_LIMIT_FILES": "5", "TUSZ_TRAIN_SECONDS": "0"}
    ran = ended(cloud.run(*TRAIN, "--overrides", changes, env=env), 75, retried=True)

    assert 1 == sum(line.startswith("going on from /results/checkpoints/smoke/") for line in ran.err.splitlines())
    assert 2 == len(cloud.ran("train"))
    assert 1 == len(cloud.called)
    assert list((cloud.volume() / "checkpoints" / "smoke").glob("*.json"))


def a_call_goes_on_through_a_kill_and_a_stop(cloud: Cloud, told: dict[str, str]):
    """Killed at one checkpoint, asked to stop at the next: the run ends, with each step there once.

    It is a call with `--resume never`: the attempts after the first go on with what that began.
    """
    asked: list[Task] = []

    def strike(task: Task, rpc: str) -> int:
        if rpc != "VolumeCommit" or task in asked:
            return 0
        asked.append(task)
        return {1: signal.SIGKILL, 2: signal.SIGINT}.get(len(asked), 0)

    cloud.strike = strike
    changes = overrides(data__expected_files=FILES, data__stage_to="/tmp/tusz-packed")
    asks = [*TRAIN, "--resume", "never", "--overrides", changes]
    ran = ended(cloud.run(*asks, env=told | {"BGB_LIMIT_FILES": "5"}))

    log = ran.err.splitlines()
    assert "Using valid Modal SSD cache" in log
    assert "file limit: 5 train, 1 dev (BGB_LIMIT_FILES=5)" in log
    assert "  cache_dir: /results/cache/tusz" in log
    assert "Staged to /tmp/tusz-packed" in log
    checkpoints = cloud.volume() / "checkpoints" / "smoke"
    assert ["smoke", "smoke.before-1"] == sorted(path.name for path in checkpoints.parent.iterdir())
    assert 3 == max(json.loads(path.read_text())["step"] for path in checkpoints.glob("*.json"))
    lines = map(json.loads, (cloud.volume() / "runs" / "smoke" / "metrics.jsonl").read_text().splitlines())
    assert [1, 2, 3] == [line["step"] for line in lines if "loss" in line]
    first, second, third = cloud.ran("train")
    assert (-9, None) == (first.code, first.output)
    assert second.output is None  # it counts as no failure, and starts again
    assert (0, 0) == (third.code, third.input.retry_count)
    assert cloud.reloads["train"] == 3
    assert cloud.commits["train"] >= 3
    assert 1 == len(cloud.called)


def evaluate_writes_the_report(cloud: Cloud, told: dict[str, str]):
    """The checkpoint is run over dev, and the report lies with the run."""
    ran = ended(
        cloud.run(
            *["--action", "evaluate", "--checkpoint", "checkpoints/smoke", "--split", "dev"],
            env=told | {"BGB_LIMIT_FILES": "5"},
        )
    )

    assert "SzCORE" in ran.out
    assert (cloud.volume() / "runs" / "smoke" / "report.html").is_file()
    assert cloud.commits["evaluate"] >= 1


@pytest.mark.slow
def test_the_first_hour(cloud: Cloud, told: dict[str, str], source: Path):
    """From an empty volume to a scored model, as a user types it; the steps build on each other."""
    populate_brings_the_cache_though_a_container_is_killed(cloud, told, source)
    for step in (
        populate_again_copies_nothing,
        a_damaged_cache_is_found_and_repaired,
        pack_writes_the_store_beside_the_cache,
        doctor_says_that_training_may_start,
        a_training_out_of_time_is_started_again_then_ends_with_75,
        a_call_goes_on_through_a_kill_and_a_stop,
        evaluate_writes_the_report,
    ):
        cloud.forget()
        step(cloud, told)


def test_populate_by_a_role_in_place_of_a_secret(cloud: Cloud, told: dict[str, str], endpoint: str, source: Path):
    """The platform's identity token is exchanged for a role's keys, which read the bucket."""
    role = "arn:aws:iam::123456789012:role/tusz"
    env = {name: text for name, text in told.items() if name != "TUSZ_AWS_SECRET"}
    env |= {"TUSZ_OIDC_ROLE_ARN": role, "TUSZ_VOLUME": "by-role", "TUSZ_POPULATE_CONTAINERS": "1"}
    with mock.patch.dict(cloud.extra, {"AWS_ENDPOINT_URL_STS": endpoint}):
        ended(cloud.run("--action", "populate-cache", env=env))

    assert tree(source) == tree(cloud.volume("by-role") / "cache" / "tusz")
    assert all(one.env_dict for one in cloud.asked_secrets)  # settings alone: no secret was asked for


def test_populate_goes_on_though_the_one_who_waits_is_killed(cloud: Cloud, told: dict[str, str], source: Path):
    """Killed as it commits the plan, and as it commits the seal: each time the same call starts again, and ends."""

    def strike(task: Task, rpc: str) -> int:
        coordinators = cloud.ran("populate_cache")
        if rpc != "VolumeCommit" or task not in coordinators or task.struck:
            return 0
        plans, seals = len(coordinators) == 1, len(coordinators) == 2 and cloud.commits["populate_shard"] > 0
        return signal.SIGKILL if plans or seals else 0

    cloud.strike = strike
    env = told | {"TUSZ_VOLUME": "by-three", "TUSZ_POPULATE_CONTAINERS": "1"}
    ended(cloud.run("--action", "populate-cache", env=env))

    cache = cloud.volume("by-three") / "cache" / "tusz"
    assert tree(source) == tree(cache)
    assert (cache / META / "seal.json").is_file()
    assert [-9, -9, 0] == [task.code for task in cloud.ran("populate_cache")]
    assert 1 == len(cloud.ran("populate_shard"))  # the third finds all copied


def test_a_volume_may_lose_fractions_of_seconds(cloud: Cloud, told: dict[str, str]):
    """Where other containers see times in whole seconds, what shards copied is whole for who finishes, and stays so."""
    cloud.shown = lambda ns: ns // 10**9 * 10**9
    env = told | {"TUSZ_VOLUME": "coarse"}
    ended(cloud.run("--action", "populate-cache", env=env))
    ended(cloud.run("--action", "populate-cache", env=env))

    assert 2 == len(cloud.ran("populate_shard"))  # of the first call: the second finds nothing to copy


def test_a_volume_may_change_times(cloud: Cloud, told: dict[str, str], source: Path):
    """Where a commit gives files other times, the finisher reads them and seals; a second call fetches nothing."""
    cloud.shown = lambda ns: ns - 3_141_592_653
    env = told | {"TUSZ_VOLUME": "shifting"}
    first = ended(cloud.run("--action", "populate-cache", env=env))
    cache = cloud.volume("shifting") / "cache" / "tusz"
    assert tree(source) == tree(cache)
    assert "reading 8 files" in first.err
    assert (cache / META / "seal.json").is_file()
    ended(cloud.run("--action", "populate-cache", env=env))
    assert 2 == len(cloud.ran("populate_shard"))  # of the first call


def test_populate_through_a_bucket_mount_and_adopt(cloud: Cloud, told: dict[str, str], source: Path):
    """With TUSZ_POPULATE_FROM=mount the source is the mount at /s3_cache; --adopt keeps what another tool copied."""
    env = told | {"TUSZ_POPULATE_FROM": "mount", "TUSZ_VOLUME": "by-mount", "TUSZ_POPULATE_CONTAINERS": "1"}
    cache = cloud.volume("by-mount") / "cache" / "tusz"
    shutil.copytree(source / "dev", cache / "dev")
    with mock.patch.dict(cloud.buckets, {BUCKET: source}):
        ended(cloud.run("--action", "populate-cache", "--adopt", env=env))

    assert tree(source) == tree(cache)
    assert json.loads((cache / META / "seal.json").read_text())["source"].endswith("/s3_cache")


def test_cost_calls_nothing(cloud: Cloud):
    """The estimate is made on the user's machine, without settings."""
    ran = ended(cloud.run("--action", "cost"))

    assert "volume" in ran.out
    assert [] == cloud.called


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (("--action", "populate-cache"), {"TUSZ_VOLUME": "a b"}, "TUSZ_VOLUME='a b'"),
        (("--action", "populate-cache"), {}, "TUSZ_BUCKET is not set"),
        (("--action", "train"), {}, "this action needs --config"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    cloud: Cloud, arguments: tuple[str, ...], env: dict[str, str], words: str
):
    """Settings and options that make no sense end with status 2 and a hint, and no container starts."""
    ran = ended(cloud.run(*arguments, env=env), 2)

    assert words in ran.out
    assert "hint:" in ran.out
    assert [] == cloud.called


def test_a_mistake_in_the_container_reaches_the_shell(cloud: Cloud, told: dict[str, str]):
    """A file limit without a smoke run is refused in the container, with its status, and is not tried again."""
    ran = ended(
        cloud.run(
            *["--action", "train", "--config", "configs/modal/train.yaml"],
            env=told | {"BGB_LIMIT_FILES": "50"},
        ),
        2,
    )

    assert "the run is no smoke run" in ran.err
    assert 1 == len(cloud.ran("train"))
