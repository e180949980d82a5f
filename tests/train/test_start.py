"""How a training starts: what it reads, what it refuses, what its log says."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import mounting
from tests.support.caches import seal_cache
from tests.support.recordings import name_of, recording, write_split
from tests.support.training import config_of, metrics, record, steps, train, training_cache, write_config
from tests.support.training import run_here as run
from tusz_cache import CacheError, CacheRefused, DeclaredMount, UsageError, pack_cache
from tusz_cache.errors import ForeignTarget, TargetError
from tusz_cache.guarding import guard as guarding
from tusz_cache.progress import Progress
from tusz_train import admission, sinks
from tusz_train.errors import ConfigError, Diverged
from tusz_train.resuming import Resume

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
    assert [] == [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


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
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("broken", ["out", "out/below", "kind", "own"])
def test_outputs_are_tried_before_anything_is_read(tmp_path: Path, said: list[str], broken: str):
    """An output folder that is a file, lies below one, or has one in its place ends the start before the guard looks.

    Such as after hours of staging it would only then be found.
    """
    out = tmp_path / "out" / "below" if broken == "out/below" else tmp_path / "out"
    bad = {"kind": out / "checkpoints", "own": out / "runs" / "tiny"}.get(broken, tmp_path / "out")
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.touch()
    with pytest.raises(TargetError, match=f"{bad} is in the way") as raised:
        run(brief(tmp_path / "nowhere", out))  # the guard would say that there is nothing

    assert "move it away" in raised.value.hint
    assert [] == [line for line in said if "ADMITTED" in line]


def test_outputs_that_cannot_be_written_end_the_command(cache: Path, tmp_path: Path):
    """The command ends with status 2, the folder and what to do, and no traceback."""
    (tmp_path / "out").touch()
    ran = train(write_config(tmp_path / "c.yaml", brief(cache, tmp_path / "out")))

    assert 2 == ran.code, ran.err
    assert f"error: {tmp_path / 'out'} is in the way" in ran.err
    assert "Traceback" not in ran.err


def test_a_first_start_leaves_nothing_to_set_aside(cache: Path, tmp_path: Path, said: list[str]):
    """That outputs were tried does not look like an earlier run."""
    run(brief(cache, tmp_path), resume=Resume("never"))

    assert [] == [line for line in said if "set aside" in line]


def test_counts_that_were_expected_must_be_there(cache: Path, tmp_path: Path):
    """A cache with other numbers of recordings than `data.expected_files` is refused."""
    run(brief(cache, tmp_path, data={"expected_files": {"train": 6, "dev": 2}}))
    with pytest.raises(CacheRefused):
        run(brief(cache, tmp_path, data={"expected_files": {"train": 4667, "dev": 1832}}))


@pytest.mark.parametrize("kind", ["volume", "ephemeral"])
def test_a_modal_volume_has_its_line(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], kind: str
):
    """On a declared volume the log has exactly the line that the users look for; a container's own disk is none."""
    from dataclasses import replace

    from tusz_cache.guarding.values import Ruling

    admit = guarding.CacheGuard.admit

    def declared(self: Any, path: Any) -> Any:
        admitted = admit(self, path)
        admitted.verdict = replace(admitted.verdict, ruling=Ruling.ACCEPT_DECLARED, declared_as=kind)
        return admitted

    monkeypatch.setattr(guarding.CacheGuard, "admit", declared)
    run(brief(cache, tmp_path))

    lines = ["Using valid Modal SSD cache", "Using valid local SSD cache"]
    assert [1, 0] == [said.count(line) for line in (lines if kind == "volume" else reversed(lines))]


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


