"""What a packed store must be: the cache's windows bit for bit, however they are read and wherever."""

import multiprocessing
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.caches import seal_cache
from tests.support.recordings import (
    CHANNELS,
    WINDOW,
    Window,
    as_numpy_has_it,
    name_of,
    odd_recordings,
    recording,
    same_bits,
    small_cache,
    write_split,
)
from tests.support.running import run
from tusz_cache import CacheGuard, WindowStore, open_store, pack_cache
from tusz_cache.errors import UsageError
from tusz_cache.packing import splitting
from tusz_cache.progress import Progress
from tusz_cache.synth import SIZES, write_cache

ODD = odd_recordings()
HOW = ["mmap", "pread", "npz"]


@pytest.fixture(scope="module")
def workspace(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a place with a cache of every odd recording, and its packed store in several shards."""
    root = ground / "odd"
    odd = {name_of(number): arrays for number, arrays in enumerate(ODD.values())}
    write_split(root / "cache", "train", {name: odd[name] for name in list(odd)[::2]}, compressed=True)
    write_split(root / "cache", "train", {name: odd[name] for name in list(odd)[1::2]})
    write_split(root / "cache", "dev", {"zz_s001_t000_windows.npz": recording(0)})
    seal_cache(root / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "SHARD_BYTES", 12_000_000)
        pack_cache(root / "cache", root / "store", workers=2)
    return root


@pytest.fixture(scope="module")
def truth(workspace: Path) -> list[Window]:
    return as_numpy_has_it(workspace / "cache", "train")


def opened(workspace: Path, how: str, split: str = "train") -> WindowStore:
    if how == "npz":
        return open_store(workspace / "cache", split)
    return open_store(workspace / "store", split, backend=how)


def differing(store: WindowStore, truth: list[Window]) -> list[tuple[str, int]]:
    """Return the windows of `store` that are not, bit for bit, as they should be."""
    assert len(truth) == len(store)
    return [
        (window.cache_file, window.number)
        for window, (x_CT, y_T) in zip(truth, store, strict=True)
        if not (same_bits(window.window, x_CT) and same_bits(window.labels, y_T))
    ]


# every bit


@pytest.mark.parametrize("how", HOW)
def test_every_odd_recording_reads_as_numpy_has_it(workspace: Path, truth: list[Window], how: str):
    """Strides, storage, types, missing labels, NaN, signs of zero: windows and labels are numpy.load's, bit for bit."""
    assert [] == differing(opened(workspace, how), truth)


@pytest.mark.parametrize("how", HOW)
def test_a_synthetic_cache_reads_as_numpy_has_it(room: Path, how: str):
    """All kinds of recordings that the corpus has come out as they went in, through the command, in both splits."""
    write_cache(room / "cache", SIZES["tiny"])
    seal_cache(room / "cache")
    ran = run("pack", room / "cache", room / "store", "--durability", "none", "--json")

    assert 0 == ran.code, ran.err
    for split in ("train", "dev"):
        truth = as_numpy_has_it(room / "cache", split)
        assert len(truth) == ran.json["splits"][split]["windows"] > 0
        assert [] == differing(opened(room, how, split), truth)


def test_overlap_is_kept_once(workspace: Path):
    """Windows every 10 to 50 s that are slices of one recording are kept as that recording, others as they are."""
    rows = {row.cache_file: row for row in open_store(workspace / "store", "train").index.recordings}
    steps = {what: rows[name_of(number)].step for number, what in enumerate(ODD)}

    assert 1 == steps["as the users' tool writes it"]
    assert [2, 3, 4, 5, 6] == [steps[f"every {step}0 s"] for step in (2, 3, 4, 5, 6)]
    assert 6 == steps["normalised one by one"] == steps["flat but for a sign"] == steps["labels that do not overlap"]
    assert 1 == steps["flat"] == steps["one window"]
    assert rows[name_of(0)].blocks == 9


def test_a_split_without_windows_is_an_empty_store(workspace: Path):
    """Recordings under a minute give a store of no windows, which reads as such."""
    for how in HOW:
        store = opened(workspace, how, "dev")
        windows, labels = store.read_batch([])
        assert (0, [], (0, CHANNELS, WINDOW), (0, WINDOW)) == (len(store), [*store], windows.shape, labels.shape)
        with pytest.raises(IndexError):
            store[0]


@settings(max_examples=25)
@given(data=st.data())
def test_any_small_cache_reads_as_numpy_has_it(ground: Path, data: st.DataObject):
    """Whatever the numbers of windows, strides, labels, value types and cuts between shards, every bit is kept."""
    kinds = st.sampled_from(["whole", "none", "fractions", "negative zero", "apart", "doubles"])
    drawn = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6), kinds), min_size=1, max_size=5))
    shard = data.draw(st.sampled_from([1, 1_500_000, 4_000_000, 1 << 31]))
    made = {}
    for number, (windows, step, kind) in enumerate(drawn):
        arrays = recording(windows, step, seed=number)
        if kind == "none":
            del arrays["labels"]
        elif kind == "fractions":
            arrays["labels"] *= np.float32(0.3)
        elif kind == "negative zero":
            arrays["labels"] *= np.float32(-1)
        elif kind == "apart":
            arrays["windows"] *= np.arange(1, windows + 1, dtype=np.float32)[:, None, None]
        elif kind == "doubles":
            arrays["windows"] = arrays["windows"].astype(np.float64)
        made[name_of(number)] = arrays
    with tempfile.TemporaryDirectory(dir=ground) as directory, pytest.MonkeyPatch.context() as patch:
        root = Path(directory)
        write_split(root / "cache", "train", made)
        seal_cache(root / "cache")
        patch.setattr(splitting, "SHARD_BYTES", shard)
        pack_cache(root / "cache", root / "store", workers=2, progress=Progress("quiet"))

        truth = as_numpy_has_it(root / "cache", "train")
        for how in HOW:
            assert [] == differing(opened(root, how), truth)
        assert () == open_store(root / "store", "train").verify()


