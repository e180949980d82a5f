"""How a training starts: what it reads, what it refuses, what its log says."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.caches import seal_cache
from tests.support.training import config_of, metrics, steps, train, training_cache, write_config
from tests.support.training import run_here as run
from tusz_cache import CacheRefused, DeclaredMount, UsageError, pack_cache
from tusz_cache.errors import TargetError
from tusz_cache.guarding import guard as guarding
from tusz_cache.progress import Progress
from tusz_train import admission, sinks
from tusz_train.errors import ConfigError, Diverged

BRIEF = {"loop": {"steps": 1}, "validation": {"every_steps": 9, "thresholds": [0.5]}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_cache(tmp_path_factory.mktemp("start") / "cache")


@pytest.fixture(scope="module")
def store(cache: Path) -> Path:
    pack_cache(cache, cache.parent / "store")
    return cache.parent / "store"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run in this process says."""
    lines: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda _self, text: lines.extend(text.splitlines()))
    return lines


def brief(cache: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return config_of(cache, output, **(BRIEF | changes))


# the command


def test_a_start_says_what_it_does(cache: Path, tmp_path: Path):
    """The log has the configuration, the verdict, the file limit and the line about the cache, alone (failure 6)."""
    changes = {"run": {"smoke": True}, "data": {"balance": None}}
    ran = train(write_config(tmp_path / "c.yaml", brief(cache, tmp_path, **changes)), env={"BGB_LIMIT_FILES": "4"})
    assert 0 == ran.code, ran.err

    lines = ran.err.splitlines()
    assert "Using valid local SSD cache" in lines
    assert "file limit: 4 train, 1 dev (BGB_LIMIT_FILES=4)" in lines
    assert any(line.startswith(f"ADMITTED: {cache} ") for line in lines)
    assert any(line.startswith("verdict ") and "ACCEPT_" in line for line in lines)
    assert "  batch_size: 4" in lines
    record = json.loads((tmp_path / "runs" / "tiny" / "run.json").read_text())
    assert {"train": 4, "dev": 1} == record["file_limit"]
    assert True is record["verdict"]["admitted"]
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [("cache", 2, "there is nothing at"), ("seal", 5, "REFUSE_NO_SEAL")],
    ids=["missing: failure 5", "without a seal"],
)
def test_a_start_is_refused(tmp_path: Path, broken: str, code: int, words: str):
    """Without a whole cache the command ends with its exit status, the path, the reason and a hint: it builds none."""
    place = tmp_path / "cache"
    if broken == "seal":
        training_cache(place)
        (place / ".tusz_cache" / "seal.json").unlink()
    ran = train(write_config(tmp_path / "c.yaml", brief(place, tmp_path / "out")))

    assert code == ran.code, ran.err
    assert words in ran.err
    assert str(place) in ran.err
    assert "hint:" in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()


# what is read


def test_nothing_is_read_that_was_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
):
    """A declared bucket mount is refused with the whole verdict, and no file of it is opened."""
    opened: list[str] = []
    audit = {"on": True}

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if audit["on"] and event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".npz"):
            opened.append(arguments[0])

    sys.addaudithook(note)
    mounts = [DeclaredMount(str(cache), "bucket", "somewhere")]
    with pytest.raises(CacheRefused):
        run(brief(cache, tmp_path), declared=mounts)
    audit["on"] = False

    assert [] == opened
    assert any(line.startswith("verdict") and "REFUSE_OBJECT_STORE" in line for line in said)
    assert not tmp_path.joinpath("checkpoints").exists()


def test_counts_that_were_expected_must_be_there(cache: Path, tmp_path: Path):
    """A cache with other numbers of recordings than `data.expected_files` is refused."""
    run(brief(cache, tmp_path, data={"expected_files": {"train": 6, "dev": 2}}))
    with pytest.raises(CacheRefused):
        run(brief(cache, tmp_path, data={"expected_files": {"train": 4667, "dev": 1832}}))


def test_a_modal_volume_has_its_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]):
    """On a declared volume the log has exactly the line that the users look for."""
    from dataclasses import replace

    from tusz_cache.guarding.values import Ruling

    admit = guarding.CacheGuard.admit

    def declared(self: Any, path: Any) -> Any:
        admitted = admit(self, path)
        admitted.verdict = replace(admitted.verdict, ruling=Ruling.ACCEPT_DECLARED)
        return admitted

    monkeypatch.setattr(guarding.CacheGuard, "admit", declared)
    run(brief(cache, tmp_path))

    assert 1 == said.count("Using valid Modal SSD cache")
    assert 0 == said.count("Using valid local SSD cache")


