"""A run that was cut goes on to what it would have been: weights, optimiser, order, metrics, bit for bit."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.caches import seal_cache
from tests.support.recordings import name_of, recording, write_split
from tests.support.training import config_of, killed, metrics, steps, train, training_cache, write_config
from tests.support.training import run_here as run
from tusz_cache import CacheError, Durability, UsageError
from tusz_train import checkpoint
from tusz_train.errors import BadCheckpoint, OtherRun
from tusz_train.resuming import Resume

WHOLE = {"step", "state", "model", "average", "optimizer", "sampler", "chance", "threshold", "metric", "epoch"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_cache(tmp_path_factory.mktemp("resume") / "cache")


@pytest.fixture(scope="module")
def unbroken(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run that nothing cut."""
    output = tmp_path_factory.mktemp("unbroken")
    assert run(config_of(cache, output)).is_over
    return output


def last(output: Path) -> dict[str, Any]:
    path = checkpoint.newest(output / "checkpoints" / "tiny", print)
    assert path is not None
    content = checkpoint.load(path)
    return {name: content[name] for name in WHOLE}


def patients(output: Path) -> dict[str, list[str]]:
    """Return the patients that the newest checkpoint names."""
    path = checkpoint.newest(output / "checkpoints" / "tiny", print)
    assert path is not None
    found: dict[str, list[str]] = checkpoint.load(path)["patients"]
    return found


def differing(one: Any, other: Any, where: str = "") -> list[str]:
    """Return where two values differ in kind or bits."""
    if type(one) is not type(other):
        return [where]
    if isinstance(one, dict):
        found = [] if one.keys() == other.keys() else [where]
        return found + [
            bad for key in one.keys() & other.keys() for bad in differing(one[key], other[key], f"{where}.{key}")
        ]
    if isinstance(one, list | tuple):
        found = [] if len(one) == len(other) else [where]
        return found + [
            bad for i, pair in enumerate(zip(one, other, strict=False)) for bad in differing(*pair, f"{where}.{i}")
        ]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and np.array_equal(one.numpy(), other.numpy()) else [where]
    return [] if one == other else [where]


def check_same(unbroken: Path, output: Path) -> None:
    assert [] == differing(last(unbroken), last(output))
    assert metrics(unbroken) == metrics(output)


@pytest.mark.parametrize("stops", [(1,), (7,), (4,), (2, 3, 8)])
def test_a_stopped_run_goes_on_exactly(cache: Path, unbroken: Path, tmp_path: Path, stops: tuple[int, ...]):
    """Stopped behind any steps, also at a validation's, a run ends with the bits of the unbroken one."""
    config = config_of(cache, tmp_path)
    for step in stops:
        report = run(config, stop_at=step)
        assert (75, step) == (report.exit_code, report.steps)

    assert 0 == run(config).exit_code
    check_same(unbroken, tmp_path)


@pytest.mark.parametrize("step", [1, 7])
def test_a_killed_run_goes_on_exactly(cache: Path, unbroken: Path, tmp_path: Path, step: int):
    """Killed by SIGKILL in the middle, a run goes on from its last checkpoint, and repeats no line of its metrics."""
    config = write_config(tmp_path / "config.yaml", config_of(cache, tmp_path))
    assert -9 == killed(config, step, "KILL").code

    done = train(config)
    assert 0 == done.code, done.err
    check_same(unbroken, tmp_path)


def test_a_signal_stops_in_time(cache: Path, tmp_path: Path):
    """SIGTERM leaves a checkpoint of that step and exit status 75."""
    config = write_config(tmp_path / "config.yaml", config_of(cache, tmp_path))
    stopped = killed(config, 2, "TERM")

    assert 75 == stopped.code, stopped.err
    assert [2] == steps(tmp_path)


def test_time_that_is_up_stops_in_time(cache: Path, tmp_path: Path):
    """--max-seconds ends with exit status 75 and a checkpoint, and says how to go on (failure 12)."""
    config = write_config(tmp_path / "config.yaml", config_of(cache, tmp_path))
    stopped = train(config, "--max-seconds", 0)

    assert 75 == stopped.code, stopped.err
    assert [0] == steps(tmp_path)
    assert "run it again with --resume auto" in stopped.out


