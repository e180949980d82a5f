"""What a signal leaves behind, and how the next run goes on."""

import signal
import time
from pathlib import Path

import pytest

from tests.support.kill import killed_runs
from tests.support.running import run, start, tree
from tests.support.s3server import S3Server

MIB = 1024**2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [11, 12])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """However often SIGKILL comes, the bytes end up right and at most the parts in flight are sent twice."""
    runs = list(killed_runs(5, seed, tmp_path))

    assert sum(made.amid for made in runs) > 0, "no kill hit the middle of a copy: the test has shown nothing"
    assert all(made.sent_twice <= made.allowed for made in runs)


def make(root: Path, files: int = 6, size: int = 4 * MIB) -> dict[str, bytes]:
    for number in range(files):
        path = root / "bucket" / "train" / f"p{number}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * size)
    return tree(root / "bucket")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("processes", [0, 2])
def test_a_gentle_signal_keeps_every_byte_that_came(tmp_path: Path, signum: int, code: int, processes: int) -> None:
    """After SIGINT or SIGTERM parts in flight are finished and recorded, so that nothing is sent twice."""
    wanted = make(tmp_path / "source")
    target = tmp_path / "target"
    with S3Server(tmp_path / "source", checksum="crc64nvme", bytes_per_second=3_000_000) as server:
        options = ["s3://bucket", target, "--endpoint-url", server.url, "--part-size", "512KiB", "--workers", 4]
        options += ["--processes", processes, "--json"]
        process = start("sync", *options)
        while server.stats()["bytes"] < 2 * MIB:
            time.sleep(0.02)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)

        assert code == process.returncode
        assert "hint:" in err
        assert not (target / ".tusz_cache" / "seal.json").exists()

        server.configure(bytes_per_second=None)
        ended = run("sync", *options)

        assert 0 == ended.code
        assert sum(map(len, wanted.values())) == server.stats()["bytes"]
        assert wanted == tree(target)


def test_two_processes_never_write_to_one_target(tmp_path: Path) -> None:
    """While one run works on a target a second is refused; when the first is killed, the next may start at once."""
    make(tmp_path / "source")
    target = tmp_path / "target"
    with S3Server(tmp_path / "source", bytes_per_second=500_000) as server:
        options = ["s3://bucket", target, "--endpoint-url", server.url, "--part-size", "512KiB"]
        first = start("sync", *options)
        while not server.stats()["bytes"]:
            time.sleep(0.02)
        second = run("sync", *options)
        first.kill()
        first.communicate()
        server.configure(bytes_per_second=None)
        third = run("sync", *options)

    assert 5 == second.code
    assert str(first.pid) in second.err
    assert 0 == third.code


def test_a_changed_source_does_not_resume_onto_old_bytes(tmp_path: Path) -> None:
    """Parts of an older version are thrown away; files whose version is unchanged keep theirs."""
    make(tmp_path / "source")
    target = tmp_path / "target"
    with S3Server(tmp_path / "source", etag="opaque", bytes_per_second=1_000_000) as server:
        options = ["s3://bucket", target, "--endpoint-url", server.url, "--part-size", "512KiB", "--workers", 12]
        process = start("sync", *options)
        while server.stats()["bytes"] < 9 * MIB:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        for number in range(6):
            (tmp_path / "source" / "bucket" / "train" / f"p{number}.npz").write_bytes(bytes([100 + number]) * 4 * MIB)
        server.configure(bytes_per_second=None)
        ended = run("sync", *options, "--json")

    assert 0 == ended.code
    assert tree(tmp_path / "source" / "bucket") == tree(target)
