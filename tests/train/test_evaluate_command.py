"""`python -m tusz_train evaluate`: from a checkpoint of a real, tiny training to scores, events and a report."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.annotations import write_csv_bi
from tests.support.running import Ran, environment
from tests.support.training import config_of, train, training_cache, write_config
from tusz_cache import Durability
from tusz_train import checkpoint, evaluation_run
from tusz_train.evaluate import main

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
    assert (best["threshold"], "frozen before") == (found[0]["threshold"], found[0]["threshold_from"])
    assert (0.33, "frozen before") == (found[1]["threshold"], found[1]["threshold_from"])
    assert found[2]["threshold_from"].startswith("chosen on dev")


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