# reading


@pytest.mark.parametrize("how", HOW)
def test_batches_are_rows_of_windows(workspace: Path, truth: list[Window], how: str):
    """A batch has the windows asked for in the order asked for, from the end and twice too; no labels are NaN."""
    store = opened(workspace, how)
    wanted = np.random.default_rng(3).integers(-len(truth), len(truth), 40)
    windows_BCT, labels_BT = store.read_batch(wanted)

    assert same_bits(np.stack([truth[i].window for i in wanted]), windows_BCT)
    for row, i in enumerate(wanted):
        labels = truth[i].labels
        assert np.isnan(labels_BT[row]).all() if labels is None else same_bits(labels, labels_BT[row])


@pytest.mark.parametrize("how", HOW)
def test_a_batch_fills_the_arrays_that_are_given(workspace: Path, truth: list[Window], how: str):
    """`out` is filled in place and returned."""
    store = opened(workspace, how)
    out = np.full((3, CHANNELS, WINDOW), 5, np.float32), np.full((3, WINDOW), 5, np.float32)
    found = store.read_batch([4, 0, -1], out)

    assert (True, True) == (found[0] is out[0], found[1] is out[1])
    assert same_bits(np.stack([truth[i].window for i in (4, 0, -1)]), out[0])


@pytest.mark.parametrize("how", HOW)
def test_a_batch_begins_where_copying_is_fast(workspace: Path, how: str):
    """The arrays that a batch is read to begin at a multiple of 64 bytes, unlike numpy's own large ones."""
    assert [0, 0] == [array.ctypes.data % 64 for array in opened(workspace, how).read_batch([0, 1, 2])]


