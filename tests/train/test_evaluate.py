"""Evaluation: what is written, chosen and frozen, and that its numbers are those of the files it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.annotations import recording, write_csv_bi
from tests.support.evaluations import Split, seeing
from tusz_cache.errors import Interrupted, UsageError
from tusz_train import nedc, szcore
from tusz_train.calibration import N_BINS, Calibration
from tusz_train.evaluating import EvaluationSettings, evaluate_model
from tusz_train.event_files import read_events
from tusz_train.events import Detection
from tusz_train.predict import Inference
from tusz_train.schedule import Scheduled
from tusz_train.scoring import score_folders
from tusz_train.strips import ScoredRecording, best_and_worst, telling_window

SEIZURES = {
    "a_s001_t000": (20, [(30, 60), (170, 200)]),
    "a_s001_t001": (8, []),
    "b_s001_t000": (12, [(80, 100)]),
    "c_s001_t000": (7, []),
}
FROZEN = EvaluationSettings(detection=Detection(threshold=0.7), frozen=True)


def late(x_BCT: Tensor) -> Tensor:
    """Return logits that see a seizure 5 s late, and its last 5 s not at all, as the first windows have it."""
    return 4 * torch.roll(x_BCT[:, 0], 5 * 256, 1)


# what is written


def test_a_model_that_sees_everything_is_perfect(tmp_path: Path):
    """Where probabilities follow the seizures, both scorers find all of them and nothing else."""
    found = evaluate_model(seeing, Split(SEIZURES), EvaluationSettings(), tmp_path)

    pooled = found.scores.pooled
    assert (1.0, 0, 3) == (pooled.szcore.event.f1, pooled.szcore.event.fp, pooled.szcore.event.ref)
    assert (3, 0, 0) == (pooled.nedc_ovlp.hits, pooled.nedc_ovlp.misses, pooled.nedc_ovlp.false_alarms)
    assert 1.0 == found.curves.pooled.auroc_1hz
    assert {"a", "b", "c"} == set(found.scores.per_subject)


@pytest.mark.parametrize("form", [".csv_bi", "_events.tsv"])
def test_scores_are_those_of_the_files(tmp_path: Path, form: str):
    """Scoring the events that were written, in either form, against reference files gives the evaluation's numbers."""
    split = Split(SEIZURES)
    found = evaluate_model(late, split, EvaluationSettings(), tmp_path / "out")
    for one in found.recordings:
        spans = [(event.start, event.stop) for event in one.reference.events]
        write_csv_bi(tmp_path / "ref" / f"{one.name}.csv_bi", spans, one.reference.duration)
        assert one.hypothesis == read_events(tmp_path / "out" / "events" / f"{one.name}{form}")

    assert score_folders(tmp_path / "ref", tmp_path / "out" / "events").as_dict() == found.scores.as_dict()


def test_metrics_are_written(tmp_path: Path):
    """`metrics.json` holds everything by the scorer's name, and says which durations and threshold were used."""
    found = evaluate_model(seeing, Split(SEIZURES), EvaluationSettings(), tmp_path)
    told = json.loads((tmp_path / "metrics.json").read_text())

    assert found.as_dict() == told == json.loads(found.as_json())
    assert {"szcore", "nedc_ovlp", "curves", "calibration", "coverage", "detection", "inference"} <= set(told)
    assert ("windows", "dev", 10) == (told["coverage"]["duration_from"], told["split"], told["inference"]["stride_s"])
    assert "SzCORE event F1" in told["detection"]["threshold_from"]
    assert set() == set(tmp_path.rglob("*.part"))


def test_probabilities_are_kept(tmp_path: Path):
    """The probabilities of each recording lie on disk, at the rate that metrics.json tells."""
    evaluate_model(seeing, Split(SEIZURES), EvaluationSettings(inference=Inference(rate=4)), tmp_path)

    lengths = {path.stem: len(np.load(path)) / 4 for path in (tmp_path / "probabilities").iterdir()}
    assert {name: (count - 1) * 10 + 60 for name, (count, _) in SEIZURES.items()} == lengths


def test_references_make_durations_true(tmp_path: Path):
    """With reference files a recording under 60 s is scored, as background for its true duration, and that is said."""
    split = Split({"a_s001_t000": (8, [(30, 60)]), "b_s001_t000": (0, [])})
    references = {
        "a_s001_t000": recording("a_s001_t000", [(30, 60)], 137.5),
        "b_s001_t000": recording("b_s001_t000", [(10, 30)], 50),
        "z_s001_t000": recording("z_s001_t000", [], 50),
    }

    found = evaluate_model(seeing, split, FROZEN, tmp_path, references=references)

    assert 187.5 == found.scores.pooled.nedc_ovlp.seconds
    assert (1, 1) == (found.scores.pooled.nedc_ovlp.hits, found.scores.pooled.nedc_ovlp.misses)
    assert (1, 1) == (found.coverage.without_windows, found.coverage.references_unused)
    assert "background for their true duration: 1." in found.as_text()


# the threshold


def test_the_best_threshold_is_chosen(tmp_path: Path):
    """Unless one is frozen, the threshold of highest SzCORE event F1 on dev is taken, and used for all numbers."""

    def hesitant(x_BCT: Tensor) -> Tensor:
        """Return 0.62 in seizures, and 0.38 elsewhere."""
        return x_BCT[:, 0] / 2

    found = evaluate_model(hesitant, Split(SEIZURES), EvaluationSettings(thresholds=(0.2, 0.5, 0.9)), tmp_path)

    assert (0.5, 1.0) == (found.detection.threshold, found.scores.pooled.szcore.event.f1)