@pytest.fixture
def halfway(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called behind the last step of the first epoch; fill it."""
    todo: list[Any] = []
    log = sinks.MetricsFile.log

    def logged(self: Any, step: int, values: Any) -> None:
        log(self, step, values)
        if todo and step == 1:
            todo.pop()()

    monkeypatch.setattr(sinks.MetricsFile, "log", logged)
    return todo


EPOCHS = {"loop": {"steps": None, "epochs": 3}, "data": {"batch_size": 8}}


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_each_epoch_looks_whether_the_cache_is_there(cache: Path, tmp_path: Path, halfway: list[Any], mode: str):
    """Another cache that takes the place of the admitted one is noticed when the next epoch begins."""
    place = Path(shutil.copytree(cache, tmp_path / "cache", symlinks=True))
    other = training_cache(tmp_path / "other", seed=70)

    def exchange() -> None:
        place.rename(tmp_path / "away")
        other.rename(place)

    halfway.append(exchange)
    changes = EPOCHS | {"data": {"batch_size": 8, "workers": 1, "worker_mode": mode}}
    with pytest.raises(CacheRefused, match="another cache lies there now"):
        run(brief(place, tmp_path, **changes))
    epochs = {line["epoch"] for line in metrics(tmp_path)}
    assert {0} == epochs


def test_a_bucket_over_the_cache_ends_the_run(cache: Path, tmp_path: Path, halfway: list[Any], said: list[str]):
    """A bucket that is mounted over the cache while an epoch runs ends the run before the next one, and is not read."""
    with mounting.private_mounts():
        here = mounting.mount("tmpfs", "tmpfs", tmp_path / "here", "size=64m")
        place = Path(shutil.copytree(cache, here / "cache", symlinks=True))
        served = Path(shutil.copytree(cache, here / "served", symlinks=True))
        with mounting.bucket(served, here / "bucket") as bucket:
            halfway.append(lambda: (mounting.bind(bucket.path, place), bucket.forget()))
            with pytest.raises(CacheRefused):
                run(brief(place, tmp_path / "out", **EPOCHS))
            assert set() == bucket.opened

    assert any("REFUSE_OBJECT_STORE" in line for line in said)
    assert {0} == {line["epoch"] for line in metrics(tmp_path / "out")}


def test_a_store_of_another_cache_is_refused(store: Path, tmp_path: Path):
    """A packed store is read for the cache that it was packed from alone."""
    other = training_cache(tmp_path / "other", seed=50)
    with pytest.raises(UsageError, match="was not packed from"):
        run(brief(other, tmp_path, data={"store_dir": str(store)}))
    with pytest.raises(UsageError, match="no packed store"):
        run(brief(other, tmp_path, data={"store_dir": str(seal_cache(training_cache(tmp_path / "b")))}))
    with pytest.raises(TargetError, match="there is nothing at"):
        run(brief(other, tmp_path, data={"store_dir": str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("manifest", [True, False], ids=["with a manifest", "only files"])
@pytest.mark.parametrize("other", ["windows", "names", "values"])
def test_a_store_of_another_cache_is_refused_without_a_seal(
    store: Path, tmp_path: Path, said: list[str], other: str, manifest: bool
):
    """Without a seal the manifest tells caches apart, else names and numbers of windows, and the log says so."""
    place = training_cache(tmp_path / "cache", seed=50)
    if other != "values":
        split = place / "train"
        old = split / name_of(0)
        if other == "names":
            old.rename(split / name_of(20))
        else:
            write_split(place, "train", {old.name: recording(5)})
        seal_cache(place)
    (place / ".tusz_cache" / "seal.json").unlink()
    if not manifest:
        (place / ".tusz_cache" / "manifest.jsonl").unlink()
    config = brief(place, tmp_path, data={"store_dir": str(store)}, guard={"seal": "ignore"})

    if other == "values" and not manifest:  # nothing there tells them apart
        run(config)
        assert (
            f"note: {place} has no seal and no manifest: of dev only the recordings' names and numbers of windows"
            in ("\n".join(said))
        )
        return
    with pytest.raises(UsageError, match="was not packed from"):
        run(config)


def test_a_store_of_the_cache_needs_no_seal(cache: Path, store: Path, tmp_path: Path, said: list[str]):
    """Where the seal is ignored and the manifest is there, the store of this very cache is taken, without a note."""
    run(brief(cache, tmp_path, data={"store_dir": str(store)}, guard={"seal": "ignore"}))

    assert [] == [line for line in said if line.startswith("note: ") and "no manifest" in line]


@pytest.mark.parametrize("how", ["signal", "late"])
def test_a_stop_while_staging_goes_on_later(
    cache: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], how: str
):
    """A signal or --max-seconds ends staging with status 75; the copy is not sealed, and the same command goes on."""
    staged = tmp_path / "staged"
    config = brief(cache, tmp_path / "out", data={"store_dir": str(store), "stage_to": str(staged)})
    advance = Progress.advance

    def stopping(self: Progress, received: int, files: int = 0) -> None:
        advance(self, received, files)
        if how == "signal":
            self.stop_signal = 15
        else:
            self.stop_at = 0.0  # as if the time had passed meanwhile

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stopping)
        report = run(config, max_seconds=3600.0 if how == "late" else None)
    assert (75, False, None) == (report.exit_code, report.is_over, report.steps)
    assert "before training began" in report.as_text()
    assert staged.exists()
    assert not (staged / ".tusz_cache" / "seal.json").exists()
    assert any("the copy goes on from there" in line for line in said)

    report = run(config)
    assert (0, 1) == (report.exit_code, report.steps)


def test_no_time_stages_nothing(cache: Path, store: Path, tmp_path: Path):
    """--max-seconds 0 ends with status 75 before anything was copied."""
    staged = tmp_path / "staged"
    config = brief(cache, tmp_path / "out", data={"store_dir": str(store), "stage_to": str(staged)})
    ran = train(write_config(tmp_path / "c.yaml", config), "--max-seconds", 0, "--json")

    assert 75 == ran.code, ran.err
    assert {"done": None, "total": None, "skipped": None} == ran.json["steps"]
    assert [] == list(staged.rglob("*.npy"))


@pytest.mark.parametrize("where", ["cache", "cache/inside", ".", "link", "other"])
def test_staging_never_writes_to_a_cache(cache: Path, store: Path, tmp_path: Path, where: str):
    """A `data.stage_to` in the cache, around it, or in any other cache is refused, and nothing is written."""
    shutil.copytree(cache, tmp_path / "cache", copy_function=shutil.copy2)
    training_cache(tmp_path / "other", seed=70)
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    data = {"store_dir": str(store), "stage_to": str(tmp_path / where)}
    with pytest.raises(ForeignTarget, match="a cache lies there") as refused:
        run(brief(tmp_path / "cache", tmp_path / "out", data=data))

    assert 5 == refused.value.exit_code
    out = tmp_path / "out"
    assert before == sorted(
        (path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path != out and out not in path.parents
    )


def test_a_full_disk_of_tensorboard_is_told(cache: Path, tmp_path: Path):
    """TensorBoard writes from a thread of its own, and what the disk tells that one ends the run with status 6."""
    out = tmp_path / "out"
    config = brief(cache, out, loop={"steps": 30}, logging={"tensorboard": True})
    (out / "tensorboard").mkdir(parents=True)
    with mounting.private_mounts():
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(out / "tensorboard")], check=True)
        ran = train(write_config(tmp_path / "c.yaml", config))

    assert 6 == ran.code, ran.err
    assert f"no space left at {out / 'tensorboard' / 'tiny'}" in ran.err


def test_metrics_that_cannot_be_read_are_told(cache: Path, tmp_path: Path):
    """What is in the way of metrics.jsonl is named."""
    (tmp_path / "runs" / "tiny" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(TargetError, match=r"metrics\.jsonl is in the way"):
        run(brief(cache, tmp_path))


@pytest.mark.parametrize("text", ["{{{", "[]", "{}", '{"starts": 5}'])
def test_a_record_that_is_none_is_written_anew(cache: Path, tmp_path: Path, text: str):
    """A run.json that somebody spoilt keeps no run from starting."""
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "run.json").write_text(text)
    run(brief(cache, tmp_path))

    assert 1 == len(record(tmp_path)["starts"])


@pytest.mark.parametrize("what", ["stage_to", "resume"])
def test_a_link_to_itself_is_told(cache: Path, store: Path, tmp_path: Path, what: str):
    """A link that leads nowhere but to itself is an error of ours."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    data = {"store_dir": str(store), "stage_to": str(loop)} if what == "stage_to" else {}
    with pytest.raises(CacheError, match="loop"):
        run(brief(cache, tmp_path / "out", data=data), resume=Resume(str(loop) if what == "resume" else "auto"))


def test_a_store_is_no_cache(store: Path, tmp_path: Path):
    """A store that is named as the cache is refused, and the hint says which key it belongs to."""
    with pytest.raises(UsageError, match=r"data\.cache_dir, .*, is a packed store") as refused:
        run(brief(store, tmp_path))
    assert "data.store_dir" in refused.value.hint


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
