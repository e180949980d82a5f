"""What reading for training must be: the store's windows, alike by every way, in the sampler's order, and only read."""

import json
import pickle
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.caches import seal_cache
from tests.support.manifests import manifest_of
from tests.support.mounting import bind, mount, private_mounts
from tests.support.recordings import recording, write_split
from tests.support.running import state
from tests.train.conftest import HOW
from tusz_cache import AdmittedCache, CacheGuard, CacheRefused, Damaged, UsageError, open_store
from tusz_cache.errors import PatientOverlap
from tusz_cache.tusz_windows import rebuild
from tusz_train.data.dataset import WindowDataset, open_datasets
from tusz_train.data.feed import CudaFeed, unfold
from tusz_train.data.loader import make_loader
from tusz_train.data.sampler import EvaluationSampler, UnbalancedBatchSampler

WAYS: dict[str, dict[str, Any]] = {
    "here": {},
    "threads": {"threads": 2},
    "one process": {"workers": 1, "start": "fork"},
    "four processes": {"workers": 4, "start": "fork", "prefetch": 1},
    "spawned": {"workers": 1, "start": "spawn"},
}
SIZE = 4  # windows of a batch

pytestmark = pytest.mark.filterwarnings(
    # Python says it of every fork beside a thread, which torch's workers are
    "ignore:This process .* is multi-threaded:DeprecationWarning",
    # torch counts the cores, of which this machine may have fewer than workers
    "ignore:This DataLoader will create:UserWarning",
)


@pytest.fixture
def train(admitted: dict[str, AdmittedCache]) -> WindowDataset:
    return open_datasets(admitted["float32"])["train"]


def shuffled(dataset: WindowDataset, **options: Any) -> UnbalancedBatchSampler:
    return UnbalancedBatchSampler(dataset.manifest, SIZE, seed=1, **options)


def feed(dataset: WindowDataset, way: str = "here", **options: Any) -> CudaFeed:
    return CudaFeed(make_loader(dataset, shuffled(dataset), **WAYS[way]), "cpu", scale=dataset.scale, **options)


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists of batches hold the same bits."""
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair, also in zip(one, other, strict=True) for a, b in zip(pair, also, strict=True)
    )


# the dataset


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_dataset_has_the_labelled_windows(admitted: dict[str, AdmittedCache], how: str, split: str):
    """Row i of the manifest is window i of the dataset, bit for bit as the store has it, alone and in a batch."""
    dataset = open_datasets(admitted[how])[split]
    store = open_store(admitted[how], split)
    manifest = dataset.manifest
    number = {store.locate(i): i for i in range(len(store))}

    assert len(manifest) == len(dataset) == sum(labels is not None for _, labels in store)
    rows = list(range(len(dataset)))[::-1]
    x_BCT, y_BT = dataset.__getitems__(rows)
    for row in rows:
        window, labels = store[number[manifest.files[manifest.file_numbers[row]], int(manifest.windows[row])]]
        assert (window.tobytes(), labels.tobytes()) == tuple(t.numpy().tobytes() for t in dataset[row])
        assert (window.tobytes(), labels.tobytes()) == (
            x_BCT[rows.index(row)].numpy().tobytes(),
            y_BT[rows.index(row)].numpy().tobytes(),
        )
    assert len(store) - len(dataset) == dataset.left_out
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("how", HOW)
def test_the_same_order_however_it_is_stored(admitted: dict[str, AdmittedCache], how: str):
    """A run that began on NPZ files goes on from the packed store: windows and their order have one identity."""
    state = shuffled(open_datasets(admitted["npz"])["train"]).state_dict()

    assert state == shuffled(open_datasets(admitted[how])["train"]).state_dict()


@pytest.mark.parametrize("how", HOW[1:])
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_store_has_the_recordings_of_its_cache(admitted: dict[str, AdmittedCache], how: str, split: str):
    """Names, numbers of windows and labels tell a store's cache where it has neither seal nor manifest."""
    assert open_store(admitted["npz"], split).recordings == open_store(admitted[how], split).recordings