def test_the_store_is_staged_and_read_from_there(
    cache: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
):
    """With `data.stage_to` the store is copied, the copy admitted and read, and the result is that of the cache."""
    read: list[Path] = []
    open_datasets = admission.open_store
    from tusz_train import run as running

    kept = running.open_datasets
    monkeypatch.setattr(running, "open_datasets", lambda root, **how: (read.append(root.root), kept(root, **how))[1])
    staged = tmp_path / "staged"
    data = {"store_dir": str(store), "stage_to": str(staged)}
    run(config_of(cache, tmp_path / "staging", data=data))
    run(config_of(cache, tmp_path / "plain"))

    assert [staged, cache] == read
    assert f"Staged to {staged}" in said
    assert said.index("Using valid local SSD cache") < said.index(f"Staged to {staged}")
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "staging")
    assert open_datasets is admission.open_store


def test_a_store_of_another_cache_is_refused(store: Path, tmp_path: Path):
    """A packed store is read for the cache that it was packed from alone."""
    other = training_cache(tmp_path / "other", seed=50)
    with pytest.raises(UsageError, match="was not packed from"):
        run(brief(other, tmp_path, data={"store_dir": str(store)}))
    with pytest.raises(UsageError, match="no packed store"):
        run(brief(other, tmp_path, data={"store_dir": str(seal_cache(training_cache(tmp_path / "b")))}))
    with pytest.raises(TargetError, match="there is nothing at"):
        run(brief(other, tmp_path, data={"store_dir": str(tmp_path / "nowhere")}))


def test_the_cache_is_not_written_to(cache: Path, tmp_path: Path):
    """A smoke run of few files leaves the cache as it was: no index, no manifest, no metadata (failures 9, 10)."""
    before = sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*"))
    changes = {"run": {"smoke": True}}
    run(brief(cache, tmp_path, **changes), environment={"BGB_LIMIT_FILES": "5"})

    assert before == sorted((path, path.stat().st_mtime_ns) for path in cache.rglob("*"))


def test_the_environment_is_read_when_a_run_starts(cache: Path, tmp_path: Path):
    """Settings are read once a run, not at import: two runs of one process differ as they should (failures 6, 20)."""
    config = brief(cache, tmp_path, run={"smoke": True})
    run(config, environment={"BGB_LIMIT_FILES": "5"})
    record = json.loads((tmp_path / "runs" / "tiny" / "run.json").read_text())
    run(brief(cache, tmp_path / "other", run={"smoke": True}))
    other = json.loads((tmp_path / "other" / "runs" / "tiny" / "run.json").read_text())

    assert ({"train": 5, "dev": 1}, None) == (record["file_limit"], other["file_limit"])


@pytest.mark.parametrize("name", ["smoke", "train"])
def test_a_name_does_not_make_a_run_a_smoke_run(cache: Path, tmp_path: Path, name: str):
    """Whether a run is a smoke run is said by `run.smoke` alone (failure 8)."""
    with pytest.raises(ConfigError, match="no smoke run"):
        run(brief(cache, tmp_path, run={"name": name}), environment={"BGB_LIMIT_FILES": "5"})


# logs


def test_wandb_that_is_optional_is_missed_aloud(cache: Path, tmp_path: Path, monkeypatch: Any, said: list[str]):
    """Without the package, `optional` goes on and says so (failure 16)."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(brief(cache, tmp_path, logging={"wandb": "optional", "wandb_project": "p"}))

    assert ["warning: going on without W&B: wandb is not installed"] == [line[:53] for line in said if "W&B" in line]


class FakeWandb:
    """What of W&B is used, without a network."""

    class Error(Exception):
        """Base of its errors."""

    class api:  # noqa: N801 - its name there
        api_key: str | None = None

    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.lines: list[tuple[int, dict[str, Any]]] = []
        self.fails = False

    def init(self, **how: Any) -> "FakeWandb":
        if self.fails:
            raise self.Error("no entity")
        self.inits.append(how)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.lines.append((step, values))

    def finish(self) -> None:
        self.lines.append((-1, {}))


def test_wandb_gets_every_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """W&B gets what metrics.jsonl gets, under no account but the key's own, and the same run when training goes on."""
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_API_KEY", "k")
    config = config_of(cache, tmp_path, loop={"steps": 2}, logging={"wandb": "required", "wandb_project": "p"})
    run(config, stop_at=1)
    run(config)

    assert [1, -1, 2, 2, -1] == [step for step, _ in fake.lines]
    first, second = fake.inits
    assert (first["id"], None, "p") == (second["id"], second["entity"], second["project"])


