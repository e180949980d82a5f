"""What the synthetic cache must be: the users' layout, their overlap, their manifest, and the same bytes every time."""
# capitals in names are axes

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tusz_cache import synth
from tusz_cache.errors import TargetError, UsageError
from tusz_cache.synth import SIZES, Kind, SynthConfig, SynthReport
from tusz_cache.synth import eeg as synth_eeg
from tusz_cache.tusz import parse_name

TINY = SIZES["tiny"]
# Several windows a file, several seizures, all kinds in train; level 1 for speed.
VARIED = SynthConfig(
    seed=7,
    train_patients=4,
    dev_patients=2,
    recordings_per_session=(1, 2),
    length_s=(80.0, 110.0),
    background_share=0.2,
    short_share=0.2,
    unlabelled_share=0.2,
    level=1,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthReport]:
    root = tmp_path_factory.mktemp("tiny")
    return root, synth.write_cache(root, TINY)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthReport]:
    root = tmp_path_factory.mktemp("varied")
    return root, synth.write_cache(root, VARIED)


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def arrays_of(root: Path) -> Iterator[tuple[Path, np.ndarray, np.ndarray | None]]:
    for path in sorted(root.rglob("*.npz")):
        with np.load(path) as archive:
            yield path, archive["windows"], archive["labels"] if "labels" in archive.files else None


def categories_of(root: Path, split: str) -> dict[str, set[tuple[str, int]]]:
    manifest = json.loads((root / split / "manifest.json").read_text(encoding="utf-8"))
    return {name: {(entry["cache_file"], entry["window_idx"]) for entry in rows} for name, rows in manifest.items()}


def test_same_config_same_bytes(tiny: tuple[Path, SynthReport], tmp_path: Path) -> None:
    """The same configuration writes the same bytes again, and another seed does not."""
    root, _ = tiny
    synth.write_cache(tmp_path / "again", TINY)
    synth.write_cache(tmp_path / "other", replace(TINY, seed=1))

    assert files_of(tmp_path / "again") == files_of(root)
    assert files_of(tmp_path / "other") != files_of(root)


def test_processes_change_nothing(tiny: tuple[Path, SynthReport], tmp_path: Path) -> None:
    """Two worker processes write the bytes and return the report of one."""
    root, report = tiny

    assert synth.write_cache(tmp_path, TINY, workers=2) == report
    assert files_of(tmp_path) == files_of(root)


def test_streams_are_per_recording(varied: tuple[Path, SynthReport]) -> None:
    """A recording drawn alone, out of order, is the one in the file."""
    root, _ = varied
    planned = next(item for item in reversed(synth.plan_recordings(VARIED)) if item.kind is Kind.SEIZURE)
    x_CT, y_T = synth.draw_recording(VARIED, planned)

    with np.load(root / planned.split / planned.recording.cache_file) as archive:
        assert synth.cut_windows(x_CT).tobytes() == archive["windows"].tobytes()
        assert synth.cut_windows(y_T).tobytes() == archive["labels"].tobytes()
    contents = [windows.tobytes() for _, windows, _ in arrays_of(root) if len(windows)]
    assert len(set(contents)) == len(contents)  # no stream is used twice


def test_members_carry_no_clock(tiny: tuple[Path, SynthReport]) -> None:
    """Every zip member has the fixed date of 1980, so that tomorrow's bytes are today's."""
    root, _ = tiny
    dates = {info.date_time for path in root.rglob("*.npz") for info in zipfile.ZipFile(path).infolist()}

    assert dates == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("n_windows", [0, 2])
def test_writer_is_the_users(tmp_path: Path, n_windows: int, labelled: bool) -> None:
    """`write_npz` gives the very file of `np.savez_compressed`, and of `np.savez` at level 0."""
    rng = np.random.default_rng(0)
    windows = rng.integers(100, size=(n_windows, 19, 15360)).astype(np.float32)  # levels differ on such data only
    labels = np.ones((n_windows, 15360), np.float32) if labelled else None
    members: dict[str, Any] = {"windows": windows} if labels is None else {"windows": windows, "labels": labels}
    np.savez_compressed(tmp_path / "numpy.npz", **members)
    np.savez(tmp_path / "numpy_stored.npz", **members)
    synth.write_npz(tmp_path / "ours.npz", windows, labels)
    synth.write_npz(tmp_path / "ours_stored.npz", windows, labels, level=0)

    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "numpy.npz").read_bytes()
    assert (tmp_path / "ours_stored.npz").read_bytes() == (tmp_path / "numpy_stored.npz").read_bytes()