def test_a_loader_of_torch_alone_does(train: WindowDataset):
    """DataLoader with a dataset, a sampler and `collate` is enough: nothing else is needed."""
    plain = DataLoader(train, batch_sampler=shuffled(train), collate_fn=train.collate)

    assert same(list(feed(train)), list(plain))


def test_raw_windows_unfold_to_the_stores(admitted: dict[str, AdmittedCache]):
    """int16 blocks, unfolded, are what the store's own reading gives, to the bit, and go through the feed."""
    raw = open_datasets(admitted["int16"], raw=True)["train"]
    usual = open_datasets(admitted["int16"])["train"]
    rows = list(range(0, len(raw), 3))
    blocks, y_BT = raw.read(rows)

    assert (torch.int16, (len(rows), 6, 19, 2560)) == (blocks.dtype, tuple(blocks.shape))
    assert raw.scale is not None
    assert same([usual.read(rows)], [(unfold(blocks, raw.scale), y_BT)])
    assert same(list(feed(usual)), list(feed(raw, "threads")))
    x_BCT, _ = next(iter(feed(raw, dtype=torch.bfloat16)))
    assert torch.bfloat16 == x_BCT.dtype
    with pytest.raises(UsageError, match="scale"):
        next(iter(CudaFeed(make_loader(raw, shuffled(raw)), "cpu")))


@pytest.mark.parametrize("how", ["npz", "float32"])
def test_only_int16_can_be_raw(admitted: dict[str, AdmittedCache], how: str):
    """Raw reading of anything else is refused."""
    with pytest.raises(UsageError, match="int16"):
        open_datasets(admitted[how], raw=True)


# failures of the tool before


def test_failure_2_a_missing_label_is_an_error_never_zeros(admitted: dict[str, AdmittedCache]):
    """A manifest that names windows of a recording without labels is refused, as is a split without any labels."""
    store = open_store(admitted["npz"], "train")
    bare = next(file for file in store.recordings if not file.is_labelled and file.n_windows)
    with pytest.raises(Damaged, match=rf"{bare.name} of train has no labels"):
        WindowDataset(store, rebuild({bare.name: np.zeros(bare.n_windows)}))
    with pytest.raises(UsageError, match="no window of train has labels"):
        WindowDataset(store, rebuild({bare.name: None}))


@pytest.mark.parametrize("way", ["here", "threads", "one process", "spawned"])
def test_failure_2_labels_that_are_no_numbers_are_an_error(ground: Path, tmp_path: Path, way: str):
    """NaN among labels ends the run, and says where, from wherever it was read."""
    root = ground / f"nan-{way.replace(' ', '-')}"
    odd = recording(4)
    odd["labels"][2, 5] = np.nan
    write_split(root, "train", {"aa_s001_t000_windows.npz": odd})
    write_split(root, "dev", {"zz_s001_t000_windows.npz": recording(1)})
    seal_cache(root)
    with CacheGuard().admit(root) as cache:
        dataset = open_datasets(cache)["train"]

        with pytest.raises(Damaged, match=r"window 2 of aa_s001_t000_windows.npz of train has no labels") as raised:
            list(feed(dataset, way))
    assert (7, True) == (raised.value.exit_code, bool(raised.value.hint))


def test_failure_3_patients_in_two_splits_are_refused(ground: Path):
    """A patient in train and dev is refused before anything is read, even where a file has no windows."""
    root = ground / "overlap"
    write_split(root, "train", {"aa_s001_t000_windows.npz": recording(2), "ab_s001_t000_windows.npz": recording(2)})
    write_split(root, "dev", {"aa_s002_t000_windows.npz": recording(0), "zz_s001_t000_windows.npz": recording(1)})
    seal_cache(root)
    with CacheGuard().admit(root) as cache, pytest.raises(PatientOverlap, match="aa"):
        open_datasets(cache)


@pytest.mark.parametrize("how", HOW)
def test_failure_9_training_writes_nothing_into_the_cache(
    roots: dict[str, Path], admitted: dict[str, AdmittedCache], how: str
):
    """A limited run, a full one and an evaluation leave each file of the cache as it was, none added."""
    before = state(roots[how])
    for limits in ({"train": 2, "dev": 1}, None):
        datasets = open_datasets(admitted[how], limits=limits)
        for way in ("here", "one process"):
            for _ in feed(datasets["train"], way):
                pass
        for _ in make_loader(datasets["dev"], EvaluationSampler(datasets["dev"].manifest, SIZE)):
            pass

    assert before == state(roots[how])