@pytest.mark.parametrize("accumulation", [2, 3])
def test_accumulation_goes_on_exactly(cache: Path, tmp_path: Path, accumulation: int):
    """A step of several batches, which may belong to two epochs, goes on exactly too."""
    loop = {"steps": 5, "accumulation": accumulation}
    run(config_of(cache, tmp_path / "whole", loop=loop))
    run(config_of(cache, tmp_path / "cut", loop=loop), stop_at=2)
    run(config_of(cache, tmp_path / "cut", loop=loop))

    check_same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_is_over_stays_so(cache: Path, unbroken: Path):
    """Started again, a run that is over trains no more and changes no metrics."""
    before, there = metrics(unbroken), last(unbroken)
    report = run(config_of(cache, unbroken))

    assert (0, 9) == (report.exit_code, report.steps)
    assert before == metrics(unbroken)
    assert [] == differing(there, last(unbroken))


def test_a_torn_checkpoint_is_passed_over(cache: Path, unbroken: Path, tmp_path: Path):
    """Torn, unfinished and unreadable checkpoints are passed over with a warning; the run goes on from a whole one."""
    config = config_of(cache, tmp_path)
    run(config, stop_at=8)
    folder = tmp_path / "checkpoints" / "tiny"
    newest = folder / "step-00000008.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    (folder / "step-00000099.pt").write_bytes(b"begun")
    (folder / "step-00000098.json").write_text("{")

    said: list[str] = []
    assert folder / "step-00000006.pt" == checkpoint.newest(folder, said.append)
    assert 3 == len([line for line in said if line.startswith("warning")])
    with pytest.raises(BadCheckpoint):
        checkpoint.load(newest)

    run(config)
    check_same(unbroken, tmp_path)


def test_the_newest_is_the_one_of_the_highest_step(tmp_path: Path):
    """Neither names nor times of files decide which checkpoint is the newest, nor how many digits a step has."""
    for step in (999_999_999, 3, 1_000_000_000):
        checkpoint.save(tmp_path, {"step": step, "metric": None, "threshold": None}, Durability("none"))

    assert [3, 999_999_999, 1_000_000_000] == [record.step for record in checkpoint.records(tmp_path)]
    found = checkpoint.newest(tmp_path, print)
    assert found is not None
    assert 1_000_000_000 == checkpoint.load(found)["step"]


def test_the_last_and_the_best_are_kept():
    """Of checkpoints the last ones stay, and the one of the highest metric, of equals the first."""
    made = [checkpoint.Record("f", step, 1, "", metric, None) for step, metric in enumerate([0.1, 0.8, None, 0.8, 0.2])]

    assert {1, 3, 4} == checkpoint.to_keep(made, 2)
    assert {4, 1} == checkpoint.to_keep(made, 1)
    assert set() == checkpoint.to_keep([], 3)


def test_a_checkpoint_holds_no_code(cache: Path, unbroken: Path):
    """A checkpoint is read as names, numbers and tensors alone, and says what it is of."""
    path = checkpoint.newest(unbroken / "checkpoints" / "tiny", print)
    content = torch.load(path, weights_only=True)

    own = {"config", "training_hash", "cache", "file_limit", "patients", "since", "versions"}
    assert WHOLE | own == content.keys()
    assert content["cache"]["manifest_sha256"]


def test_publishing_commits_where_the_policy_says(tmp_path: Path):
    """With durability `commit`, what was published is committed, and not before it is there."""
    seen: list[list[str]] = []
    durability = Durability("commit", commit=lambda: seen.append(sorted(path.name for path in tmp_path.iterdir())))
    checkpoint.save(tmp_path, {"step": 1, "metric": 0.5, "threshold": 0.3}, durability)

    assert [["step-00000001.json", "step-00000001.pt"]] == seen


