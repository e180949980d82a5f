"""The strategy's checklist where it can only be seen at work: a cache of as many files as the real one, on a volume."""

import ctypes
import io
import json
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("modal")

from tests.deploy.conftest import BUCKET, PREFIX, cloned, ended, overrides
from tests.support.caches import seal_cache
from tests.support.controlplane import ROOT, Cloud
from tests.support.recordings import BLOCK, CHANNELS, name_of, recording, write_split

COUNTS = {"train": 4667, "dev": 1832}
IN_ACCESS, IN_OPEN = 0x1, 0x20


def short_recording() -> bytes:
    """Return the file of a recording that is too short for a window."""
    file = io.BytesIO()
    np.savez(
        file,
        windows=np.empty((0, CHANNELS, 6 * BLOCK), np.float32),
        labels=np.empty((0, 6 * BLOCK), np.float32),
    )
    return file.getvalue()


@pytest.fixture(scope="module")
def real_size(plane: Cloud) -> Path:
    """Return a sealed cache on the volume `full`, of 4667 and 1832 files, of which a few have windows."""
    root, tiny = plane.volume("full") / "cache" / "tusz", short_recording()
    for split, count, some in (("train", 4667, range(4)), ("dev", 1832, range(4, 6))):
        write_split(root, split, {name_of(number): recording(2, seed=number) for number in some})
        for number in range(count - len(some)):
            (root / split / f"{split}{number:05d}_s001_t000_windows.npz").write_bytes(tiny)
    made = plane.volumes["full"][0]
    return seal_cache(root, volume={"kind": "volume", "name": "full", "object_id": made})