def test_failure_14_classes_are_counted_without_reading_a_window(
    admitted: dict[str, AdmittedCache], monkeypatch: pytest.MonkeyPatch
):
    """Balance and counts come of the manifest: no window is read to know them."""
    datasets = open_datasets(admitted["npz"])
    monkeypatch.setattr(WindowDataset, "read", lambda *_: pytest.fail("a window was read"))
    counts = datasets["train"].manifest.counts()

    assert len(datasets["train"]) == counts.total()
    assert len(shuffled(datasets["train"])) == counts.total() // SIZE


def test_a_manifest_of_other_files_is_refused(admitted: dict[str, AdmittedCache]):
    """A manifest that names files or windows that the store lacks is refused."""
    store = open_store(admitted["npz"], "train")
    with pytest.raises(Damaged, match=r"names a0000_s001_t000_windows.npz, which is not there"):
        WindowDataset(store, manifest_of("npf"))
    file = next(file for file in store.recordings if file.is_labelled and file.n_windows)
    with pytest.raises(Damaged, match="windows that its files do not have"):
        WindowDataset(store, rebuild({file.name: np.zeros(file.n_windows + 1)}))


# ways of reading


@pytest.mark.parametrize(("how", "way"), [("npz", "here"), ("npz", "threads"), *(("float32", way) for way in WAYS)])
def test_every_way_gives_the_same_batches(admitted: dict[str, AdmittedCache], how: str, way: str):
    """Threads, forked and spawned processes, any number of them, or none: the same batches, for two epochs."""
    dataset = open_datasets(admitted[how])["train"]
    plain = shuffled(dataset)
    expected = []
    for epoch in range(2):
        plain.set_epoch(epoch)
        expected += [dataset.read(rows) for rows in plain]
    through = feed(dataset, way)

    assert same(expected, [*through, *through])


@pytest.mark.parametrize("way", ["here", "threads", "one process", "four processes"])
def test_a_stopped_loop_goes_on(train: WindowDataset, way: str):
    """A loop that stops at 37 % and begins again sees the rest of the epoch, though more had been read ahead."""
    expected = list(feed(train, way))
    stop = int(0.37 * len(expected))
    assert stop
    through = feed(train, way)

    assert same(expected, [*islice(through, stop), *through])


@pytest.mark.parametrize("way", ["here", "threads", "four processes"])
def test_a_saved_feed_goes_on(train: WindowDataset, way: str):
    """A feed's state counts what the loop took; another feed goes on with the next batch, and then the next epoch."""
    through = feed(train)
    expected = [*through, *through]
    first = feed(train, way)
    for number, _ in enumerate(first, 1):
        saved = json.loads(json.dumps(first.state_dict()))
        assert number == saved["consumed"]
        if number == 2:
            break
    second = feed(train, way)
    second.load_state_dict(saved)

    assert same(expected[2:], [*second, *second])
    assert (2, 0) == (second.state_dict()["epoch"], second.state_dict()["consumed"])


def test_a_position_behind_the_last_batch_ends_the_epoch(train: WindowDataset):
    """A state saved in the last step of an epoch yields nothing more of it, and then the next one."""
    first = feed(train)
    for _ in first:
        saved = first.state_dict()
    second = feed(train)
    second.load_state_dict(saved)

    assert [] == list(second)
    assert len(first) == len(list(second))


def test_evaluation_has_no_position(train: WindowDataset):
    """A feed of an evaluation goes through all of it each time, in the sampler's order."""
    sampler = EvaluationSampler(train.manifest, SIZE, stride=2)
    through = CudaFeed(make_loader(train, sampler, threads=1), "cpu")
    expected = [train.read(rows) for rows in sampler]

    assert same(expected, list(through))
    assert same(expected, list(through))
    with pytest.raises(UsageError):
        through.state_dict()