def test_a_frozen_threshold_stays(tmp_path: Path):
    """A frozen threshold is used as it is, on any split."""
    found = evaluate_model(seeing, Split(SEIZURES, "eval"), FROZEN, tmp_path)

    assert (0.7, "given") == (found.detection.threshold, found.threshold_from)


def test_no_threshold_is_chosen_on_eval(tmp_path: Path):
    """Choosing a threshold on the blind split is refused before anything is read."""
    split = Split(SEIZURES, "eval")

    with pytest.raises(UsageError, match="none may be chosen on eval"):
        evaluate_model(seeing, split, EvaluationSettings(), tmp_path)
    assert [] == split.read


# the folder


def test_events_of_other_recordings_are_not_mixed_in(tmp_path: Path):
    """A folder with events of recordings that are not evaluated is refused, and an evaluation may be run again."""
    evaluate_model(seeing, Split(SEIZURES), FROZEN, tmp_path)
    evaluate_model(seeing, Split(SEIZURES), FROZEN, tmp_path)

    with pytest.raises(UsageError, match="events of 3 recordings"):
        evaluate_model(seeing, Split({"a_s001_t000": (20, [])}), FROZEN, tmp_path)


def test_some_recordings_can_be_taken(tmp_path: Path):
    """Where files are named, no others are read or counted."""
    split = Split(SEIZURES)

    found = evaluate_model(seeing, split, FROZEN, tmp_path, only=["b_s001_t000_windows.npz", "c_s001_t000_windows.npz"])

    assert ["b_s001_t000", "c_s001_t000"] == [one.name for one in found.recordings]
    assert (2, 290.0) == (found.coverage.scored, found.coverage.seconds)
    assert 28 == min(row for batch in split.read for row in batch)


def test_it_can_be_stopped(tmp_path: Path):
    """Between two recordings it says how far it is, and may be stopped."""
    told: list[tuple[int, int]] = []

    def said(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise Interrupted("stopped", hint="again", signum=15)

    with pytest.raises(Interrupted):
        evaluate_model(seeing, Split(SEIZURES), FROZEN, tmp_path, said=said)
    assert [(0, 4), (1, 4), (2, 4)] == told
    assert not (tmp_path / "metrics.json").exists()


# calibration


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1), st.integers(0, 100))
def test_calibration_is_that_of_all_seconds(seconds: list[tuple[float, bool]], cut: int):
    """Counted in parts, the error is that of the definition over all seconds at once."""
    p_S = np.array([p for p, _ in seconds], np.float32)
    ictal_S = np.array([ictal for _, ictal in seconds])
    cut = min(cut, len(p_S))

    found = Calibration().counting(p_S[:cut], ictal_S[:cut]).counting(p_S[cut:], ictal_S[cut:])

    bins = np.minimum((p_S * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs(p_S[bins == b].sum(dtype=float) - ictal_S[bins == b].sum()) for b in range(N_BINS)]
    assert found.ece == pytest.approx(sum(gaps) / len(p_S), abs=1e-9)
    assert found.brier == pytest.approx(np.mean((p_S.astype(float) - ictal_S) ** 2), abs=1e-9)
    assert (len(p_S), int(ictal_S.sum())) == (sum(found.seconds), sum(found.ictal))


def test_calibration_of_nothing():
    """Without a second, errors are undefined."""
    assert (None, None, []) == (Calibration().ece, Calibration().brier, Calibration().bins)


# which recordings are shown


def scored(name: str, reference: list[tuple[float, float]], found: list[tuple[float, float]]) -> ScoredRecording:
    ref, hyp = recording(name, reference), recording(name, found)
    return ScoredRecording(ref, hyp, szcore.count(ref, hyp), nedc.count(ref, hyp))


def test_the_best_and_the_worst_are_shown():
    """The best recording has the highest SzCORE sample F1, the worst the lowest and most seconds wrong."""
    recordings = [
        scored("a_1", [(100, 160)], [(100, 150)]),
        scored("a_2", [(100, 160)], []),
        scored("a_3", [(100, 400)], []),
        scored("a_4", [], []),
        scored("a_5", [(100, 160)], [(100, 160)]),
    ]

    assert {"best": "a_5", "worst": "a_3"} == {kind: one.name for kind, one in best_and_worst(recordings).items()}
    assert {"best"} == set(best_and_worst(recordings[:1]))
    assert {} == best_and_worst([recordings[3]])


@pytest.mark.parametrize(
    ("kind", "reference", "found", "window", "shows"),
    [
        ("best", [(500, 530), (900, 1000)], [(510, 520)], 48, "seizure found"),
        ("worst", [(500, 530), (900, 1000)], [(510, 520)], 88, "seizure missed"),
        ("worst", [(500, 530)], [(510, 520), (700, 705)], 68, "false alarm"),
        ("worst", [(5, 30)], [(10, 20)], 0, "seizure found in part"),
        ("best", [(3590, 3600)], [(3590, 3600)], 354, "seizure found"),
    ],
)
def test_the_window_shown_tells_something(kind, reference, found, window, shows):
    """The EEG shown begins about 20 s before the longest event of the most telling kind, within the recording."""
    whole = Scheduled("a_1", 3600.0, 0, tuple(range(355)))

    assert (window, shows) == telling_window(scored("a_1", reference, found), whole, kind)
