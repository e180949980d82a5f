"""What the kernel is told of before it is read: windows that may not be in memory, and never more."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tusz_cache import AdmittedCache, Damaged, PackedStore
from tusz_cache.guarding.values import Ruling
from tusz_train.data import readahead
from tusz_train.data.dataset import WindowDataset, open_datasets
from tusz_train.data.loader import make_loader
from tusz_train.data.readahead import when_to_advise
from tusz_train.data.sampler import UnbalancedBatchSampler

SIZE = 4  # windows of a batch

pytestmark = pytest.mark.skipif(not hasattr(readahead.os, "posix_fadvise"), reason="this system takes no advice")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The windows that the kernel was told of, by call."""
    calls: list[list[int]] = []
    advise = PackedStore.advise

    def noted(self: PackedStore, indices: Any) -> None:
        calls.append(np.asarray(indices).tolist())
        advise(self, indices)

    monkeypatch.setattr(PackedStore, "advise", noted)
    return calls


@pytest.fixture
def on_disk(admitted: dict[str, AdmittedCache]) -> Iterator[dict[str, AdmittedCache]]:
    """The caches as on a disk, whatever the tests run on."""
    yield from _as(admitted, Ruling.ACCEPT_LOCAL_BLOCK)


@pytest.fixture
def in_memory(admitted: dict[str, AdmittedCache]) -> Iterator[dict[str, AdmittedCache]]:
    """The caches as in a file system of memory."""
    yield from _as(admitted, Ruling.ACCEPT_MEMORY)


def _as(caches: dict[str, AdmittedCache], ruling: Ruling) -> Iterator[dict[str, AdmittedCache]]:
    before = {how: cache.verdict for how, cache in caches.items()}
    for cache in caches.values():
        cache.verdict = replace(cache.verdict, ruling=ruling)
    yield caches
    for how, verdict in before.items():
        caches[how].verdict = verdict


def batches_of(dataset: WindowDataset) -> list[list[int]]:
    """Return the store's windows of the first epoch's batches."""
    return [dataset._windows[rows].tolist() for rows in UnbalancedBatchSampler(dataset.manifest, SIZE, seed=1)]


def epochs(dataset: WindowDataset, count: int = 1, **how: Any) -> list[Any]:
    """Return all batches of some epochs."""
    sampler = UnbalancedBatchSampler(dataset.manifest, SIZE, seed=1)
    loader, found = make_loader(dataset, sampler, **how), []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found += list(loader)
    return found


@pytest.mark.parametrize(
    ("asked", "is_in_memory", "store", "memory", "expected"),
    [
        ("auto", False, 40, 100, "first"),
        ("auto", False, 60, 100, "always"),  # some of it may have to go again
        ("auto", False, 40, None, "always"),
        ("auto", True, 60, 100, "never"),
        ("on", True, 40, 100, "always"),
        ("off", False, 60, 100, "never"),
    ],
)
def test_when_the_kernel_is_told(asked: Any, is_in_memory: bool, store: int, memory: int | None, expected: str):
    """By default it is told of each window once, always where the store may not stay in memory, never where it is."""
    assert expected == when_to_advise(asked, is_in_memory=is_in_memory, store_bytes=store, memory_bytes=memory)


@pytest.mark.parametrize("how", ["float32", "int16"])
def test_a_window_is_told_of_once(on_disk: dict[str, AdmittedCache], told: list[list[int]], how: str):
    """By default each batch is told of before it is read, in the first epoch; later there is nothing to tell."""
    dataset = open_datasets(on_disk[how])["train"]
    first = epochs(dataset, threads=2)
    batches = batches_of(dataset)
    assert batches == told

    second = epochs(dataset, 2, threads=2)[len(first) :]
    after = [window for batch in told[len(batches) :] for window in batch]
    assert len(second) == len(first)
    assert set() == set(after) & {window for batch in batches for window in batch}
    assert len(after) == len(set(after)) < SIZE  # those that the first epoch's last batch left out


def test_told_before_read(on_disk: dict[str, AdmittedCache], told: list[list[int]], monkeypatch: pytest.MonkeyPatch):
    """With threads, as many batches as are read ahead were told of before the first one is handed over."""
    dataset = open_datasets(on_disk["float32"])["train"]
    sampler = UnbalancedBatchSampler(dataset.manifest, SIZE, seed=1)
    read: list[int] = []  # batches that were told of when a batch was read
    whole = WindowDataset.read

    def noted(self: WindowDataset, rows: Any, **how: Any) -> Any:
        assert self._windows[rows].tolist() in told
        read.append(len(told))
        return whole(self, rows, **how)

    monkeypatch.setattr(WindowDataset, "read", noted)
    next(iter(make_loader(dataset, sampler, threads=1, prefetch=2)))

    assert 3 == len(told)
    assert read


@pytest.mark.parametrize("how", [{}, {"threads": 2}, {"workers": 1, "start": "fork"}], ids=["here", "threads", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_batches_stay_the_same(on_disk: dict[str, AdmittedCache], how: dict[str, Any]):
    """Told of or not, the batches are the same to the bit."""
    plain, advised = (open_datasets(on_disk["float32"], advise=advise)["train"] for advise in ("off", "on"))
    expected, found = epochs(plain, 2, **how), epochs(advised, 2, **how)

    assert len(expected) == len(found)
    assert all(
        torch.equal(a, b) for one, two in zip(expected, found, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_always_is_always(on_disk: dict[str, AdmittedCache], told: list[list[int]]):
    """Where it is on, the kernel is told of each batch of each epoch, also without workers."""
    dataset = open_datasets(on_disk["float32"], advise="on")["train"]
    epochs(dataset, 2)

    assert 2 * len(batches_of(dataset)) == len(told)
    assert batches_of(dataset) == told[: len(told) // 2]


def test_nothing_is_told_of_what_is_in_memory(in_memory: dict[str, AdmittedCache], told: list[list[int]]):
    """By default nothing is told where the store lies in memory."""
    epochs(open_datasets(in_memory["float32"])["train"], 2, threads=2)

    assert [] == told


@pytest.mark.parametrize(("how", "advise"), [("float32", "off"), ("npz", "on")])
def test_nothing_is_told_where_it_is_off_or_not_packed(
    on_disk: dict[str, AdmittedCache], told: list[list[int]], how: str, advise: Any
):
    """Nothing is told where that is switched off, and files that must be inflated are read as ever."""
    epochs(open_datasets(on_disk[how], advise=advise)["train"])

    assert [] == told


def test_advice_that_fails_is_no_error(on_disk: dict[str, AdmittedCache], monkeypatch: pytest.MonkeyPatch):
    """What the kernel does not want to be told is read all the same; what is damaged is told by reading."""
    dataset = open_datasets(on_disk["float32"], advise="on")["train"]
    expected = epochs(dataset)
    for error in (OSError(22, "not here"), Damaged("gone", hint="none")):

        def fail(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(PackedStore, "advise", fail)
        assert len(expected) == len(epochs(dataset, threads=2))


def test_memory_is_counted():
    """The memory that files may be held in is told on Linux, and is no more than the machine has."""
    available = readahead.memory_bytes()
    if available is None:
        pytest.skip("no /proc/meminfo here")

    assert 0 < available <= readahead.os.sysconf("SC_PHYS_PAGES") * readahead.os.sysconf("SC_PAGE_SIZE")
