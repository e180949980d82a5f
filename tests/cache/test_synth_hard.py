"""What the corpus to learn from must be: fair to a model, which sees seizures slow down, and hard on a threshold."""
# capitals in names are axes

from dataclasses import replace

import numpy as np
import pytest

from tusz_cache import synth
from tusz_cache.synth import SIZES, Kind, artefacts, eeg, morphology

LEARN = SIZES["learn"]
PLAN = synth.plan_recordings(LEARN)
DEV = [item for item in PLAN if item.split == "dev"]
SOME = next(item for item in PLAN if item.kind is Kind.SEIZURE)


@pytest.fixture(scope="module")
def dev() -> list[tuple[np.ndarray, np.ndarray]]:
    return [synth.draw_recording(LEARN, item) for item in DEV]


def patient(seed: int) -> morphology.Patient:
    return morphology.draw_patient(np.random.default_rng(seed))


def test_it_has_24_patients_of_whom_8_are_held_out() -> None:
    """16 patients are in train and 8 others in dev, each with the same number of recordings."""
    by_split = {split: {item.recording.patient for item in PLAN if item.split == split} for split in ("train", "dev")}

    assert {"train": 16, "dev": 8} == {split: len(patients) for split, patients in by_split.items()}
    assert not by_split["train"] & by_split["dev"]


def test_the_same_recording_comes_again() -> None:
    """A recording is the same to the bit when it is drawn again, and another with another seed."""
    once, again, other = (synth.draw_recording(config, SOME)[0] for config in (LEARN, LEARN, replace(LEARN, seed=1)))

    assert once.tobytes() == again.tobytes()
    assert once.tobytes() != other.tobytes()


def test_scores_are_rounded_to_the_step() -> None:
    """Each z-score is a multiple of the configured step, and some are odd ones."""
    x_CT, _ = synth.draw_recording(LEARN, SOME)
    steps_CT = x_CT / LEARN.step

    assert np.array_equal(np.round(steps_CT), steps_CT)
    assert (steps_CT % 2 == 1).any()
    assert np.float32 == x_CT.dtype


def test_labels_are_where_the_seizures_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without background and artefacts, there is a signal exactly from onset to offset."""
    monkeypatch.setattr(eeg, "draw_background", lambda rng, n_samples: np.zeros((19, n_samples)))
    monkeypatch.setattr(eeg, "standardise", lambda x_CT, step: x_CT.astype(np.float32))
    monkeypatch.setattr(artefacts, "add_artefacts", lambda rng, x_CT: None)
    seen = 0
    for item in DEV:
        x_CT, y_T = synth.draw_recording(replace(LEARN, step=0.0, flat_share=0.0), item)
        active_T = np.abs(x_CT).max(axis=0) > 0
        assert not active_T[y_T == 0].any()
        seen += int(active_T.sum())
        if y_T.any():
            assert active_T[y_T == 1].mean() > 0.95

    assert seen


def test_seizures_are_some_of_the_time(dev: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Between a twentieth and a quarter of dev is ictal, in 10 seizures or more, and most recordings have none."""
    ictal = np.concatenate([y_T for _, y_T in dev]).mean()
    with_seizure = sum(bool(y_T.any()) for _, y_T in dev)

    assert 0.05 < ictal < 0.25
    assert 10 <= with_seizure < len(dev) / 2


@pytest.mark.parametrize("seed", range(10))
def test_seizures_slow_down(seed: int) -> None:
    """Whoever the patient is, the mean frequency at the focus is lower in the last third than in the first."""
    drawn = patient(seed)
    discharge_CL = morphology.draw_discharge(np.random.default_rng(seed), drawn, 256 * 60)
    power_3SF = np.abs(np.fft.rfft(discharge_CL[drawn.focus].reshape(3, 20, 256) * np.hanning(256))) ** 2
    power_3F = power_3SF.mean(axis=1)[:, :31]
    mean_hz_3 = power_3F @ np.arange(31) / power_3F.sum(axis=1)

    assert mean_hz_3[2] < 0.9 * mean_hz_3[0]


def test_patients_differ_and_stay_themselves() -> None:
    """A patient comes again with the same waves, and another has others, from another place, at another rate."""
    one, again, other = patient(1), patient(1), patient(2)

    assert np.array_equal(one.wave_W, again.wave_W)
    assert not np.allclose(one.wave_W, other.wave_W, atol=0.1)
    assert {one.focus, one.first_hz, one.gain}.isdisjoint({other.focus, other.first_hz, other.gain})


@pytest.mark.parametrize("kind", artefacts.KINDS, ids=lambda kind: kind.draw.__qualname__)
def test_artefacts_fit_their_place(kind: artefacts.Artefact) -> None:
    """Each kind fills as many samples as it is asked for, with finite values that are not all 0."""
    for seed, seconds in enumerate((*kind.seconds, sum(kind.seconds) / 2)):
        burst_CL = kind.draw(np.random.default_rng(seed), int(seconds * 256))

        assert (19, int(seconds * 256)) == burst_CL.shape
        assert np.isfinite(burst_CL).all()
        assert 0 < np.abs(burst_CL).max() < 5000


def test_line_length_does_not_tell_seizures(dev: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """A second's line length, median of the channels, says little about whether it is ictal."""
    lengths, truth = [], []
    for x_CT, y_T in dev:
        n_seconds = x_CT.shape[1] // 256
        steps_CT = np.abs(np.diff(x_CT, axis=1, prepend=x_CT[:, :1]))[:, : n_seconds * 256]
        lengths.append(np.median(steps_CT.reshape(19, n_seconds, 256).sum(axis=2), axis=0))
        truth.append(y_T[: n_seconds * 256].reshape(n_seconds, 256).mean(axis=1) > 0.5)
    length_S, ictal_S = np.concatenate(lengths), np.concatenate(truth)
    ranks_S = np.argsort(np.argsort(length_S))
    n_ictal, n_rest = ictal_S.sum(), (~ictal_S).sum()
    auroc = (ranks_S[ictal_S].sum() - n_ictal * (n_ictal - 1) / 2) / (n_ictal * n_rest)

    assert 0.3 < auroc < 0.75
