"""What window manifest and dataset index must be: the users' files, read strictly, rebuilt alike, told when stale."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache import read_windows, tusz_index, tusz_windows
from tusz_cache.errors import Damaged, UsageError
from tusz_cache.synth import SIZES, write_cache
from tusz_cache.tusz_index import DatasetIndex
from tusz_cache.tusz_windows import CacheFile, Category, WindowManifest, categories, ictal_shares, rebuild

NAMES = [f"{patient}_s001_t00{token}_windows.npz" for patient in ("aa", "ab", "b") for token in range(2)]
SHARES = st.lists(st.sampled_from([0.0, 1 / 15360, 0.5, 0.98, 0.99, 1.0]), max_size=4)
SPLITS = st.dictionaries(st.sampled_from(NAMES), st.none() | SHARES.map(np.array))
KEYS = ("partial_seizure", "full_seizure", "no_seizure")


def as_the_tool_writes_it(shares_by_file: dict[str, np.ndarray | None]) -> dict[str, list[dict[str, Any]]]:
    """Return the manifest as the users' tool makes it: by files in order of name, a window after the other."""
    manifest: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS}
    for name in sorted(shares_by_file):
        shares = shares_by_file[name]
        for window, share in enumerate([] if shares is None else shares):
            key = "no_seizure" if share == 0 else "full_seizure" if share >= 0.99 else "partial_seizure"
            manifest[key].append({"cache_file": name, "window_idx": window})
    return manifest


def files_of(shares_by_file: dict[str, np.ndarray | None], unlabelled: int = 3) -> list[CacheFile]:
    return [CacheFile(name, unlabelled if s is None else len(s), s is not None) for name, s in shares_by_file.items()]


def example() -> dict[str, np.ndarray | None]:
    return {
        "b_s001_t000_windows.npz": np.array([0.0, 0.5, 1.0]),
        "aa_s001_t001_windows.npz": np.array([0.2, 0.0]),
        "aa_s001_t000_windows.npz": None,
        "ab_s001_t000_windows.npz": np.array([]),
    }


def read(value: Any) -> WindowManifest:
    return tusz_windows.from_bytes(json.dumps(value).encode(), path="train/manifest.json")


# from labels


def test_a_cache_is_rebuilt_as_it_was_written(tmp_path: Path):
    """From the labels of a cache, all kinds of recordings in it, come the manifest and index that lie beside them."""
    write_cache(tmp_path, replace(SIZES["tiny"], train_patients=5, length_s=(80.0, 100.0)))

    for split in ("train", "dev"):
        manifest = tusz_windows.from_bytes((tmp_path / split / "manifest.json").read_bytes(), path="")
        index = tusz_index.from_bytes((tmp_path / split / "_dataset_index.json").read_bytes(), path="")
        read_files = {path.name: read_windows(path) for path in (tmp_path / split).glob("*.npz")}
        shares = {name: None if labels is None else ictal_shares(labels) for name, (_, labels) in read_files.items()}
        held = [CacheFile(name, len(windows), labels is not None) for name, (windows, labels) in read_files.items()]

        assert manifest == rebuild(shares)
        assert () == tusz_windows.differences(manifest, held)
        assert () == tusz_index.differences(index, held)
        assert (index.cache_files, index.window_counts) == (
            tusz_index.rebuild(held).cache_files,
            tusz_index.rebuild(held).window_counts,
        )


@given(SPLITS)
def test_a_rebuilt_manifest_is_the_tools(shares_by_file: dict[str, np.ndarray | None]):
    """Rebuilt, written and read: the same rows in the same order, and the same bytes, as from the users' tool."""
    manifest = rebuild(shares_by_file)
    value = as_the_tool_writes_it(shares_by_file)

    assert json.dumps(value, indent=2).encode() == tusz_windows.to_bytes(manifest)
    assert read(value) == manifest
    assert () == tusz_windows.differences(manifest, files_of(shares_by_file))


@pytest.mark.parametrize(
    ("ictal", "expected"),
    [
        (0, Category.NONE),
        (1, Category.PARTIAL),
        (15206, Category.PARTIAL),
        (15207, Category.FULL),
        (15360, Category.FULL),
    ],
)
def test_a_category_is_a_share_of_samples(ictal: int, expected: Category):
    """A window is in full seizure from 0.99 of its 15,360 samples, and in part from the first."""
    labels = np.zeros((2, 15360), np.float32)
    labels[0, :ictal] = 1

    assert [expected, Category.NONE] == categories(ictal_shares(labels)).tolist()