# what may not go on


def test_another_configuration_does_not_go_on(cache: Path, tmp_path: Path):
    """A run refuses to go on under another configuration, names the keys, and goes on if told to."""
    run(config_of(cache, tmp_path), stop_at=2)
    changed = config_of(cache, tmp_path, optimizer={"lr": 1e-3}, loop={"steps": 4})

    with pytest.raises(OtherRun, match=r"optimizer\.lr, loop\.steps"):
        run(changed)
    folder = str(tmp_path / "checkpoints" / "tiny")
    with pytest.raises(OtherRun):
        run(changed, resume=Resume(folder))
    assert 4 == run(changed, resume=Resume(folder, allow_changes=True)).steps


def test_only_what_counts_is_named(cache: Path, tmp_path: Path):
    """Names, places and checkpoints may differ, so they are not named as what keeps a run from going on."""
    run(config_of(cache, tmp_path), stop_at=2)
    changes: dict[str, Any] = {"run": {"name": "other"}, "checkpoint": {"keep_last": 1}, "optimizer": {"lr": 1e-3}}
    changes["data"] = {"expected_files": {"train": 6, "dev": 2}}

    with pytest.raises(OtherRun, match=r"is of another configuration: optimizer\.lr$"):
        run(config_of(cache, tmp_path, **changes), resume=Resume(str(tmp_path / "checkpoints" / "tiny")))


def test_a_checkpoint_must_be_named():
    """An empty --resume, as of a variable that is unset, is not the current folder."""
    with pytest.raises(UsageError, match="--resume names nothing"):
        Resume("")


def test_another_cache_does_not_go_on(cache: Path, tmp_path: Path):
    """A run refuses to go on with another cache of the same shape."""
    other = training_cache(tmp_path / "other", seed=100)
    run(config_of(cache, tmp_path), stop_at=2)

    with pytest.raises(OtherRun, match="another cache"):
        run(config_of(other, tmp_path))


def test_patients_of_both_caches_are_known(cache: Path, tmp_path: Path):
    """A run that went on with another cache has seen the patients of both, and its checkpoints say so."""
    run(config_of(cache, tmp_path), stop_at=2)
    before = patients(tmp_path)
    other = tmp_path / "other"
    write_split(other, "train", {name_of(number): recording(2, seed=number) for number in range(20, 26)})
    write_split(other, "dev", {name_of(30): recording(2, seed=30)})
    folder = tmp_path / "checkpoints" / "tiny"
    run(config_of(seal_cache(other), tmp_path), stop_at=3, resume=Resume(str(folder), allow_changes=True))

    assert {"train": ["aa", "ab", "ac", "ad", "ae", "af"], "dev": ["ag", "ah"]} == before
    assert {"train": 12, "dev": 3} == {split: len(seen) for split, seen in patients(tmp_path).items()}


@pytest.mark.parametrize("limit", ["6", "4"])
def test_another_file_limit_does_not_go_on(cache: Path, tmp_path: Path, limit: str):
    """With other files, also if they are dev's alone, the run refuses to go on, and says how to; it does if told to."""
    config = config_of(cache, tmp_path, run={"smoke": True})
    run(config, stop_at=4, environment={"BGB_LIMIT_FILES": "5"} if limit == "4" else {})

    with pytest.raises(OtherRun, match="and this start would take") as raised:
        run(config, environment={"BGB_LIMIT_FILES": limit})
    assert "BGB_LIMIT_FILES" in raised.value.hint
    resume = Resume(str(tmp_path / "checkpoints" / "tiny"), allow_changes=True)
    assert 6 == run(config, resume=resume, stop_at=6, environment={"BGB_LIMIT_FILES": limit}).steps
    assert 9 == run(config, environment={"BGB_LIMIT_FILES": limit}).steps


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_where_things_lie_may_change(cache: Path, unbroken: Path, tmp_path: Path, mode: str):
    """Another path of the cache, number of workers or interval of checkpoints changes no bit of the result."""
    run(config_of(cache, tmp_path), stop_at=5)
    moved = tmp_path / "moved"
    moved.symlink_to(cache)
    run(config_of(moved, tmp_path, data={"workers": 2, "worker_mode": mode}, checkpoint={"every_steps": 1}))

    check_same(unbroken, tmp_path)


