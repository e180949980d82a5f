"""`python -m tusz_train evaluate`: from a checkpoint of a real, tiny training to scores, events and a report."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.annotations import write_csv_bi
from tests.support.caches import seal_cache
from tests.support.recordings import name_of, recording, write_split
from tests.support.running import Ran, environment
from tests.support.training import config_of, run_here, train, training_cache, write_config
from tusz_cache import Durability
from tusz_train import checkpoint, evaluation_run
from tusz_train.evaluate import main
from tusz_train.resuming import Resume

pytest.importorskip("matplotlib", reason="reports need matplotlib")


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run the command in this process, which has torch already."""
    code = main(list(map(str, arguments)))
    return Ran(code, *capsys.readouterr())


def evaluate_alone(*arguments: object) -> Ran:
    command = [sys.executable, "-m", "tusz_train", "evaluate", *map(str, arguments)]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of a training."""
    folder = tmp_path_factory.mktemp("trained")
    config = config_of(training_cache(folder / "cache"), folder / "out")
    ran = train(write_config(folder / "tiny.yaml", config))
    assert 0 == ran.code, ran.err
    return folder / "out"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what a test does not look at, and takes the longest."""
    monkeypatch.setattr(evaluation_run, "write_report", lambda *_, **__: None)


def recordings_of(trained: Path) -> dict[str, int]:
    """Return the windows of dev's recordings, by recording."""
    cache = trained.parent / "cache" / "dev"
    return {path.name.removesuffix("_windows.npz"): len(np.load(path)["labels"]) for path in cache.glob("*.npz")}


def test_a_checkpoint_is_evaluated(trained: Path):
    """The best checkpoint of a folder is scored on dev; scores, events and the report lie in the folder of the run."""
    ran = evaluate_alone("--checkpoint", trained / "checkpoints" / "tiny", "--split", "dev", "--json")
    assert 0 == ran.code, ran.err

    run, told = trained / "runs" / "tiny", ran.json
    assert json.loads((run / "metrics.json").read_text()) == told
    assert len(recordings_of(trained)) == told["recordings"]
    assert {f"{name}{form}" for name in recordings_of(trained) for form in (".csv_bi", "_events.tsv")} == {
        path.name for path in (run / "events").iterdir()
    }
    page = (run / "report.html").read_text()
    for shown in ("tiny: seizure detection on dev", "training hash", "verdict: verdict", "checkpoint step", ">loss<"):
        assert shown in page
    assert "Using valid local SSD cache" in ran.err