def test_arrays_have_the_contract_form(varied: tuple[Path, SynthReport]) -> None:
    """Windows are (N,19,15360) and labels (N,15360), float32, finite, within 10 sigma, labels 0 or 1."""
    root, _ = varied
    clipped = 0
    for path, windows, labels in arrays_of(root):
        assert windows.dtype == np.float32
        assert windows.shape[1:] == (19, 15360), path
        assert np.isfinite(windows).all()
        assert np.abs(windows).max(initial=0) <= 10
        clipped += int(np.count_nonzero(np.abs(windows) == 10))
        if labels is not None:
            assert labels.dtype == np.float32
            assert labels.shape == (len(windows), 15360), path
            assert np.isin(labels, (0, 1)).all()

    assert clipped  # the clip has something to do


def test_neighbours_overlap_bit_for_bit(varied: tuple[Path, SynthReport]) -> None:
    """Window i+1 is window i shifted by 2560 samples, to the bit, and new after that; labels too."""
    root, _ = varied
    n_pairs = 0
    for _, windows, labels in arrays_of(root):
        for array in (windows,) if labels is None else (windows, labels):
            for one, other in pairwise(array):
                assert one[..., 2560:].tobytes() == other[..., :-2560].tobytes()
                n_pairs += 1
        for one, other in pairwise(windows):
            assert one[..., -2560:].tobytes() != other[..., -2560:].tobytes()

    assert n_pairs > 20


@pytest.mark.parametrize(("n_samples", "n_windows"), [(15359, 0), (15360, 1), (17919, 1), (17920, 2)])
def test_window_count(n_samples: int, n_windows: int) -> None:
    """N is (T - 15360) // 2560 + 1, and 0 for a recording under 60 s; the windows are slices of it."""
    x_CT = np.arange(2 * n_samples, dtype=np.float32).reshape(2, n_samples)
    windows = synth.cut_windows(x_CT)

    assert windows.shape == (n_windows, 2, 15360)
    for i, window in enumerate(windows):
        assert np.array_equal(window, x_CT[:, 2560 * i : 2560 * i + 15360])


def test_zscore_is_over_the_recording() -> None:
    """Each channel has mean 0 and deviation 1 over its recording, apart from what the clip takes."""
    for planned in synth.plan_recordings(VARIED):
        x_CT, _ = synth.draw_recording(VARIED, planned)

        assert np.abs(x_CT.mean(axis=1, dtype=np.float64)).max() < 0.05
        assert np.abs(x_CT.std(axis=1, dtype=np.float64) - 1).max() < 0.2


@pytest.mark.parametrize("cache", ["tiny", "varied"])
def test_manifest_agrees_with_the_labels(cache: str, request: pytest.FixtureRequest) -> None:
    """The manifest has each labelled window once, in the category that its labels give, and no unlabelled file."""
    root, _ = request.getfixturevalue(cache)
    for split in ("train", "dev"):
        expected = {name: set[tuple[str, int]]() for name in ("partial_seizure", "full_seizure", "no_seizure")}
        for path, _, labels in arrays_of(root / split):
            for i, label_T in enumerate(() if labels is None else labels):
                n_ictal = int(np.count_nonzero(label_T))
                name = "full_seizure" if n_ictal >= 0.99 * 15360 else "partial_seizure" if n_ictal else "no_seizure"
                expected[name].add((path.name, i))

        assert categories_of(root, split) == expected
        rows = json.loads((root / split / "manifest.json").read_text(encoding="utf-8")).values()
        assert sum(map(len, rows)) == sum(map(len, expected.values()))


@pytest.mark.parametrize(
    ("n_ictal", "category"),
    [
        (0, "no_seizure"),
        (1, "partial_seizure"),
        (15206, "partial_seizure"),
        (15207, "full_seizure"),  # 0.99 of 15360 is 15206.4
        (15360, "full_seizure"),
    ],
)
def test_manifest_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_ictal: int, category: str) -> None:
    """One ictal sample makes a window partial, and 0.99 of them make it full."""
    y_T = (np.arange(15360) < n_ictal).astype(np.float32)
    monkeypatch.setattr(
        synth.writing, "draw_recording", lambda config, planned: (np.zeros((19, 15360), np.float32), y_T)
    )
    report = synth.write_cache(tmp_path, SynthConfig(train_patients=1, dev_patients=1, length_s=(60.0, 60.0)))

    assert [name for name, rows in categories_of(tmp_path, "train").items() if rows] == [category]
    assert report.seizures == (2 if n_ictal else 0)