def test_beginning_anew_sets_aside(cache: Path, tmp_path: Path):
    """--resume never begins at step 1, and deletes nothing of the earlier run of its name (failure 10)."""
    run(config_of(cache, tmp_path), stop_at=3)
    run(config_of(cache, tmp_path), stop_at=1, resume=Resume("never"))

    assert [1] == steps(tmp_path)
    assert [1, 2, 3] == [line["step"] for line in metrics(tmp_path, "tiny.before-1")]
    assert 3 in steps(tmp_path, "tiny.before-1")


def test_going_back_leaves_no_later_checkpoint(cache: Path, unbroken: Path, tmp_path: Path):
    """From an earlier checkpoint the run goes another way: later ones are withdrawn, metrics are not repeated."""
    config = config_of(cache, tmp_path, checkpoint={"keep_last": 9})
    run(config, stop_at=8)
    report = run(config, resume=Resume(str(tmp_path / "checkpoints" / "tiny" / "step-00000003.pt")), stop_at=5)

    assert (5, True) == (report.steps, 8 not in steps(tmp_path))
    aside = tmp_path / "checkpoints" / "tiny.before-1"
    assert [4, 6, 8] == steps(tmp_path, "tiny.before-1")
    assert 8 == checkpoint.load(aside / "step-00000008.pt")["step"]
    assert not (tmp_path / "checkpoints" / "tiny" / "step-00000008.pt").exists()
    assert [1, 2, 3, 4, 4, 5] == [line["step"] for line in metrics(tmp_path)]
    run(config)
    check_same(unbroken, tmp_path)


def test_beginning_anew_waits_until_the_start_works(cache: Path, tmp_path: Path):
    """A start that fails before its first step sets nothing aside."""
    run(config_of(cache, tmp_path), stop_at=2)
    for data in ({"batch_size": 5000}, {"cache_dir": str(tmp_path / "nowhere")}):
        with pytest.raises(CacheError):
            run(config_of(cache, tmp_path, data=data), resume=Resume("never"))

    assert [2] == steps(tmp_path)
    assert not list(tmp_path.glob("*/tiny.before-*"))


# histories


def test_a_checkpoint_of_another_run_begins_a_history(cache: Path, tmp_path: Path):
    """What was best in another run is not best in this one: weights and steps go on, best and patience begin anew."""
    judged = {"every_steps": 2, "patience": 1, "thresholds": [0.999]}  # nothing is found: none is better than the first
    other = run(config_of(cache, tmp_path / "other", validation=judged))
    assert (4, 2, True) == (other.steps, other.best_step, other.is_over)
    run(config_of(cache, tmp_path), stop_at=1)
    resume = Resume(str(tmp_path / "other" / "checkpoints" / "tiny" / "step-00000004.pt"))
    report = run(config_of(cache, tmp_path, validation=judged), resume=resume)

    assert (6, 4) == (report.steps, report.best_step)
    assert [4, 1] == [last(tmp_path)["state"][name] for name in ("since", "worse_in_row")]
    assert [4, 5, 6, 6] == [line["step"] for line in metrics(tmp_path)]
    assert [1] == [line["step"] for line in metrics(tmp_path, "tiny.before-1")]