@pytest.mark.usefixtures("no_report")
def test_the_runs_own_threshold_is_frozen(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The threshold that training found on dev stays, unless one is given, or the best is asked for."""
    saved = trained / "checkpoints" / "tiny"
    records = [json.loads(path.read_text()) for path in saved.glob("*.json")]
    found = {}
    for number, asked in enumerate(((), ("--threshold", 0.33), ("--threshold", "best"))):
        ran = evaluate(capsys, "--checkpoint", saved, "--out", tmp_path / str(number), "--json", *asked)
        assert 0 == ran.code, ran.err
        found[number] = ran.json["detection"]

    best = max((one for one in records if one["metric"] is not None), key=lambda one: (one["metric"], -one["step"]))
    kept = "chosen in training on 2 of 2 patients evaluated here, so not held out"
    assert (best["threshold"], kept) == (found[0]["threshold"], found[0]["threshold_from"])
    assert (0.33, "given") == (found[1]["threshold"], found[1]["threshold_from"])
    assert found[2]["threshold_from"].startswith("chosen on dev, which is scored here")


# what is evaluated


def other_cache(root: Path, split: str, *numbers: int) -> Path:
    """Write and seal a cache of one split, with these patients. Those of training are 0 to 5, those of dev 6 and 7."""
    write_split(root, split, {name_of(number): recording(2, seed=90 + number) for number in numbers})
    return seal_cache(root)


@pytest.mark.usefixtures("no_report")
def test_the_own_cache_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """On dev of the cache that was trained on, no patient is one of training, all are those that were chosen on."""
    ran = evaluate(capsys, "--checkpoint", trained / "checkpoints" / "tiny", "--out", tmp_path, "--json")
    assert 0 == ran.code, ran.err

    told = ran.json["data"]
    assert (True, 2, [], ["ag", "ah"]) == (
        told["is_trained_cache"],
        told["patients"],
        told["patients_trained_on"],
        told["patients_chosen_on"],
    )
    assert "is the one that was trained on" in ran.err


def test_another_cache_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A cache of eval alone, with new patients, is evaluated; scores and report say that it is another one."""
    other = other_cache(tmp_path / "other", "eval", 30, 31)
    ran = evaluate(
        capsys,
        *("--checkpoint", trained / "checkpoints" / "tiny", "--split", "eval", "--out", tmp_path / "out", "--json"),
        *("--set", f"data.cache_dir={other}"),
    )
    assert 0 == ran.code, ran.err

    told = ran.json["data"]
    assert (str(other), False, []) == (told["cache_dir"], told["is_trained_cache"], told["patients_trained_on"])
    assert (
        told["manifest_sha256"]
        != json.loads((trained / "runs" / "tiny" / "run.json").read_text())["cache"]["manifest_sha256"]
    )
    assert "chosen on dev in training, on none of these patients" == ran.json["detection"]["threshold_from"]
    page = (tmp_path / "out" / "report.html").read_text()
    for said in (f"The cache, {other}, is not the one", "None of the 2 patients was trained on", "Training run"):
        assert said in page


def test_patients_of_training_are_no_test(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Patients that training saw are refused in dev and eval of any cache; allowed, the report warns (failure 3)."""
    other = other_cache(tmp_path / "other", "dev", 0, 3, 30)
    asked = (
        *("--checkpoint", trained / "checkpoints" / "tiny", "--out", tmp_path / "out", "--json"),
        *("--set", f"data.cache_dir={other}"),
    )
    ran = evaluate(capsys, *asked)
    assert 5 == ran.code, ran.err
    assert "2 of 3 patients of dev" in ran.err
    assert "aa, ad" in ran.err
    assert "--allow-seen-patients" in ran.err
    assert not (tmp_path / "out" / "metrics.json").exists()

    ran = evaluate(capsys, *asked, "--allow-seen-patients")
    assert 0 == ran.code, ran.err
    assert ["aa", "ad"] == ran.json["data"]["patients_trained_on"]
    assert '<p class="warning">WARNING: 2 of 3 patients were trained on' in (tmp_path / "out/report.html").read_text()


@pytest.mark.usefixtures("no_report")
def test_the_split_of_training_is_scored_aloud(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Who names the split train gets its scores, and is told what they are."""
    ran = evaluate(
        capsys, "--checkpoint", trained / "checkpoints" / "tiny", "--split", "train", "--out", tmp_path, "--json"
    )
    assert 0 == ran.code, ran.err

    assert 6 == len(ran.json["data"]["patients_trained_on"])
    assert "WARNING: 6 of 6 patients were trained on (aa, ab, ac, ad, ae and 1 more)" in ran.err


@pytest.mark.usefixtures("no_report")
def test_a_checkpoint_that_names_no_patients(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What a checkpoint does not tell is said to be unknown, and not taken for harmless."""
    saved = checkpoint.load(trained / "checkpoints" / "tiny")
    del saved["patients"]
    ran = evaluate(
        capsys, "--checkpoint", checkpoint.save(tmp_path, saved, Durability("none")), "--out", tmp_path / "o", "--json"
    )
    assert 0 == ran.code, ran.err

    told = ran.json
    assert (None, None) == (told["data"]["patients_trained_on"], told["data"]["patients_chosen_on"])
    assert "not known" in told["detection"]["threshold_from"]
    assert "Whether patients were trained on is not known" in ran.err


def test_a_folder_that_cannot_be_made_is_told_first(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Where results cannot be written, nothing is read."""
    (tmp_path / "file").touch()
    nowhere = ("--set", f"data.cache_dir={tmp_path / 'nowhere'}")  # the guard would say that there is nothing
    asked = ("--checkpoint", trained / "checkpoints" / "tiny", *nowhere)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        ran = evaluate(capsys, *asked, "--out", out)
        assert 2 == ran.code
        assert f"{tmp_path / 'file'} is in the way" in ran.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--threshold", "2"), "threshold 2.0"),
        (("--split", "train", "--threshold", "best"), "none may be chosen on train"),
        (("--references", "nowhere"), "no folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], what: str
):
    """What makes no sense is told at once, and not after the guard, copying and predicting."""
    nowhere = ("--set", f"data.cache_dir={tmp_path / 'nowhere'}", "--out", tmp_path / "out")
    ran = evaluate(capsys, "--checkpoint", trained / "checkpoints" / "tiny", *arguments, *nowhere)

    assert 2 == ran.code
    assert what in ran.err


def test_the_report_is_of_the_checkpoints_own_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A checkpoint that was set aside is told with its own run's record and curves, in that run's folder; one that
    lies among no run is told by what it holds itself, and not by a run that happens to have its name.
    """
    out, cache = tmp_path / "out", trained.parent / "cache"
    run_here(config_of(cache, out, loop={"steps": 2}))
    run_here(config_of(cache, out, loop={"steps": 3}), resume=Resume("never"))
    first, alone = out / "checkpoints" / "tiny.before-1", tmp_path / "alone"
    shutil.copytree(first, alone)
    seen: list[Any] = []
    monkeypatch.setattr(evaluation_run, "write_report", lambda path, _, **told: seen.append((path.parent, told)))
    for path in (first, alone, out / "checkpoints" / "tiny"):
        assert 0 == evaluate(capsys, "--checkpoint", path, *(["--out", tmp_path / "new"] if path == alone else [])).code

    folders, told = zip(*seen, strict=True)
    assert (out / "runs" / "tiny.before-1", tmp_path / "new", out / "runs" / "tiny") == folders
    assert [2, 2, 3] == [one["run"]["configuration"]["loop"]["steps"] for one in told]
    assert [2, None, 3] == [max((line["step"] for line in one["history"]), default=None) for one in told]
    assert [True, False, True] == ["starts" in one["run"] for one in told]


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("text", ["{{{", "[]", "{}", '{"training_hash": "another"}'])
def test_a_record_that_is_none_is_passed_over(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
):
    """A run.json that somebody spoilt does not keep a checkpoint from being evaluated: it says the same."""
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "run.json").write_text(text)

    assert 0 == evaluate(capsys, "--checkpoint", tmp_path / "checkpoints" / "tiny").code


def test_weights_must_fit(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A checkpoint whose weights are of another model is told from a sound one."""
    saved = checkpoint.load(trained / "checkpoints" / "tiny")
    saved["config"]["model"]["options"]["layers"] = 2
    path = checkpoint.save(tmp_path, saved, Durability("none"))

    ran = evaluate(capsys, "--checkpoint", path, "--out", tmp_path / "out")

    assert 7 == ran.code
    assert "another model: Missing key" in ran.err


@pytest.mark.usefixtures("no_report")
def test_references_are_taken(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With a folder of references, durations are those of its files."""
    counts = recordings_of(trained)
    for name, count in counts.items():
        write_csv_bi(tmp_path / "ref" / f"{name}.csv_bi", [(5, 20)], (count - 1) * 10 + 63.5)

    ran = evaluate(
        capsys,
        *("--checkpoint", trained / "checkpoints" / "tiny", "--split", "dev"),
        *("--references", tmp_path / "ref", "--out", tmp_path / "out", "--json"),
    )

    assert 0 == ran.code, ran.err
    told = ran.json
    assert "reference files" == told["coverage"]["duration_from"]
    assert sum((count - 1) * 10 + 63.5 for count in counts.values()) == told["seconds"]


@pytest.mark.parametrize(
    ("arguments", "status", "what"),
    [
        (("--checkpoint", "nowhere", "--split", "dev"), 7, "no checkpoint"),
        (("--checkpoint", "{saved}", "--split", "train", "--threshold", "best"), 2, "none may be chosen on train"),
        (("--checkpoint", "{saved}", "--threshold", "2"), 2, "threshold 2.0"),
        (("--checkpoint", "{saved}", "--set", "data.cache_dir={saved}"), 5, "seal"),
        (("--checkpoint", "{saved}", "--set", "data.nothing=1"), 2, "data.nothing"),
        (("--checkpoint", "{saved}", "--split", "dev", "--references", "nowhere"), 2, "no folder"),
    ],
)
def test_mistakes_are_told(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    what: str,
):
    """What is wrong is said, with the exit status of the contract, and nothing is written."""
    saved = trained / "checkpoints" / "tiny"

    ran = evaluate(capsys, *(one.format(saved=saved) for one in arguments), "--out", tmp_path / "out")

    assert status == ran.code, ran.err
    assert what in ran.err
    assert not (tmp_path / "out" / "metrics.json").exists()