@pytest.mark.parametrize("cache", ["tiny", "varied"])
def test_dataset_index_agrees_with_the_files(cache: str, request: pytest.FixtureRequest) -> None:
    """The index names one EDF for each file, in the corpus' layout and in order, with its number of windows."""
    root, report = request.getfixturevalue(cache)
    for split in ("train", "dev"):
        index = json.loads((root / split / "_dataset_index.json").read_text(encoding="utf-8"))
        layout = re.compile(rf"edf/{split}/([a-z]{{8}})/(s\d{{3}})_\d{{4}}/01_tcp_ar/(\1_\2_t\d{{3}})\.edf")
        stems = [match[3] for match in map(layout.fullmatch, index["files"]) if match]
        files = list(arrays_of(root / split))

        assert [f"{stem}_windows.npz" for stem in stems] == [path.name for path, _, _ in files]
        assert index["window_counts"] == [len(windows) for _, windows, _ in files]
        assert report.windows[split] == sum(index["window_counts"])


@pytest.mark.parametrize("name", SIZES)
def test_splits_share_no_patient(name: str) -> None:
    """No patient is in both splits, at any size, and all names are distinct and of the corpus' form."""
    plan = synth.plan_recordings(replace(SIZES[name], train_patients=40, dev_patients=30))
    train, dev = ({item.recording.patient for item in plan if item.split == split} for split in ("train", "dev"))

    assert (len(train), len(dev)) == (40, 30)
    assert not train & dev
    assert len({item.recording for item in plan}) == len(plan)
    assert all(parse_name(item.recording.cache_file) == item.recording for item in plan)
    assert all(re.fullmatch("[a-z]{8}", patient) for patient in train | dev)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_tiny_has_every_odd_kind(tmp_path: Path, seed: int) -> None:
    """Whatever the seed, "tiny" is about 2 MB and has N = 0, no labels, and each window category."""
    report = synth.write_cache(tmp_path, replace(TINY, seed=seed))
    arrays = list(arrays_of(tmp_path))

    assert any(len(windows) == 0 for _, windows, _ in arrays)
    assert any(labels is None and len(windows) for _, windows, labels in arrays)
    assert all(categories_of(tmp_path, "train").values())
    assert categories_of(tmp_path, "dev")["full_seizure"]
    assert {path.parent.name for path, _, _ in arrays} == {"train", "dev"}
    assert 1e6 < report.bytes < 4e6


def test_report_agrees_with_the_disk(varied: tuple[Path, SynthReport]) -> None:
    """The report counts what lies on disk."""
    root, report = varied
    files, arrays = files_of(root), list(arrays_of(root))
    array_bytes = sum(windows.nbytes + (0 if labels is None else labels.nbytes) for _, windows, labels in arrays)
    npz_bytes = sum(len(content) for name, content in files.items() if name.endswith(".npz"))

    assert (report.files, report.npz, report.bytes) == (len(files), len(arrays), sum(map(len, files.values())))
    assert report.deflate_ratio == pytest.approx(npz_bytes / array_bytes)
    labelled = [item for item in synth.plan_recordings(VARIED) if item.kind in (Kind.SEIZURE, Kind.LONG_SEIZURE)]
    assert report.seizures == len(labelled)  # one in each recording under 240 s


def test_a_real_file_has_the_real_weight(tmp_path: Path) -> None:
    """A file of "real" has 65 to 78 MB and deflates to about 0.8, as the users' do; their number can be given."""
    config = replace(SIZES["real"], train_patients=5, dev_patients=1)
    plan = synth.plan_recordings(config)
    x_CT, y_T = synth.draw_recording(config, plan[0])
    windows, labels = synth.cut_windows(x_CT), synth.cut_windows(y_T)
    synth.write_npz(tmp_path / "real.npz", windows, labels)
    size = (tmp_path / "real.npz").stat().st_size

    assert [item.split for item in plan] == ["train"] * 5 + ["dev"]
    assert 65e6 < size < 78e6
    assert 0.76 < size / (windows.nbytes + labels.nbytes) < 0.86  # 0.88 is noise with no electrode off


def test_small_is_enough_for_the_demo() -> None:
    """ "small" has 6 train and 3 dev patients or more, seizures in both splits, and 60 to 100 MB by its windows."""
    plan = synth.plan_recordings(SIZES["small"])
    n_windows = sum(len(synth.cut_windows(synth.draw_recording(SIZES["small"], item)[1])) for item in plan)
    for split, n_patients in (("train", 6), ("dev", 3)):
        of_split = [item for item in plan if item.split == split]
        assert len({item.recording.patient for item in of_split}) >= n_patients
        assert {Kind.SEIZURE, Kind.LONG_SEIZURE, Kind.BACKGROUND} <= {item.kind for item in of_split}

    assert 60e6 < n_windows * 20 * 15360 * 4 * 0.8 < 100e6


