"""Fixtures of the sync tests: a bucket of one's own on a scripted S3 server, and ways to run a sync from it."""

import functools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.support.running import KEYS, META, Ran, tree
from tests.support.s3server import DEFAULTS, S3Server
from tusz_cache import Access, CacheError, CacheGuard, Durability, SyncReport, SyncSettings, populate_cache
from tusz_cache.errors import exit_status
from tusz_cache.progress import Progress
from tusz_cache.sync import main

LOADER = functools.cache(botocore.session.create_loader)  # reading the S3 model anew takes 0.1 s for each filesystem
PART = 64 * 1024  # bytes; the smallest part, so that small files have several


@dataclass(frozen=True)
class Result:
    """What came of a sync in this process: a report, or the error that ended it."""

    code: int
    report: SyncReport | None = None
    error: CacheError | None = None

    @classmethod
    def of(cls, run: Callable[[], SyncReport]) -> "Result":
        """Run a sync, and take what it raises for its result."""
        try:
            report = run()
        except CacheError as error:
            return cls(exit_status(error), error=error)
        return cls(report.exit_code, report=report)

    @property
    def json(self) -> dict[str, Any]:
        assert self.report is not None, self.error
        return self.report.as_dict()


class Hook(Progress):
    """Quiet progress that calls `act` once, after the listing and the plan, before the first byte is fetched."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__("quiet")
        self.act = act

    def start(self, total_bytes: int, total_files: int) -> None:
        self.act()
        super().start(total_bytes, total_files)


def noise(size: int, seed: str) -> bytes:
    """Return `size` bytes that no fault maps onto themselves."""
    return random.Random(seed).randbytes(size)


@dataclass
class Bucket:
    """A bucket on the server, whose objects are files below `path`."""

    server: S3Server
    path: Path
    tries: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes | int) -> bytes:
        """Write an object; a number asks for so many bytes, other ones at each call."""
        if isinstance(data, int):
            self.tries[key] = self.tries.get(key, 0) + 1
            data = noise(data, f"{key} {self.tries[key]}")
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.parent / f".{self.name}-draft"
        draft.write_bytes(data)
        if path.exists():
            later = path.stat().st_mtime_ns + 10**9
            os.utime(draft, ns=(later, later))
        draft.replace(path)
        return data

    def drop(self, key: str) -> None:
        (self.path / key).unlink()

    def contents(self) -> dict[str, bytes]:
        return tree(self.path)

    def configure(self, **settings: Any) -> None:
        """Change the server's settings. Keys of `objects` and `multipart_parts` are of this bucket."""
        for name in {"objects", "multipart_parts"} & settings.keys():
            settings[name] = {f"{self.name}/{key}": value for key, value in settings[name].items()}
        self.server.configure(**settings)

    def faults(self, *faults: dict[str, Any]) -> None:
        self.server.configure(faults=list(faults))

    def received(self, key: str) -> int:
        """Return the bytes that the server sent of an object."""
        return sum(sent for _, sent in self.server.stats()["ranges"].get(f"{self.name}/{key}", []))

    def settings(self, **changes: Any) -> SyncSettings:
        usual: dict[str, Any] = {
            "access": Access(endpoint_url=self.server.url),
            "part_size": PART,
            "workers": 4,
            "retries": 2,
            "durability": Durability("none"),
        }
        return SyncSettings(**usual | changes)

    def sync(
        self, target: Path, *, source: str | None = None, act: Callable[[], object] | None = None, **changes: Any
    ) -> SyncReport:
        """Run a sync in this process."""
        progress = Progress("quiet") if act is None else Hook(act)
        return populate_cache(source or self.url, target, settings=self.settings(**changes), progress=progress)

    def attempt(self, target: Path, **options: Any) -> Result:
        """Run a sync in this process, and take what it raises for its result."""
        return Result.of(lambda: self.sync(target, **options))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return a server for all tests of this process."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment that `running.environment` gives to processes."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(botocore.session, "create_loader", LOADER)


@pytest.fixture
def bucket(s3: S3Server, aws: None, tmp_path: Path) -> Bucket:
    """Return an empty bucket on a server with default settings."""
    s3.configure(**DEFAULTS)
    s3.reset()
    root = Path(s3.root)
    path = root / f"b{len(list(root.iterdir()))}"
    path.mkdir()
    return Bucket(s3, path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return where a sync may go. It does not exist."""
    return tmp_path / "target"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs the sync command in this process, as `running.run` does in another."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        try:
            code = main([*map(str, arguments)])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture
def healthy() -> Callable[[Bucket, Path], None]:
    """Return a check that a later run without faults finishes, with the source's bytes and a seal."""

    def check(bucket: Bucket, target: Path) -> None:
        bucket.faults()
        report = bucket.sync(target)
        assert (0, True) == (report.exit_code, report.sealed)
        assert bucket.contents() == tree(target)
        assert (target / META / "seal.json").is_file()

    return check


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a directory that the guard accepts for its place."""
    usual = tmp_path_factory.mktemp("ground")
    if CacheGuard(seal="ignore").check(usual).admitted:
        yield usual
    elif Path("/dev/shm").is_dir() and CacheGuard(seal="ignore").check("/dev/shm").admitted:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            yield Path(directory)
    else:
        pytest.skip("no local file system here that the guard can see")


@pytest.fixture
def room(ground: Path) -> Iterator[Path]:
    """Return an empty directory that the guard accepts for its place."""
    with tempfile.TemporaryDirectory(dir=ground) as directory:
        yield Path(directory)