@pytest.mark.parametrize("how", HOW)
def test_arrays_that_do_not_fit_are_refused(workspace: Path, how: str):
    """Another shape, type or order of `out`, or one that is read-only, is a UsageError that says what is wanted."""
    store = opened(workspace, how)
    windows, labels = np.empty((2, CHANNELS, WINDOW), np.float32), np.empty((2, WINDOW), np.float32)
    frozen = windows.copy()
    frozen.flags.writeable = False
    for wrong in (
        windows[:1],
        windows.astype(np.float64),
        windows.transpose(0, 2, 1),
        np.asfortranarray(windows),
        frozen,
    ):
        with pytest.raises(UsageError, match="out has an array") as raised:
            store.read_batch([0, 1], (wrong, labels))
        assert "C-contiguous" in raised.value.hint


@pytest.mark.parametrize("how", HOW)
def test_indices_are_those_of_a_list(workspace: Path, truth: list[Window], how: str):
    """Negative indices count from the end; beyond either end is IndexError; what is no whole number is refused."""
    store = opened(workspace, how)

    assert same_bits(truth[-1].window, store[-1][0])
    assert same_bits(truth[0].window, store[-len(truth)][0])
    for beyond in (len(truth), -len(truth) - 1, 1 << 62):
        for read in (store.__getitem__, store.locate, lambda i: store.read_batch([0, i])):
            with pytest.raises(IndexError):
                read(beyond)
    for wrong in ([0.5], [True, False], [[0, 1]], ["0"], [None]):
        with pytest.raises(UsageError, match="indices"):
            store.read_batch(wrong)


@pytest.mark.parametrize("how", HOW)
def test_every_window_can_be_located(workspace: Path, truth: list[Window], how: str):
    """Windows stand in the order of file names, then of time, and `locate` says which one an index is."""
    store = opened(workspace, how)

    assert [(window.cache_file, window.number) for window in truth] == [store.locate(i) for i in range(len(store))]
    assert (truth[-2].cache_file, truth[-2].number) == store.locate(-2)
    assert sorted(name_of(number) for number in range(len(ODD))) == list(store.cache_files)


@pytest.mark.parametrize("how", ["mmap", "pread"])
def test_blocks_are_windows_as_they_are_stored(workspace: Path, truth: list[Window], how: str):
    """`read_blocks` gives (B, 6, 19, 2560), the same samples, with and without `out`."""
    store = opened(workspace, how)
    out = np.empty((3, 6, CHANNELS, 2560), np.float32)
    blocks = store.read_blocks([7, -1, 0])

    assert store.read_blocks([7, -1, 0], out) is out
    assert same_bits(blocks, out)
    windows = np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(3, CHANNELS, WINDOW)
    assert same_bits(np.stack([truth[i].window for i in (7, -1, 0)]), windows)
    with pytest.raises(UsageError, match="out has an array"):
        store.read_blocks([7, -1, 0], out.astype(np.int16))


def read_all(store: WindowStore, truth: list[Window], answers: "multiprocessing.Queue[object]") -> None:
    answers.put(differing(store, truth))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same(workspace: Path, truth: list[Window], how: str, method: str):
    """A used store goes to forked and spawned processes, admitted or by path, and reads the same there."""
    context = multiprocessing.get_context(method)
    root = workspace / ("cache" if how == "npz" else "store")
    with CacheGuard().admit(root) as admitted:
        for there in (root, admitted):
            store = open_store(there, "train", backend="auto" if how == "npz" else how)
            assert same_bits(truth[0].window, store[0][0])
            answers = context.Queue()
            worker = context.Process(target=read_all, args=(store, truth, answers))
            worker.start()
            answer = answers.get(timeout=60)
            worker.join()
            assert [] == answer


@pytest.mark.parametrize("how", HOW)
def test_a_store_goes_through_pickle(workspace: Path, truth: list[Window], how: str):
    """A copy by pickle reads the same, and the original goes on reading."""
    store = opened(workspace, how)
    copy = pickle.loads(pickle.dumps(store))

    assert [] == differing(copy, truth) == differing(store, truth)


