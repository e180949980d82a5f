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


def test_elsewhere_the_threshold_is_the_checkpoints(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Off dev nothing is chosen: the threshold that training found on dev is frozen; a given one comes first."""
    saved = trained / "checkpoints" / "tiny"
    record = max(
        (json.loads(path.read_text()) for path in saved.glob("*.json")),
        key=lambda one: (one["metric"] or -1, -one["step"]),
    )

    frozen = evaluate(
        capsys, "--checkpoint", saved / record["file"], "--split", "train", "--out", tmp_path / "1", "--json"
    )
    given = evaluate(
        capsys, *("--checkpoint", saved, "--split", "train", "--out", tmp_path / "2", "--json", "--threshold", 0.33)
    )

    assert (0, 0) == (frozen.code, given.code), frozen.err + given.err
    found = [ran.json["detection"] for ran in (frozen, given)]
    assert [record["threshold"], 0.33] == [one["threshold"] for one in found]
    assert {"frozen before"} == {one["threshold_from"] for one in found}


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
        (("--checkpoint", "{saved}", "--split", "dev", "--set", "data.nothing=1"), 2, "data.nothing"),
        (("--checkpoint", "{saved}", "--split", "dev", "--references", "nowhere"), 2, "no folder"),
        (
            ("--checkpoint", "{saved}", "--split", "dev", "--set", "model.options.layers=2"),
            7,
            "another model: Missing key",
        ),
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
