"""Several processes train as one does: the same windows in the same order, the same steps."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.running import Ran, environment
from tests.support.training import TINY, config_of, metrics, record, torchrun, training_cache, write_config
from tests.support.training import run_here as run
from tests.train.test_resume import check_same, last
from tusz_cache import Durability, UsageError, pack_cache, ssd
from tusz_cache.lock import locked
from tusz_train.distributed import GlobalBatchNorm, World, joined, share_norms

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="this torch has no gloo"
)
WITHOUT_CHANCE = {"model": {"options": {**TINY, "dropout": 0.0, "residual_dropout": 0.0}}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_cache(tmp_path_factory.mktemp("distributed") / "cache")


@pytest.fixture(scope="module")
def pair(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """The outputs of two processes, and what they said."""
    output = tmp_path_factory.mktemp("pair")
    return output, torchrun(2, write_config(output / "c.yaml", config_of(cache, output, **WITHOUT_CHANCE)))


def close(one: Path, other: Path) -> bool:
    """Whether two runs measured the same, but for the order in which sums are rounded."""
    pairs = list(zip(metrics(one), metrics(other), strict=True))
    return all(a.keys() == b.keys() and a == pytest.approx(b, rel=1e-3) for a, b in pairs)


def test_two_processes_train_as_one(cache: Path, pair: tuple[Path, Ran], tmp_path: Path):
    """With halves of each batch, two processes take one's steps: order, losses, gradients and validations agree."""
    output, ran = pair
    assert 0 == ran.code, ran.err
    run(config_of(cache, tmp_path, **WITHOUT_CHANCE))

    assert last(tmp_path)["sampler"] == last(output)["sampler"]
    assert close(tmp_path, output)


def test_the_first_process_speaks(pair: tuple[Path, Ran]):
    """The log's lines and the result come once."""
    _, ran = pair

    assert 1 == ran.err.count("Using valid local SSD cache")
    assert 1 == ran.out.count("best on dev")


def test_two_processes_go_on_exactly(cache: Path, pair: tuple[Path, Ran], tmp_path: Path):
    """A signal to one process stops both with a checkpoint; both go on to the bits of the unbroken run."""
    output, _ = pair
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path, **WITHOUT_CHANCE))
    stopped = torchrun(2, config, module="tests.support.killtrain", first=("5", "TERM"))
    assert 0 != stopped.code
    assert 5 == last(tmp_path)["step"], stopped.err
    assert 75 == record(tmp_path)["ended"]["status"]  # which torchrun does not tell
    assert 1 == stopped.err.count("stopped in time: status 75, of which torchrun makes 1")

    assert 0 == torchrun(2, config).code
    check_same(output, tmp_path)


def test_one_goes_on_where_two_stopped(cache: Path, pair: tuple[Path, Ran], tmp_path: Path):
    """With another number of processes a run goes on with the same windows in the same order."""
    output, _ = pair
    config = config_of(cache, tmp_path, **WITHOUT_CHANCE)
    run(config, stop_at=4)
    assert 0 == torchrun(2, write_config(tmp_path / "c.yaml", config)).code

    assert last(output)["sampler"] == last(tmp_path)["sampler"]
    assert close(output, tmp_path)


def test_a_process_that_ends_ends_all(cache: Path, tmp_path: Path):
    """When one process is killed, the others end soon, with an error."""
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path, loop={"steps": 10_000}))
    ran = torchrun(2, config, module="tests.support.killtrain", first=("2", "KILL"))

    assert 0 != ran.code
    assert "rank 1 of 2 lost the others" in ran.err


def test_all_are_refused_while_the_run_is_under_way(cache: Path, tmp_path: Path):
    """When another process has the run's lock, each process ends with that reason: none waits for the first."""
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path))
    place = ssd.Target(tmp_path / "runs" / "tiny", Durability("none"))
    ssd.prepare(place)
    with locked(place):
        ran = torchrun(2, config)

    assert 0 != ran.code
    assert "the run tiny is under way" in ran.err
    assert "lost the others" not in ran.err
    assert not (tmp_path / "checkpoints" / "tiny").exists()