def test_all_files_are_on_the_volume(cloud: Cloud, real_size: Path):
    """verify-cache counts 4667 + 1832 files without being told how many there must be, and misses one that is gone."""
    ran = ended(cloud.run("--action", "verify-cache", env={"TUSZ_VOLUME": "full"}))
    assert "4667" in ran.out
    assert "1832" in ran.out

    gone = real_size / "dev" / "dev00000_s001_t000_windows.npz"
    kept = gone.read_bytes()
    times = gone.stat()
    gone.unlink()
    try:
        assert gone.name in ended(cloud.run("--action", "verify-cache", env={"TUSZ_VOLUME": "full"}), 7).out
    finally:
        gone.write_bytes(kept)
        os.utime(gone, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_log_says_that_the_cache_is_valid(cloud: Cloud, real_size: Path):
    """A training by configs/modal/smoke.yaml, with the numbers of files that it demands, says the users' line."""
    ran = ended(
        cloud.run(
            *["--action", "train", "--config", "configs/modal/smoke.yaml"],
            *["--overrides", overrides(data__store_dir=None, loop__steps=1, schedule__warmup_steps=0)],
            env={"TUSZ_VOLUME": "full"},
        )
    )

    log = ran.err.splitlines()
    assert 1 == log.count("Using valid Modal SSD cache")
    assert any("train 4667, dev 1832" in line for line in log)
    assert any(f"volume full ({cloud.volumes['full'][0]})" in line for line in log)


@contextmanager
def watched(root: Path) -> Iterator[list[str]]:
    """Yield a list that has, after the context, what below `root` was opened or read, by whomever."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK)
    assert queue >= 0
    seen: list[str] = []
    try:
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            assert libc.inotify_add_watch(queue, bytes(folder), IN_OPEN | IN_ACCESS) >= 0
        yield seen
        try:
            events = os.read(queue, 1 << 20)
        except BlockingIOError:
            events = b""
        at = 0
        while at < len(events):
            _, _, _, length = struct.unpack_from("iIII", events, at)
            if name := events[at + 16 : at + 16 + length].rstrip(b"\0"):  # without one: the folder itself
                seen.append(os.fsdecode(name))
            at += 16 + length
    finally:
        os.close(queue)


def test_a_bucket_at_the_cache_s_path_is_refused(cloud: Cloud, real_size: Path, tmp_path: Path, source: Path):
    """Edited so that a bucket is mounted at the cache's path, training ends with 5, and no file of it was opened."""
    shutil.copytree(source, tmp_path / "bucket")
    cloud.buckets[BUCKET] = seal_cache(tmp_path / "bucket")
    with watched(cloud.buckets[BUCKET]) as read:
        next((tmp_path / "bucket" / "dev").iterdir()).read_bytes()
    assert read  # the watch sees what is read
    app = cloned(tmp_path, {"DISK | bucket(RAW, SETTINGS.raw_bucket)": "DISK | bucket(CACHE, SETTINGS.bucket)"})
    with watched(cloud.buckets[BUCKET]) as opened:
        ran = ended(
            cloud.run(
                *["--action", "train", "--config", "configs/modal/smoke.yaml", "--overrides", overrides()],
                env={"TUSZ_VOLUME": "refused", "TUSZ_BUCKET": BUCKET, "TUSZ_PREFIX": PREFIX},
                app=app,
            ),
            5,
        )

    assert ["/results/cache/tusz"] == [mount.mount_path for mount in cloud.function("train").cloud_bucket_mounts]
    assert "REFUSE_OBJECT_STORE" in ran.err
    assert 1 == len(cloud.ran("train"))
    assert [] == opened


def test_the_guide_s_look_at_a_live_container_runs(cloud: Cloud, tmp_path: Path, source: Path):
    """The program that docs/modal.md asks users to run runs here: the volume is admitted, the bucket refused."""
    guide = (ROOT / "docs" / "modal.md").read_text(encoding="utf-8")
    program = guide.partition("$ cat > /tmp/look.py <<'END'\n")[2].partition("\nEND\n")[0]
    (tmp_path / "look.py").write_text(program)
    (cloud.volume() / "cache" / "tusz").mkdir(parents=True, exist_ok=True)
    cloud.buckets["my-bucket"] = source
    ran = ended(cloud.run(app=tmp_path / "look.py"))

    verdicts = [json.loads(line) for line in ran.out.splitlines() if line.startswith('{"path"')]
    assert [("/results/cache/tusz", "ACCEPT_DECLARED"), ("/bucket", "REFUSE_OBJECT_STORE")] == [
        (one["path"], one["verdict"]) for one in verdicts
    ]
    assert "/__modal/volumes/" in ran.out  # the mount table


def test_what_reaches_the_platform(cloud: Cloud):
    """GPU, cores, memory, disk, time, retries, mounts and secrets arrive as the table in the app says them."""
    env = {
        "TUSZ_BUCKET": BUCKET,
        "TUSZ_PREFIX": PREFIX,
        "TUSZ_VOLUME": "second",
        "TUSZ_VOLUME_VERSION": "2",
        "TUSZ_AWS_SECRET": "aws",
        "TUSZ_WANDB_SECRET": "wandb",
        "TUSZ_RAW_BUCKET": "raw-edf",
        "TUSZ_POPULATE_CONTAINERS": "16",
        "TUSZ_POPULATE_FROM": "mount",
    }
    ended(cloud.run("--action", "doctor", env=env), 2)  # there is no cache on that volume

    made, version = cloud.volumes["second"]
    assert 2 == version
    train, evaluate, shard = cloud.function("train"), cloud.function("evaluate"), cloud.function("populate_shard")
    for function in (train, evaluate):
        assert "A100-80GB" == function.resources.gpu_config.gpu_type
        assert 700 * 1024 == function.resources.ephemeral_disk_mb
    assert (16_000, 65_536) == (train.resources.milli_cpu, train.resources.memory_mb)
    assert (86_400, 10, True) == (train.timeout_secs, train.retry_policy.retries, train.single_use_containers)
    assert 60_000 == train.retry_policy.initial_delay_ms
    assert [("/results", made, False)] == [(m.mount_path, m.volume_id, m.read_only) for m in train.volume_mounts]
    assert [("/data", "raw-edf", True)] == [
        (m.mount_path, m.bucket_name, m.read_only) for m in train.cloud_bucket_mounts
    ]
    assert [("/s3_cache", BUCKET, f"{PREFIX}/", True)] == [
        (m.mount_path, m.bucket_name, m.key_prefix, m.read_only) for m in shard.cloud_bucket_mounts
    ]
    assert (4_000, 8_192, 21_600) == (shard.resources.milli_cpu, shard.resources.memory_mb, shard.timeout_secs)
    assert 16 == shard.autoscaler_settings.max_containers
    assert cloud.function("populate_cache").scheduler_placement.nonpreemptible
    assert {"aws": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "wandb": ["WANDB_API_KEY"]} == {
        one.deployment_name: sorted(one.required_keys) for one in cloud.asked_secrets if one.deployment_name
    }
    settings = [dict(one.env_dict) for one in cloud.asked_secrets if not one.deployment_name]
    assert all(env == one for one in settings)
    lines = [line for image in cloud.images.values() for line in image.dockerfile_commands]
    assert any("torch==2.13.0" in line for line in lines)
    assert any("pip install" in line and "pydantic" in line for line in lines)
    files = {name for one in train.mount_ids for name in cloud.mounts[one]}
    assert {"/root/app.py", "/root/tusz_cache/sync.py", "/root/tusz_train/run.py"} <= files
    assert {"/root/configs/modal/smoke.yaml", "/root/tusz_cache/costing/prices.toml"} <= files
    assert [] == [name for name in files if "__pycache__" in name]