def test_a_label_counts_from_above_zero():
    """As in the users' tool: soft labels count whole, negative ones and NaN not at all."""
    labels = np.array([[0.5, 2.0, 0.0, -1.0, np.nan], [1, 1, 1, 1, 1]], np.float32)

    assert [0.4, 1.0] == ictal_shares(labels).tolist()
    assert (0,) == ictal_shares(np.empty((0, 15360), np.float32)).shape


# the value


def test_a_manifest_is_read_only_columns():
    """Hundreds of thousands of windows are three small columns that nobody changes."""
    manifest = rebuild(example())

    assert 5 == len(manifest)
    assert [np.int32, np.int32, np.uint8] == [
        column.dtype for column in (manifest.file_numbers, manifest.windows, manifest.categories)
    ]
    for column in (manifest.file_numbers, manifest.windows, manifest.categories):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_windows_are_counted_by_category_file_and_patient():
    """Each window counts once in each of the tables; files that the manifest does not name are in none."""
    manifest = rebuild(example())

    assert Counter({Category.PARTIAL: 2, Category.FULL: 1, Category.NONE: 2}) == manifest.counts()
    assert ("aa_s001_t001_windows.npz", "b_s001_t000_windows.npz") == manifest.files
    assert [[1, 0, 1], [1, 1, 1]] == manifest.counts_by_file().tolist()
    assert {
        "aa": {Category.PARTIAL: 1, Category.FULL: 0, Category.NONE: 1},
        "b": {Category.PARTIAL: 1, Category.FULL: 1, Category.NONE: 1},
    } == manifest.counts_by_patient()


@given(SPLITS)
def test_counts_add_up(shares_by_file: dict[str, np.ndarray | None]):
    """Counts by file and by patient have the same sums as the categories, whose rows stand together."""
    manifest = rebuild(shares_by_file)
    counts = manifest.counts()
    patients = manifest.counts_by_patient()

    assert len(manifest) == counts.total()
    assert [counts[category] for category in Category] == manifest.counts_by_file().sum(axis=0).tolist()
    assert counts == sum(patients.values(), Counter())
    for category in Category:
        assert {category} >= set(manifest.categories[manifest.rows(category)].tolist())


def test_a_file_that_tells_no_patient_is_not_counted_under_any():
    """There is no unknown patient."""
    with pytest.raises(UsageError, match=r"odd\.npz"):
        rebuild({"odd.npz": np.array([0.0])}).counts_by_patient()


@pytest.mark.parametrize("column", ["file_numbers", "windows", "categories"])
def test_manifests_are_equal_by_value(column: str):
    """Each column counts."""
    manifest = rebuild(example())
    other = replace(manifest, **{column: getattr(manifest, column) + 1})

    assert rebuild(example()) == manifest
    assert other != manifest
    assert replace(manifest, files=("x", "y")) != manifest
    assert manifest != 5


# the files


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {key: [] for key in KEYS[:2]},
        {key: [] for key in (*KEYS, "other")},
        {key: {} for key in KEYS},
        dict.fromkeys(KEYS),
        *(
            {"partial_seizure": [], "full_seizure": [], "no_seizure": [item]}
            for item in (
                None,
                {},
                "a",
                ["a", 1],
                {"cache_file": "a"},
                {"cache_file": "a", "window_idx": -1},
                {"cache_file": "a", "window_idx": 2**31},
                {"cache_file": "a", "window_idx": 2**70},
                {"cache_file": "a", "window_idx": 1.0},
                {"cache_file": "a", "window_idx": True},
                {"cache_file": "a", "window_idx": "1"},
                {"cache_file": 5, "window_idx": 1},
                {"cache_file": "a", "window_idx": 1, "more": 1},
            )
        ),
    ],
)
def test_what_is_no_manifest_is_refused(value: Any):
    """Nothing is guessed, and the error names the file."""
    with pytest.raises(Damaged, match=r"train/manifest\.json is no window manifest"):
        read(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"partial_seizure": [' + b"[" * 5000])
def test_what_is_no_json_is_refused(data: bytes):
    """A file that a killed process left half written is an error with a next step."""
    with pytest.raises(Damaged) as caught:
        tusz_windows.from_bytes(data, path="train/manifest.json")
    assert "rebuilt" in caught.value.hint
    with pytest.raises(Damaged) as caught:
        tusz_index.from_bytes(data, path="train/_dataset_index.json")
    assert "rebuilt" in caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"files": []},
        {"files": [], "window_counts": [], "more": 1},
        {"files": ["a"], "window_counts": []},
        {"files": ["a"], "window_counts": [-1]},
        {"files": ["a"], "window_counts": [1.0]},
        {"files": ["a"], "window_counts": [True]},
        {"files": [1], "window_counts": [1]},
        {"files": "a", "window_counts": [1]},
        {"files": ["a"], "window_counts": 1},
    ],
)
def test_what_is_no_index_is_refused(value: Any):
    """Nothing is guessed, and the error names the file."""
    with pytest.raises(Damaged, match=r"dev/_dataset_index\.json is no dataset index"):
        tusz_index.from_bytes(json.dumps(value).encode(), path="dev/_dataset_index.json")