@pytest.mark.parametrize("how", ["no key", "no start"])
def test_wandb_that_is_required_must_start(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    """Without a key, or where W&B refuses, `required` ends before the first step."""
    fake = FakeWandb()
    fake.fails = how == "no start"
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "k" if fake.fails else "")

    nowhere = cache if fake.fails else tmp_path / "nowhere"  # a missing key is told before anything is looked at
    with pytest.raises(ConfigError, match="wandb"):
        run(brief(nowhere, tmp_path, logging={"wandb": "required", "wandb_project": "p"}))
    assert [] == list(tmp_path.rglob("step-*"))


def test_tensorboard_has_files(cache: Path, tmp_path: Path):
    """TensorBoard's files lie in the folder of the run."""
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    run(brief(cache, tmp_path, logging={"tensorboard": True}))

    assert 1 == len(list((tmp_path / "tensorboard" / "tiny").glob("events.out.tfevents.*")))


def test_what_a_checkpoint_does_not_know_is_cut_off():
    """Of metrics a run keeps whole lines up to the checkpoint's steps, of training and validation each."""
    lines = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}, {"step": 2, "dev_f1": 0.5}, {"step": 3, "loss": 1.0}]
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def kept(trained: int, judged: int, text: bytes = text) -> int:
        return text[: sinks.kept_bytes(text, trained, judged)].count(b"\n")

    assert (4, 3, 2, 1, 0) == (kept(3, 2), kept(2, 2), kept(2, 0), kept(1, 0), kept(0, 0))
    assert 3 == kept(3, 2, text[:-1])
    first = text.index(b"\n") + 1
    assert (0, 1) == (kept(9, 9, text[:20] + b"torn\n" + text), kept(9, 9, text[: first + 5] + b"torn\n" + text))


# steps that are not finite


def test_steps_that_are_not_finite_are_skipped(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step without finite loss changes no weight nor statistic, is counted, and too many in a row end the run."""
    from tusz_train import loop

    weights: list[dict[str, Any]] = []
    varied = loop._varied

    def poisoned(now: Any, x: Any, y: Any) -> Any:
        weights.append({name: value.clone() for name, value in now.model.state_dict().items()})
        x, y = varied(now, x, y)
        return (x * float("nan"), y) if now.state.step in {1, 2} else (x, y)

    monkeypatch.setattr(loop, "_varied", poisoned)
    report = run(config_of(cache, tmp_path, loop={"steps": 5, "max_nonfinite_steps": 2}))
    assert (5, 2) == (report.steps, report.skipped)
    same = [all(torch.equal(one[k], other[k]) for k in one) for one, other in itertools.pairwise(weights)]
    assert [False, True, True, False] == same
    assert [None, None] == [line["loss"] for line in metrics(tmp_path)[1:3]]

    with pytest.raises(Diverged, match="2 steps in a row"):
        run(config_of(cache, tmp_path / "b", loop={"steps": 5, "max_nonfinite_steps": 1}))


def test_the_forward_pass_may_be_bf16(cache: Path, tmp_path: Path):
    """In bf16 the steps are near those in float32, and not the same: weights and loss stay float32."""
    runs = {amp: tmp_path / amp for amp in ("off", "bf16")}
    for amp, output in runs.items():
        run(config_of(cache, output, loop={"steps": 2, "amp": amp}))
    losses = {amp: [line["loss"] for line in metrics(output) if "loss" in line] for amp, output in runs.items()}

    assert losses["off"] != losses["bf16"]
    assert losses["off"] == pytest.approx(losses["bf16"], rel=0.05)


def test_patience_ends_a_run(cache: Path, tmp_path: Path):
    """A run ends when validations have not been better for as many times as `patience` says; the best one is kept."""
    changes = {"loop": {"steps": 50}, "validation": {"every_steps": 1, "patience": 3, "thresholds": [0.999]}}
    report = run(config_of(cache, tmp_path, **changes))

    assert (4, 1, 0.0) == (report.steps, report.best_step, report.best_metric)
    assert {1, 4} <= set(steps(tmp_path))
