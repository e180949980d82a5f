"""Fixtures of the deployment's tests: a bucket on moto's server, and a control plane with containers."""

import json
import logging
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cache.conftest import ground  # noqa: F401 - a fixture
from tests.support.mounting import private_mounts
from tests.support.recordings import name_of, recording, write_split
from tests.support.running import KEYS, Ran
from tests.support.training import TINY
from tusz_cache import CacheGuard

if TYPE_CHECKING:
    from tests.support.controlplane import Cloud

BUCKET = "tusz-test"
PREFIX = "cache/tusz"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache as it lies in the bucket: six recordings to train on, two to judge on."""
    root = tmp_path_factory.mktemp("bucket")
    write_split(root, "train", {name_of(number): recording(2 + number % 2, seed=number) for number in range(6)})
    write_split(root, "dev", {name_of(6 + number): recording(2, seed=20 + number) for number in range(2)})
    return root


@pytest.fixture(scope="session")
def endpoint(source: Path) -> Iterator[str]:
    """Return the address of an S3 server whose one bucket holds the cache."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=url, **keys)
        client.create_bucket(Bucket=BUCKET)
        for path in sorted(source.rglob("*.npz")):
            client.upload_file(str(path), BUCKET, f"{PREFIX}/{path.relative_to(source).as_posix()}")
        client.close()
        yield url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def containers() -> None:
    """Skip where no mount namespace can be made: a container's view of its mounts cannot be had without."""
    with private_mounts():
        pass


@pytest.fixture(scope="session")
def disk(ground: Path) -> Path:  # noqa: F811 - asks for the fixture
    """Return a directory that the guard accepts for its place; in memory if it can be."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and CacheGuard(seal="ignore").check(memory).admitted else ground


@pytest.fixture(scope="session")
def plane(containers: None, disk: Path) -> "Iterator[Cloud]":
    """Return the control plane of all tests."""
    pytest.importorskip("modal")
    from tests.support.controlplane import control_plane

    with (
        tempfile.TemporaryDirectory(dir=disk) as room,
        control_plane(Path(room), secrets=SECRETS, extra=EXTRA, edits=EDITS) as cloud,
    ):
        yield cloud


@pytest.fixture
def cloud(plane: "Cloud") -> "Cloud":
    """Return the control plane, which has forgotten what was asked of it; volumes stay."""
    plane.forget()
    return plane


@pytest.fixture(scope="session")
def told(endpoint: str) -> dict[str, str]:
    """Return the settings that a user exports."""
    return {
        "TUSZ_BUCKET": BUCKET,
        "TUSZ_PREFIX": PREFIX,
        "TUSZ_REGION": "us-east-1",
        "TUSZ_ENDPOINT_URL": endpoint,
        "TUSZ_AWS_SECRET": "aws",
        "TUSZ_POPULATE_CONTAINERS": "2",
        "TUSZ_EXPECT": "train=6,dev=2",
    }


SECRETS = {
    "aws": {name: KEYS[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
    "wandb": {"WANDB_API_KEY": "none"},
}
EXTRA = {name: text for name, text in KEYS.items() if name not in SECRETS["aws"]}
EXTRA |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# the lock of a container that was killed counts for two minutes elsewhere: here for seconds
EDITS = {"/root/tusz_cache/lock.py": {"\nSILENT = 120.0 ": "\nSILENT = 3.0 ", "\nBEAT = 15.0 ": "\nBEAT = 0.5 "}}

SHRUNK = {  # configs/modal/smoke.yaml for a CPU and a handful of windows
    "data.batch_size": 2,
    "data.workers": 1,
    "data.balance": {"full_ratio": 1.0, "background_ratio": 1.0},
    "model.name": "small",
    "model.options": TINY,
    "schedule.warmup_steps": 1,
    "loop.steps": 3,
    "loop.compile": False,
    "checkpoint.every_steps": 1,
    "logging.tensorboard": False,
}


def overrides(**changes: Any) -> str:
    """Return what is given to --overrides."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return shlex.join(f"{key}={json.dumps(value)}" for key, value in (SHRUNK | named).items())


def cloned(home: Path, edits: Mapping[str, str] | None = None, *, without: str = "") -> Path:
    """Return the app in what looks like the repository, its text changed by `edits`, one file or folder left out."""
    from tests.support.controlplane import APP, ROOT

    text = APP.read_text(encoding="utf-8")
    for before, after in (edits or {}).items():
        assert 1 == text.count(before), before
        text = text.replace(before, after)
    for name in {"pyproject.toml", "configs"} - {without}:
        (home / name).symlink_to(ROOT / name)
    path = home / APP.relative_to(ROOT)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def ended(ran: Ran, code: int = 0, *, retried: bool = False) -> Ran:
    """Check how a command ended, and that it did not with a traceback. retried: Modal shows one for each attempt."""
    assert code == ran.code, f"{ran.out}\n--- containers:\n{ran.err}"
    assert retried or "Traceback" not in ran.out, ran.out
    return ran