def test_an_index_survives_its_file():
    """Written as the users' tool writes it, and read."""
    index = DatasetIndex(("edf/a/aa_s001_t000.edf", "b_s001_t000.edf"), (0, 7))
    data = tusz_index.to_bytes(index)

    assert json.dumps({"files": list(index.files), "window_counts": [0, 7]}).encode() == data
    assert index == tusz_index.from_bytes(data, path="")
    assert ("aa_s001_t000_windows.npz", "b_s001_t000_windows.npz") == index.cache_files


# stale


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gone": None}, ["names files that are not there: b_s001_t000"]),
        ({"labels gone": None}, ["names files without labels: b_s001_t000"]),
        ({"shorter": 2}, ["names windows that files do not have: b_s001_t000"]),
        ({"longer": 4}, ["lacks windows of files: b_s001_t000"]),
        ({"new": 1}, ["lacks windows of files: c_s001_t000"]),
        ({"new": 0}, []),
    ],
)
def test_a_stale_manifest_is_told(change: dict[str, int | None], said: list[str]):
    """Files that came, went, grew, shrank or lost their labels since are named."""
    files = {file.name: file for file in files_of(example())}
    name = "b_s001_t000_windows.npz"
    match list(change.items()):
        case [("gone", _)]:
            del files[name]
        case [("labels gone", _)]:
            files[name] = CacheFile(name, 3, is_labelled=False)
        case [("new", int(n_windows))]:
            files["c"] = CacheFile("c_s001_t000_windows.npz", n_windows)
        case [(_, int(n_windows))]:
            files[name] = CacheFile(name, n_windows)

    actual = tusz_windows.differences(rebuild(example()), files.values())
    assert [f"{line}_windows.npz" for line in said] == list(actual)


def test_a_window_named_twice_is_told():
    """Also when it is named in two categories, and a window named twice does not stand for another that is missing."""
    value = as_the_tool_writes_it({"a": np.array([0.0, 0.0])})
    value["full_seizure"] = value["no_seizure"][:1]
    value["no_seizure"].pop()

    said = tusz_windows.differences(read(value), [CacheFile("a", 2)])
    assert ("lacks windows of files: a", "names 1 windows more than once") == said


def test_an_empty_manifest_fits_a_split_without_windows_only():
    """A manifest that was written before the recordings came is stale."""
    empty = read({key: [] for key in KEYS})

    assert 0 == len(empty)
    assert () == tusz_windows.differences(empty, [])
    assert () == tusz_windows.differences(empty, [CacheFile("a", 0), CacheFile("b", 3, is_labelled=False)])
    assert ("lacks windows of files: a, b, c, d, e and 5 more",) == tusz_windows.differences(
        empty, [CacheFile(name, 1) for name in "abcdefghij"]
    )


@pytest.mark.parametrize(
    ("files", "counts", "said"),
    [
        (("a.edf", "b.edf"), (1, 2), ()),
        (("x/b.edf", "y/a.edf"), (2, 1), ()),
        (("a.edf",), (1,), ("lacks files: b_windows.npz",)),
        (("a.edf", "b.edf", "c.edf"), (1, 2, 3), ("names files that are not there: c_windows.npz",)),
        (("a.edf", "b.edf"), (1, 3), ("counts windows wrongly: b_windows.npz",)),
        (("a.edf", "b.edf", "x/a.edf"), (1, 2, 1), ("names files twice: a_windows.npz",)),
    ],
)
def test_a_stale_index_is_told(files: tuple[str, ...], counts: tuple[int, ...], said: tuple[str, ...]):
    """Every file is there once with its number of windows, in any order."""
    held = [CacheFile("a_windows.npz", 1), CacheFile("b_windows.npz", 2, is_labelled=False)]

    assert said == tusz_index.differences(DatasetIndex(files, counts), held)
