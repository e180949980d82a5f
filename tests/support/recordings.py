"""Recordings' files as the users' tool writes them, and odd ones; and what `numpy.load` has of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.support.caches import seal_cache

CHANNELS, WINDOW, BLOCK = 19, 15360, 2560

Arrays = dict[str, np.ndarray]


class Window(NamedTuple):
    """One window as `numpy.load` has it, as float32."""

    cache_file: str
    number: int
    window: np.ndarray
    labels: np.ndarray | None


def name_of(number: int) -> str:
    """Return a cache file's name; each number is a patient."""
    return f"{chr(ord('a') + number // 26)}{chr(ord('a') + number % 26)}_s001_t000_windows.npz"


def sliced(x: np.ndarray, windows: int, step: int = 1) -> np.ndarray:
    """Cut (..., T) into windows, one every `step` blocks, as the users' tool does: plain slices."""
    starts = [window * step * BLOCK for window in range(windows)]
    return np.array([x[..., start : start + WINDOW] for start in starts], x.dtype).reshape(
        windows, *x.shape[:-1], WINDOW
    )


def recording(windows: int, step: int = 1, *, seed: int = 0) -> Arrays:
    """Return a recording of noise within +-10 with one seizure in it, of `windows` windows every `step` blocks."""
    chance = np.random.default_rng(seed)
    length = (max(0, windows - 1) * step + 6) * BLOCK
    x_CT = np.clip(chance.standard_normal((CHANNELS, length), np.float32) * 3, -10, 10)
    y_T = np.zeros(length, np.float32)
    first = int(chance.integers(0, length))
    y_T[first : first + int(chance.integers(1, 2 * WINDOW))] = 1
    return {"windows": sliced(x_CT, windows, step), "labels": sliced(y_T, windows, step)}


def odd_recordings() -> dict[str, Arrays]:
    """Return one recording of every kind that a cache may hold, by what is odd about it."""
    chance = np.random.default_rng(7)
    found = {"as the users' tool writes it": recording(4, seed=1), "one window": recording(1, seed=2)}
    found |= {f"every {step}0 s": recording(3, step, seed=2 + step) for step in (2, 3, 4, 5, 6)}
    found["no windows"] = recording(0, seed=10)
    found["no windows, no labels"] = {"windows": np.empty((0, CHANNELS, WINDOW), np.float32)}
    found["no labels"] = {"windows": recording(3, seed=11)["windows"]}
    alone = recording(3, seed=12)
    found["normalised one by one"] = alone | {
        "windows": (alone["windows"] / alone["windows"].std(axis=2, keepdims=True)).astype(np.float32)
    }
    odd_values = recording(3, seed=13)["windows"][0].copy()
    odd_values[:, ::7] = -0.0
    odd_values[:, 1::11] = np.nan
    odd_values[:, 2::13] = np.inf
    odd_values[:, 3::17] = -np.inf
    odd_values[:, 4::19] = 1e-42
    odd_values[:, 5::23] = np.uint32(0x7FC0BEEF).view(np.float32)
    found["NaN, infinity, -0.0 and tiny values"] = {"windows": odd_values[None], "labels": np.ones((1, WINDOW), "f4")}
    flat = np.zeros((3, CHANNELS, WINDOW), np.float32)
    found["flat"] = {"windows": flat, "labels": np.zeros((3, WINDOW), np.float32)}
    found["flat but for a sign"] = {"windows": np.stack([flat[0], -flat[0]]), "labels": np.zeros((2, WINDOW), "f4")}
    base = recording(2, seed=14)["windows"]
    for value in (0.25, -0.0, np.nan, 255.0, 256.0, -1.0, np.inf, 1e30):
        labels = np.zeros((2, WINDOW), np.float32)
        labels[:, -100:] = value
        found[f"labels {value}"] = {"windows": base, "labels": labels}
    found["labels that do not overlap"] = {
        "windows": recording(3, seed=15)["windows"],
        "labels": np.repeat(np.array([0, 1, 0], np.float32), WINDOW).reshape(3, WINDOW),
    }
    usual = recording(2, seed=16)
    for dtype in (">f4", "<f8", ">f8"):
        found[f"windows and labels {dtype}"] = {key: array.astype(dtype) for key, array in usual.items()}
    for dtype in ("|b1", "<i8", ">u2", "|u1"):
        found[f"labels {dtype}"] = usual | {"labels": usual["labels"].astype(dtype)}
    found["Fortran"] = {key: np.asfortranarray(array) for key, array in usual.items()}
    found["another member"] = usual | {"notes": chance.integers(0, 9, 5)}
    return found


def write_split(root: Path, split: str, recordings: Mapping[str, Arrays], *, compressed: bool = False) -> None:
    """Write recordings, by their files' names, into a split of the cache at `root`."""
    (root / split).mkdir(parents=True, exist_ok=True)
    for name, arrays in recordings.items():
        save: Any = np.savez_compressed if compressed else np.savez
        save(root / split / name, **arrays)


def small_cache(root: Path, recordings: int = 5, *, windows: int = 2) -> Path:
    """Write and seal a cache of small recordings in `train`, and one in `dev`. Returns `root`."""
    write_split(root, "train", {name_of(number): recording(windows, seed=number) for number in range(recordings)})
    write_split(root, "dev", {name_of(recordings): recording(1, seed=99)})
    return seal_cache(root)


def as_numpy_has_it(root: Path, split: str) -> list[Window]:
    """Return all windows of a split, by name, then in order."""
    found = []
    for path in sorted((root / split).glob("*.npz")):
        with np.load(path) as archive:
            windows = archive["windows"].astype(np.float32)
            labels = archive["labels"].astype(np.float32) if "labels" in archive else [None] * len(windows)
        found += [Window(path.name, number, *both) for number, both in enumerate(zip(windows, labels, strict=True))]
    return found


def same_bits(expected: np.ndarray | None, actual: np.ndarray | None) -> bool:
    """Whether two arrays of float32 have the same shape and bits, or both are None."""
    if expected is None or actual is None:
        return expected is actual
    return (expected.shape, expected.dtype, expected.tobytes()) == (actual.shape, actual.dtype, actual.tobytes())