def test_a_changed_configuration_begins_a_history(cache: Path, tmp_path: Path):
    """A run that ended for want of patience trains on when told to under changes; its metrics and its best one stay."""
    judged = {"every_steps": 1, "patience": 2, "thresholds": [0.999]}  # nothing is found: none is better than the first
    config = config_of(cache, tmp_path, loop={"steps": 50}, validation=judged)
    assert (3, True) == (run(config).steps, run(config).is_over)
    lines = metrics(tmp_path)
    changed = config_of(cache, tmp_path, loop={"steps": 50}, validation=judged, optimizer={"lr": 1e-3})
    folder = tmp_path / "checkpoints" / "tiny"
    run(changed, resume=Resume(str(folder / "step-00000003.pt"), allow_changes=True), stop_at=4)

    report = run(changed)
    assert report.best_step is not None
    assert 3 <= report.best_step < report.steps
    assert lines == metrics(tmp_path)[: len(lines)]
    assert report.best_step == checkpoint.best(checkpoint.records(folder)).step
    assert 1 in steps(tmp_path)


def test_the_best_of_each_history_is_kept():
    """Metrics of several histories do not compare: the best is that of the last one, and of each one is kept."""
    made = [checkpoint.Record("f", step, 1, "", m, None, since=s) for step, (m, s) in enumerate(HISTORIES)]

    assert {0, 4, 5} == checkpoint.to_keep(made, 1)
    assert made[4] == checkpoint.best(made)


HISTORIES = [(0.9, 0), (0.8, 0), (0.7, 0), (0.1, 3), (0.3, 3), (0.2, 3)]


# what may be torn


def cut(count: int) -> Any:
    """Return what stands in for functions that change files: the one of number `count` ends the process instead."""
    left = [count]

    def wrap(function: Any) -> Any:
        def called(*arguments: Any, **how: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return function(*arguments, **how)

        return called

    return wrap


@pytest.mark.parametrize("count", range(4))
def test_a_step_that_is_written_again_is_there_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    """Killed at any moment while a step is written again, the older or the newer of its checkpoints is whole."""
    policy = Durability("none")
    content = {"step": 6, "metric": None, "threshold": None}
    for number in range(2):
        checkpoint.save(tmp_path, content | {"number": number}, policy)
    checkpoint.prune(tmp_path, 3, policy)
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        wrap = cut(count)
        for name in ("write_file", "remove"):
            patched.setattr(checkpoint.ssd, name, wrap(getattr(checkpoint.ssd, name)))
        checkpoint.save(tmp_path, content | {"number": 2}, policy)

    path = checkpoint.newest(tmp_path, print)
    assert path is not None
    assert (2 if count >= 2 else 1) == checkpoint.load(path)["number"]
    checkpoint.prune(tmp_path, 3, policy)
    assert 2 == len(list(tmp_path.iterdir()))


def failing(bad: Path) -> Any:
    """Return what stands in for Path.read_bytes on a disk that cannot read one file."""
    read = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self == bad:
            raise OSError(5, "Input/output error")
        return read(self)

    return read_bytes


def test_only_torn_ones_are_passed_over(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A checkpoint that cannot be read now, or is of another version, is an error: no earlier one takes its place."""
    config = config_of(cache, tmp_path)
    run(config, stop_at=4)
    folder = tmp_path / "checkpoints" / "tiny"
    newest, record = folder / "step-00000004.pt", folder / "step-00000004.json"
    for bad in (newest, record):
        with monkeypatch.context() as patched, pytest.raises(BadCheckpoint, match="Input/output error"):
            patched.setattr(Path, "read_bytes", failing(bad))
            run(config)
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"format": 99, "more": 1}))
    with pytest.raises(BadCheckpoint, match="format 99"):
        run(config)
    record.unlink()
    record.mkdir()
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        run(config)
    record.rmdir()

    assert [1, 2, 3, 4] == [line["step"] for line in metrics(tmp_path)]
    assert folder / "step-00000003.pt" == checkpoint.newest(folder, print)


def test_a_run_whose_checkpoints_are_all_torn_does_not_begin_anew(cache: Path, tmp_path: Path):
    """To begin at step 0 in silence would throw away what was trained: the run stops, and says how to begin anew."""
    config = config_of(cache, tmp_path)
    run(config, stop_at=2)
    for path in (tmp_path / "checkpoints" / "tiny").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(BadCheckpoint, match="none that is whole") as raised:
        run(config, stop_at=3)
    assert "--resume never" in raised.value.hint