def test_batches_of_workers_are_shared_not_copied(train: WindowDataset):
    """A worker fills its batches in shared memory, from where the queue need not copy them."""
    for x_BCT, y_BT in make_loader(train, shuffled(train), **WAYS["one process"]):
        assert x_BCT.is_shared()
        assert y_BT.is_shared()


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_neither_workers_nor_ranks_change_what_is_seen(train: WindowDataset, workers: int, world: int):
    """The parts of all ranks together are the global batches, to the bit, for any number of ranks and workers."""
    expected = [train.read(rows) for rows in shuffled(train)]
    options = {"workers": workers, "start": "fork", "prefetch": 1}
    ranks = [make_loader(train, shuffled(train, rank=rank, world_size=world), **options) for rank in range(world)]
    found = [tuple(map(torch.cat, zip(*parts, strict=True))) for parts in zip(*ranks, strict=True)]

    assert same(expected, found)


def test_reading_leaves_the_global_random_numbers_alone(train: WindowDataset):
    """A resumed run finds torch's random state as it was, however many epochs were read."""
    before = torch.get_rng_state()
    for way in ("here", "one process"):
        list(feed(train, way))

    assert torch.equal(before, torch.get_rng_state())


def test_waiting_is_measured(train: WindowDataset):
    """The feed says how long the loop waited for data, for the last batch and in all, and how many it got."""
    through = feed(train)
    waits = [through.wait_s for _ in through]

    assert all(wait > 0 for wait in waits)
    assert sum(waits) == pytest.approx(through.waited_s)
    assert len(waits) == through.batches == len(through)


def test_a_thread_loader_ends_its_threads(train: WindowDataset):
    """A loop that stops early leaves no thread behind."""
    before = threading.active_count()
    through = iter(feed(train, "threads"))
    next(through)
    assert threading.active_count() > before
    del through

    assert before == threading.active_count()


def test_a_dataset_goes_through_pickle(train: WindowDataset):
    """A spawned worker's copy reads the same windows."""
    copy = pickle.loads(pickle.dumps(train))

    assert same([train.read([0, 5, 3])], [copy.read([0, 5, 3])])
    copy.cache.close()


@pytest.mark.parametrize(
    "options", [{"workers": 1, "threads": 1}, {"workers": -1}, {"threads": -1}, {"threads": 1, "prefetch": 0}]
)
def test_ways_that_do_not_go_together_are_refused(train: WindowDataset, options: dict[str, int]):
    """Processes and threads at once, or fewer than none, are refused."""
    with pytest.raises(UsageError):
        make_loader(train, shuffled(train), **options)


# the guard


@pytest.mark.parametrize("way", ["one process", "spawned"])
def test_a_mount_over_the_cache_is_noticed_when_workers_start(tmp_path: Path, way: str):
    """When another cache was mounted at the path since it was admitted, workers refuse it, with the guard's reason."""
    with private_mounts():
        here = mount("tmpfs", "tmpfs", tmp_path / "here", "size=64m")
        for number, name in enumerate(("cache", "other")):
            write_split(here / name, "train", {"aa_s001_t000_windows.npz": recording(4, seed=number)})
            write_split(here / name, "dev", {"zz_s001_t000_windows.npz": recording(1, seed=number)})
            seal_cache(here / name)
        with CacheGuard().admit(here / "cache") as cache:
            through = feed(open_datasets(cache)["train"], way)
            bind(here / "other", here / "cache")

            with pytest.raises(CacheRefused, match="another cache lies there now") as refused:
                list(through)
        assert 5 == refused.value.exit_code


# CUDA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("way", ["here", "threads", "one process"])
def test_batches_on_a_gpu_are_those_of_the_cpu(admitted: dict[str, AdmittedCache], way: str):
    """Copied ahead on a stream of its own, unfolded there, and still the same numbers in the same order."""
    raw = open_datasets(admitted["int16"], raw=True)["train"]
    expected = list(feed(open_datasets(admitted["int16"])["train"]))
    loader = make_loader(raw, shuffled(raw), pin_memory=True, **WAYS[way])
    found = [(x.cpu(), y.cpu()) for x, y in CudaFeed(loader, "cuda", scale=raw.scale)]

    assert same(expected, found)