def test_background_is_pink_and_shared() -> None:
    """Background power falls as 1/f, channels correlate by about 0.3, and alpha is strongest at the back."""
    x_CT = synth_eeg.draw_background(np.random.default_rng(0), 256 * 512)
    power_CF = (np.abs(np.fft.rfft(x_CT.reshape(19, 512, 256) * np.hanning(256))) ** 2).mean(axis=1)
    front, back = synth_eeg.CHANNELS.index("Fz"), synth_eeg.CHANNELS.index("O1")
    slope, _ = np.polyfit(np.log(np.arange(14, 60)), np.log(power_CF[front, 14:60]), 1)
    x_T, other_T = x_CT[front], x_CT[synth_eeg.CHANNELS.index("Fp1")]
    correlation = (x_T @ other_T) / np.sqrt((x_T @ x_T) * (other_T @ other_T))

    assert -1.15 < slope < -0.85
    assert 0.2 < correlation < 0.4
    assert power_CF[back, 10] > 3 * power_CF[front, 10]


def test_seizures_stand_out_where_they_are_labelled() -> None:
    """Low-frequency power ranks ictal over other seconds clearly, yet a threshold on it errs."""
    scores, truth = [], []
    for item in synth.plan_recordings(replace(SIZES["small"], unlabelled_share=0.0)):
        x_CT, y_T = synth.draw_recording(SIZES["small"], item)
        n_seconds = x_CT.shape[1] // 256
        x_CST = x_CT[:, : n_seconds * 256].reshape(19, n_seconds, 256)
        power_CS = (np.abs(np.fft.rfft(x_CST * np.hanning(256))[..., 3:9]) ** 2).sum(axis=-1)
        scores.append(np.sort(power_CS, axis=0)[-3])  # third strongest channel: one may have popped
        truth.append(y_T[: n_seconds * 256].reshape(n_seconds, 256).mean(axis=1) > 0.5)
    score_S, ictal_S = np.concatenate(scores), np.concatenate(truth)
    ranks_S = np.argsort(np.argsort(score_S))
    n_ictal, n_rest = ictal_S.sum(), (~ictal_S).sum()
    auroc = (ranks_S[ictal_S].sum() - n_ictal * (n_ictal - 1) / 2) / (n_ictal * n_rest)

    assert 0.75 < auroc < 0.99


def test_seizures_stay_apart_and_inside() -> None:
    """Seizures of a recording lie in it, in order, without touching."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n_samples = 256 * int(rng.integers(60, 2000))
        times = list(synth_eeg.draw_seizure_times(rng, n_samples, long_first=seed % 2 == 0))
        flat = [time for pair in times for time in pair]

        assert times
        assert flat == sorted(set(flat))
        assert flat[0] >= 0
        assert flat[-1] <= n_samples


def test_a_filled_directory_is_left_alone(tmp_path: Path) -> None:
    """A split that holds anything is refused, and kept, since it may be a real cache."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "x_s001_t000_windows.npz").write_bytes(b"real")

    with pytest.raises(TargetError, match="is not empty"):
        synth.write_cache(tmp_path, TINY)
    assert files_of(tmp_path) == {"dev/x_s001_t000_windows.npz": b"real"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"dev_patients": 0},
        {"sessions_per_patient": (2, 1)},
        {"recordings_per_session": (0, 1)},
        {"length_s": (30.0, 90.0)},
        {"length_s": (90.0, 80.0)},
        {"short_share": -0.1},
        {"background_share": 0.6, "short_share": 0.5},
        {"flat_share": 1.0},
        {"step": 1.0},
        {"level": 10},
    ],
    ids=str,
)
def test_impossible_configurations_name_the_remedy(wrong: dict[str, Any]) -> None:
    """A configuration that no cache can have is refused, naming the field and what to give."""
    with pytest.raises(UsageError, match=next(iter(wrong)).removesuffix("_share")):
        replace(TINY, **wrong)


def test_workers_below_one_are_refused(tmp_path: Path) -> None:
    """`workers` below 1 is an error before anything is written."""
    with pytest.raises(UsageError, match="workers=0"):
        synth.write_cache(tmp_path / "cache", TINY, workers=0)
    assert not (tmp_path / "cache").exists()
