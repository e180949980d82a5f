"""Drawing recordings and writing them as the users' tool does.

`plan_recordings` says what the cache holds, `draw_recording` draws one recording, `write_cache` puts all on disk as the
users' tool does: z-scored recordings, then windows as plain slices, so that neighbours overlap bit for bit.
Every recording draws from its own stream, named by (seed, split, patient, session, token): neither the order nor the
number of processes changes a byte. Another numpy, zlib or kind of CPU may.

Axes: N = windows, C = 19 channels, T = samples at 256 Hz (15,360 in a window).
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import TargetError, UsageError
from tusz_cache.synth import artefacts, eeg, morphology
from tusz_cache.synth.plan import SPLITS, Kind, PlannedRecording, SynthConfig, plan_recordings
from tusz_cache.tusz import STRIDE, WINDOW, Recording

Float32Array = npt.NDArray[np.float32]

FULL_SHARE = 0.99  # share of ictal samples from which the users' manifest calls a window a full seizure


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthReport:
    """What was written."""

    files: int  # NPZ and JSON
    npz: int
    bytes: int  # of all files
    windows: Mapping[str, int]  # by split
    seizures: int  # in recordings with labels
    deflate_ratio: float  # bytes of the NPZ files over bytes of their arrays; without windows it says nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """One recording on disk."""

    planned: PlannedRecording
    n_windows: int
    n_seizures: int
    ictal_shares: tuple[float, ...]  # per window; empty without labels
    npz_bytes: int
    array_bytes: int


def draw_recording(config: SynthConfig, planned: PlannedRecording) -> tuple[Float32Array, Float32Array]:
    """Draw one recording: x_CT in sigma, within +-10, and labels y_T, 1 from onset to offset, else 0; both float32.

    An UNLABELLED recording has labels here; it is its file that lacks them.
    """
    kind, name = planned.kind, f"{planned.split}/{planned.recording.cache_file}"
    rng = np.random.default_rng([config.seed, *name.encode()])
    low_s, high_s = (10.0, 59.9) if kind is Kind.SHORT else config.length_s
    length_s = rng.uniform(low_s, high_s)
    if kind is Kind.LONG_SEIZURE:
        length_s = max(length_s, eeg.COVERS_WINDOW_S)
    n_samples = int(length_s * eeg.SAMPLE_RATE)
    x_CT = eeg.draw_background(rng, n_samples)
    y_T = np.zeros(n_samples, np.float32)
    patient, durations = None, {}
    if config.hard:
        patient = morphology.draw_patient(np.random.default_rng([config.seed, *planned.recording.patient.encode()]))
        durations = {"median_s": 30.0, "sigma": 0.4}  # all long enough to be seen slowing down
        x_CT *= morphology.draw_gain(rng, patient, n_samples)
    if kind not in (Kind.SHORT, Kind.BACKGROUND):
        long_first = kind is Kind.LONG_SEIZURE
        for onset, offset in eeg.draw_seizure_times(rng, n_samples, long_first=long_first, **durations):
            length = offset - onset
            x_CT[:, onset:offset] += (
                morphology.draw_discharge(rng, patient, length) if patient else eeg.draw_discharge(rng, length)
            )
            y_T[onset:offset] = 1.0
    if config.hard:
        artefacts.add_artefacts(rng, x_CT)
    eeg.take_electrodes_off(rng, x_CT, config.flat_share)
    return eeg.standardise(x_CT, config.step), y_T


def cut_windows(x: Float32Array) -> Float32Array:
    """Cut (..., T) into (N, ..., 15360), 60 s every 10 s, a copy. A tail under 10 s is dropped; N = 0 for T < 15360."""
    n_windows = max(0, (x.shape[-1] - WINDOW) // STRIDE + 1)
    windows = np.empty((n_windows, *x.shape[:-1], WINDOW), x.dtype)
    for i in range(n_windows):
        windows[i] = x[..., i * STRIDE : i * STRIDE + WINDOW]
    return windows


def write_npz(path: Path, windows: Float32Array, labels: Float32Array | None, *, level: int = 6) -> None:
    """Write windows (N, C, 15360) and labels (N, 15360) to `path`, byte for byte as `np.savez_compressed` does.

    numpy takes no `level`, hence a writer of our own: 6 is numpy's, 0 stores. Members are dated 1980-01-01.
    """
    members = {"windows": windows} if labels is None else {"windows": windows, "labels": labels}
    with ZipFile(path, "w", ZIP_DEFLATED if level else ZIP_STORED, compresslevel=level) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_cache(root: Path, config: SynthConfig, *, workers: int = 1) -> SynthReport:
    """Write `<root>/{train,dev}/`: NPZ files, `manifest.json`, `_dataset_index.json`.

    The manifest leaves out files without labels, whose windows belong to no category; the index names every file, those
    of 0 windows too. More than one of `workers` are fresh processes, so a script then needs its `__main__` guard.

    Raises: UsageError for `workers` below 1; TargetError where a split is not empty, since it may be a real cache.
    """
    if workers < 1:
        raise UsageError(f"workers={workers} makes no sense", hint="give 1 or more")
    for split in SPLITS:
        (root / split).mkdir(parents=True, exist_ok=True)
        if any((root / split).iterdir()):
            raise TargetError(f"{root / split} is not empty", hint="give another directory, or remove it first")
    plan = plan_recordings(config)
    if workers == 1:
        written = [_write_recording(root, config, planned) for planned in plan]
    else:  # spawned, since the demo runs threads, which a fork may catch holding a lock
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            written = list(pool.map(_write_recording, repeat(root), repeat(config), plan))
    by_split = {split: [item for item in written if item.planned.split == split] for split in SPLITS}
    for split, items in by_split.items():
        _write_json(root / split / "manifest.json", _manifest(items))
        _write_json(root / split / "_dataset_index.json", _dataset_index(items))
    paths = [path for split in SPLITS for path in (root / split).iterdir()]
    return SynthReport(
        files=len(paths),
        npz=len(written),
        bytes=sum(path.stat().st_size for path in paths),
        windows={split: sum(item.n_windows for item in items) for split, items in by_split.items()},
        seizures=sum(item.n_seizures for item in written),
        deflate_ratio=sum(item.npz_bytes for item in written) / max(1, sum(item.array_bytes for item in written)),
    )


def _write_recording(root: Path, config: SynthConfig, planned: PlannedRecording) -> _Written:
    """Draw and write one recording. Runs in a worker process."""
    x_CT, y_T = draw_recording(config, planned)
    windows_NCT, labels_NT = cut_windows(x_CT), cut_windows(y_T)
    labelled = planned.kind is not Kind.UNLABELLED
    path = root / planned.split / planned.recording.cache_file
    write_npz(path, windows_NCT, labels_NT if labelled else None, level=config.level)
    return _Written(
        planned=planned,
        n_windows=len(windows_NCT),
        n_seizures=int(np.count_nonzero(np.diff(y_T, prepend=0.0) > 0)) if labelled else 0,
        ictal_shares=tuple(labels_NT.mean(axis=1, dtype=np.float64).tolist()) if labelled else (),
        npz_bytes=path.stat().st_size,
        array_bytes=windows_NCT.nbytes + (labels_NT.nbytes if labelled else 0),
    )


def _manifest(items: Sequence[_Written]) -> dict[str, list[dict[str, str | int]]]:
    categories: dict[str, list[dict[str, str | int]]] = {"partial_seizure": [], "full_seizure": [], "no_seizure": []}
    for item in items:
        for i, share in enumerate(item.ictal_shares):
            category = "full_seizure" if share >= FULL_SHARE else "partial_seizure" if share > 0 else "no_seizure"
            categories[category].append({"cache_file": item.planned.recording.cache_file, "window_idx": i})
    return categories


def _dataset_index(items: Sequence[_Written]) -> dict[str, list[str] | list[int]]:
    files = [_edf_path(item.planned.split, item.planned.recording) for item in items]
    return {"files": files, "window_counts": [item.n_windows for item in items]}


def _edf_path(split: str, recording: Recording) -> str:
    """Name the EDF that the recording would come from, in the corpus' layout."""
    session = f"{recording.session}_{2009 + int(recording.session[1:])}"
    stem = recording.cache_file.removesuffix("_windows.npz")
    return f"edf/{split}/{recording.patient}/{session}/01_tcp_ar/{stem}.edf"


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")
