"""Shards as they are run: commands side by side, a SLURM array, Dask workers; each killed on the way."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache.shards.conftest import rows
from tests.support.running import META, Ran, environment, run, start, tree
from tests.support.s3server import S3Server
from tusz_cache import Access, CacheGuard, Durability, SyncSettings, populate_cache
from tusz_cache.progress import Progress

MIB = 1024**2
DOCS = Path(__file__).parents[3] / "docs"
WORKERS = 2  # requests of a shard at once


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """A slow server with 16 objects of 1 MiB."""
    chance = random.Random(7)
    for number in range(16):
        path = tmp_path / "source" / "bucket" / ("dev" if number < 4 else "train") / f"p{number}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(MIB - number))
    with S3Server(tmp_path / "source", checksum="crc64nvme", bytes_per_second=600_000) as server:
        yield server


def options(server: S3Server, target: Path) -> list[object]:
    way = ["--endpoint-url", server.url, "--part-size", "128KiB", "--workers", WORKERS, "--processes", 0]
    return ["s3://bucket", target, *way, "--json", "--quiet"]


def wanted(server: S3Server) -> dict[str, bytes]:
    return tree(Path(server.root) / "bucket")


def ended(process: subprocess.Popen[str]) -> Ran:
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def wait_for_bytes(server: S3Server, count: int) -> None:
    while server.stats()["bytes"] < count:
        time.sleep(0.02)


def is_admitted(target: Path) -> bool:
    return CacheGuard().check(target).admitted


def test_four_shards_at_once_one_killed(server: S3Server, room: Path):
    """Four processes, one SIGKILLed midway and run again, and a finisher make what one sync makes; the guard admits."""
    target, plain = room / "target", room / "plain"
    how = options(server, target)
    planned = run("sync", *how, "--plan")
    shards = [start("sync", *how, "--shard", f"{number}/4") for number in range(1, 5)]
    wait_for_bytes(server, 4 * MIB)
    server.configure(bytes_per_second=20_000)  # all are at work until the third is killed
    twice = run("sync", *how, "--shard", "1/4")
    early = run("sync", *how, "--finish")
    shards[2].kill()
    assert -signal.SIGKILL == ended(shards[2]).code
    server.configure(bytes_per_second=None)
    rest = [ended(shards[number]) for number in (0, 1, 3)]
    missing = run("sync", *how, "--finish")
    assert not (target / META / "seal.json").exists()
    again = run("sync", *how, "--shard", "3/4")
    sent = server.stats()["bytes"]
    finish = run("sync", *how, "--finish")

    assert (0, 5, 5, 3) == (planned.code, twice.code, early.code, missing.code)
    assert str(shards[0].pid) in twice.err
    assert "shards 3/4 again" in missing.err
    assert [0, 0, 0, 0, 0] == [ran.code for ran in (*rest, again, finish)], again.err + finish.err
    assert wanted(server) == tree(target)
    assert {planned.json["plan_id"]} == {ran.json["plan_id"] for ran in (*rest, again, finish)}
    assert sent - sum(map(len, wanted(server).values())) <= WORKERS * 128 * 1024, "more came twice than was in flight"
    assert is_admitted(target)
    assert 0 == run("sync", *options(server, plain)).code
    assert rows(plain) == rows(target)
    assert 0 == run("verify", target, "--level", "full", "--strict", "--quiet").code


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_shards_killed_at_random(server: S3Server, tmp_path: Path):
    """However often planner, shards and finisher are killed, nothing wrong gets a name, no seal comes too early."""
    chance, target = random.Random(1), tmp_path / "target"
    how = options(server, target)
    whole, killed = wanted(server), 0
    for attempt in range(8):
        steps = [["--shard", f"{number}/3"] for number in (1, 2, 3)]
        steps += [["--finish"]] if attempt % 3 == 2 else [["--plan"]] if chance.random() < 0.2 else []
        started = [start("sync", *how, *step) for step in steps]
        time.sleep(chance.uniform(0.5, 2.5))
        for process in started:
            killed += process.poll() is None
            process.kill()
            out = ended(process)
            assert out.code in {0, 3, 5, 7, -signal.SIGKILL}, out.err
            assert out.code != 7 or "not as they were copied" in out.err
        assert all(whole[key] == data for key, data in tree(target).items() if target.exists())
        assert not (target / META / "seal.json").exists() or whole == tree(target)
    server.configure(bytes_per_second=None)
    codes = [run("sync", *how, *step).code for step in (["--shard", "1/3"], ["--shard", "2/3"], ["--shard", "3/3"])]

    assert [0, 0, 0] == codes
    assert killed > 0
    assert 0 == run("sync", *how, "--finish", "--reverify").code
    assert whole == tree(target)


def test_a_slurm_array(server: S3Server, tmp_path: Path):
    """The scripts of docs/sharding.md do it: a plan, a task for each shard at once, then one that finishes."""
    server.configure(bytes_per_second=None)
    target = tmp_path / "target"
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / "sharding.md").read_text(encoding="utf-8"), re.DOTALL)
    [array] = [block for block in blocks if "--array=1-16" in block]
    plan, finish = re.findall(r'--wrap "(.*?)"', next(block for block in blocks if "--wrap" in block))

    def task(script: str, **env: str) -> subprocess.Popen[str]:
        script = script.replace("SOURCE TARGET", f"s3://bucket {target} --endpoint-url {server.url} --quiet")
        script = script.replace("python -m", f"{sys.executable} -m").replace("/16", "/4")
        command, clean = ["bash", "-euc", script], environment(env)
        return subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    codes = [ended(task(plan)).code]
    codes += [ended(each).code for each in [task(array, SLURM_ARRAY_TASK_ID=str(n)) for n in range(1, 5)]]
    codes += [ended(task(finish)).code]

    assert [0] * 6 == codes
    assert wanted(server) == tree(target)
    assert (target / META / "seal.json").exists()


def test_tasks_of_an_array_that_plan_themselves(server: S3Server, tmp_path: Path):
    """Without `--plan`, tasks that start at the same moment wait for the one that lists."""
    slow = {"key": "*", "do": "slow", "method": "LIST", "arg": 1, "times": -1}
    server.configure(bytes_per_second=None, faults=[slow])
    how = options(server, tmp_path / "target")
    shards = [ended(process) for process in [start("sync", *how, "--shard", f"{n}/3") for n in (1, 2, 3)]]

    assert [0, 0, 0] == [ran.code for ran in shards], [ran.err for ran in shards]
    assert 16 == sum(ran.json["files"]["copied"] for ran in shards)
    assert 0 == run("sync", *how, "--finish").code


def test_interrupted_shards_go_on(server: S3Server, tmp_path: Path):
    """SIGTERM, as a scheduler sends it, keeps every part that came; little else was under way."""
    how = options(server, tmp_path / "target")
    assert 0 == run("sync", *how, "--plan").code
    shards = [start("sync", *how, "--shard", f"{n}/2") for n in (1, 2)]
    wait_for_bytes(server, 3 * MIB)
    for process in shards:
        process.terminate()
    assert [143, 143] == [ended(process).code for process in shards]
    server.configure(bytes_per_second=None)

    assert [0, 0, 0] == [
        run("sync", *how, *step).code for step in (["--shard", "1/2"], ["--shard", "2/2"], ["--finish"])
    ]
    # a request that was to bring more parts is broken off, with what the server has sent of the next one
    assert server.stats()["bytes"] - sum(map(len, wanted(server).values())) < MIB


@pytest.mark.timeout(180)
def test_dask_workers_one_killed(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Shards under Dask: a worker is SIGKILLed midway, Dask gives its shard to another, and the run ends sealed."""
    distributed = pytest.importorskip("distributed")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    target = tmp_path / "target"
    settings = SyncSettings(
        access=Access(endpoint_url=server.url),
        part_size=128 * 1024,
        workers=2,
        processes=0,
        durability=Durability("none"),
    )
    monkeypatch.chdir(tmp_path)
    pids: list[int] = []
    killed: list[int] = []

    class Killing(Progress):
        def start(self, total_bytes: int, total_files: int) -> None:
            super().start(total_bytes, total_files)
            killer.start()

    def kill() -> None:
        wait_for_bytes(server, 3 * MIB)
        killed.append(pids[0])
        os.kill(killed[0], signal.SIGKILL)
        server.configure(bytes_per_second=None)

    killer = threading.Thread(target=kill)

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        pids += client.run(os.getpid).values()
        report = populate_cache(
            "s3://bucket", target, settings=settings, progress=Killing("quiet"), executor=executor, shards=4
        )

        killer.join()
        assert pids[:1] == killed
        assert killed[0] not in client.run(os.getpid).values()

    assert (True, 16) == (report.sealed, report.files_total)
    assert wanted(server) == tree(target)
