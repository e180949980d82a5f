"""Files as large and as many as users have them, on tmpfs."""

import filecmp
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.running import run, weighed
from tests.support.s3server import S3Server

FILES, SIZE = 40, 65_000_000  # bytes each
MEMORY = 300_000  # kB
SHM = Path("/dev/shm")


@pytest.fixture
def workspace() -> Iterator[Path]:
    if not SHM.is_dir() or shutil.disk_usage(SHM).free < 2.5 * FILES * SIZE:
        pytest.skip("needs 6.5 GB free in /dev/shm")
    with tempfile.TemporaryDirectory(dir=SHM) as directory:
        yield Path(directory)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 2])
def test_a_cache_of_real_file_sizes_arrives_whole_in_little_memory(workspace: Path, processes: int) -> None:
    """40 files of 65 MB arrive bit for bit, are not copied twice, and no process needs 300 MB."""
    chance = np.random.default_rng(0)
    source, target = workspace / "source" / "bucket" / "train", workspace / "target"
    source.mkdir(parents=True)
    for number in range(FILES):
        (source / f"p{number:03d}_s001_t000_windows.npz").write_bytes(chance.bytes(SIZE))
    with S3Server(workspace / "source", etag="opaque", checksum="crc64nvme") as server:
        options = ["s3://bucket", str(target), "--endpoint-url", server.url, "--processes", str(processes), "--json"]
        code, memory = weighed("sync", *options)
        again = run("sync", *options)

    assert 0 == code
    assert memory < MEMORY
    names = sorted(path.name for path in source.iterdir())
    assert ([], []) == filecmp.cmpfiles(source, target / "train", names, shallow=False)[1:]
    assert (0, FILES) == (again.json["bytes"]["copied"], again.json["files"]["unchanged"])
    assert 0 == run("verify", target, "--level", "full", "--expect", f"train={FILES}").code