@pytest.mark.parametrize("how", HOW)
def test_threads_may_share_a_store(workspace: Path, truth: list[Window], how: str):
    """Threads that read one store in different orders all get the right windows."""
    store, wrong = opened(workspace, how), []

    def read(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(truth))
        wrong.extend(i for i in order if not same_bits(truth[i].window, store[i][0]))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong


def test_what_is_read_is_the_caller_s(workspace: Path, truth: list[Window]):
    """Writing into what a store returned changes neither the store nor what is read next."""
    for how in HOW:
        store = opened(workspace, how)
        window, _ = store[0]
        window.fill(3)
        assert same_bits(truth[0].window, store[0][0])


def test_a_batch_is_whole_where_the_file_system_gives_little_at_once(
    workspace: Path, truth: list[Window], monkeypatch: pytest.MonkeyPatch
):
    """Reads that give less than they were asked for go on where they ended."""
    whole: Callable[..., int] = os.preadv
    monkeypatch.setattr(
        "os.preadv", lambda fd, pieces, offset: whole(fd, [memoryview(pieces[0]).cast("B")[:1777]], offset)
    )
    store = opened(workspace, "pread")

    assert same_bits(truth[3].window, store[3][0])


# int16


def test_int16_errs_by_what_the_index_says(room: Path):
    """The stated error is the measured one, at most half a step; labels keep every bit, in half the bytes."""
    small_cache(room / "cache", 4)
    report = pack_cache(room / "cache", room / "store", dtype="int16")
    exact = pack_cache(room / "cache", room / "exact")
    truth = as_numpy_has_it(room / "cache", "train")
    for backend in ("mmap", "pread"):
        store = open_store(room / "store", "train", backend=backend)
        windows_BCT, labels_BT = store.read_batch(range(len(truth)))
        errors = np.abs(windows_BCT - np.stack([window.window for window in truth]))

        assert store.index.max_error == float(errors.max()) == report.max_error > 0
        assert store.index.max_error <= store.index.scale / 2 + 1e-6
        assert same_bits(np.stack([window.labels for window in truth]), labels_BT)
        numbers = store.read_blocks([0, 1])
        assert np.int16 == numbers.dtype
        restored = (numbers * np.float32(store.index.scale)).transpose(0, 2, 1, 3).reshape(2, CHANNELS, WINDOW)
        assert same_bits(windows_BCT[:2], restored)
    assert 0.49 < report.splits["train"].bytes_out / exact.splits["train"].bytes_out < 0.52
    assert exact.max_error == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 10.001, -11.0])
def test_int16_refuses_what_it_cannot_hold(room: Path, value: float):
    """A sample that is not finite or beyond +-10 is exit 2, names the file, and says what to do; float32 then works."""
    arrays = recording(1)
    arrays["windows"][0, 3, 77] = value
    write_split(room / "cache", "train", {name_of(0): arrays})
    seal_cache(room / "cache")
    ran = run("pack", room / "cache", room / "store", "--dtype", "int16")

    assert 2 == ran.code
    assert name_of(0) in ran.err
    assert "--dtype float32" in ran.err
    assert 0 == run("pack", room / "cache", room / "store").code
    assert [] == differing(opened(room, "mmap"), as_numpy_has_it(room / "cache", "train"))


def test_int16_holds_the_ends_of_its_range(room: Path):
    """Exactly +-10 and zero come back exactly."""
    arrays = recording(1)
    arrays["windows"][0, :, ::3] = 10
    arrays["windows"][0, :, 1::3] = -10
    arrays["windows"][0, :, 2::3] = 0
    write_split(room / "cache", "train", {name_of(0): arrays})
    seal_cache(room / "cache")
    pack_cache(room / "cache", room / "store", dtype="int16")
    window, _ = open_store(room / "store", "train")[0]

    assert np.allclose(arrays["windows"][0], window, rtol=0, atol=1e-6)