def test_what_the_first_fails_at_fails_in_all(monkeypatch: pytest.MonkeyPatch):
    """The error of what one process does for all is every process's error; its result is every process's result."""
    said: list[Any] = []
    monkeypatch.setattr(World, "first", lambda self, value: said.append(value) or said[0])
    with pytest.raises(UsageError, match="odd"):
        World(0, 2).led(lambda: _fail("odd"))
    with pytest.raises(UsageError, match="odd"):
        World(1, 2).led(lambda: _fail("never called"))

    said[:] = []
    assert [7, 7] == [World(0, 2).led(lambda: 7), World(1, 2).led(lambda: 8)]


def _fail(message: str) -> None:
    raise UsageError(message, hint="")


def test_a_batch_that_cannot_be_split_is_refused(cache: Path, tmp_path: Path):
    """A batch that the number of processes does not divide ends the start."""
    from tusz_train.config import Config
    from tusz_train.run import _sampler

    config = Config.model_validate(config_of(cache, tmp_path))
    with pytest.raises(UsageError, match="split evenly"):
        _sampler(config, _Set(), World(0, 3))


class _Set:
    manifest: Any = None


def test_a_wrong_launch_is_told():
    """What torchrun would never say is a usage error."""
    with pytest.raises(UsageError), joined({"RANK": "first", "WORLD_SIZE": "2"}):
        pass


def test_alone_nothing_is_asked():
    """A single process needs no group: it agrees with itself."""
    with joined({}) as world:
        value = torch.ones(2)
        assert (1, True) == (world.size, world.is_first)
        assert ((True, False), ["x"], "x") == (world.any(True, False), world.gather("x"), world.first("x"))
        assert world.mean(value) is value


def test_a_stop_while_staging_ends_all(cache: Path, tmp_path: Path):
    """All processes wait for the copy, which the log says; a stop ends them all with 75, and the copy goes on later."""
    pack_cache(cache, tmp_path / "store")
    data = {"store_dir": str(tmp_path / "store"), "stage_to": str(tmp_path / "staged")}
    config = write_config(tmp_path / "c.yaml", config_of(cache, tmp_path, loop={"steps": 2}, data=data))
    ran = torchrun(2, config, first=("train", "--max-seconds", "0"))
    assert 0 != ran.code
    assert 2 == len(re.findall(r"exitcode *: 75 ", ran.err)), ran.err
    assert "the other processes wait for at most 24 h" in ran.err
    assert not (tmp_path / "staged" / ".tusz_cache" / "seal.json").exists()

    ran = torchrun(2, config)
    assert 0 == ran.code, ran.err
    assert f"Staged to {tmp_path / 'staged'}" in ran.err


LATE = """
import os, sys, time
from datetime import timedelta
import torch
from tusz_train import distributed as ours

def main(rank, path):
    join = torch.distributed.init_process_group
    ours.distributed.init_process_group = lambda backend: join(
        backend, init_method=f"file://{path}", rank=rank, world_size=2)
    with ours.joined({"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}) as world:
        torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=1))  # of steps
        if rank == 0:
            time.sleep(3)
        said = world.any(rank == 0, patiently=True)
    print(said, flush=True)

pid = os.fork()
main(1 if pid else 0, sys.argv[1])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0)
"""


def test_a_copy_may_take_longer_than_a_step(tmp_path: Path):
    """Where one process copies for longer than steps may take, the others wait for it, in a group of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", LATE, str(tmp_path / "store")],
        cwd=Path(__file__).parents[2],
        env=environment({"OMP_NUM_THREADS": "1"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == ran.returncode, ran.stderr
    assert 2 == ran.stdout.count("(True,)")


def test_shared_norms_are_batch_norms(tmp_path: Path):
    """The norm over all processes is torch's own where there is one: outputs, gradients, statistics, names."""
    torch.manual_seed(1)
    x = torch.randn(3, 4, 5) * 3 + 7
    norms = [torch.nn.Sequential(torch.nn.BatchNorm1d(4, eps=1e-3)) for _ in range(2)]
    share_norms(norms[1])
    assert isinstance(norms[1][0], GlobalBatchNorm)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        found = []
        for norm in norms:
            given = x.clone().requires_grad_()
            out = norm(given)
            (out * torch.arange(5.0)).square().sum().backward()
            found.append([out, given.grad, *(p.grad for p in norm.parameters()), *norm.state_dict().values()])
    finally:
        torch.distributed.destroy_process_group()

    assert norms[0].state_dict().keys() == norms[1].state_dict().keys()
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
