"""Loaders: read batches ahead, in processes or in threads. Both yield the batches of their sampler, in its order."""

import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from tusz_cache import CacheError, UsageError
from tusz_train.data.dataset import Pair, WindowDataset

Batches = Sampler[list[int]]


class Loader(Protocol):
    """Batches of a sampler."""

    batch_sampler: Batches

    def __iter__(self) -> Iterator[Pair]: ...

    def __len__(self) -> int: ...


class ProcessLoader(DataLoader[Pair]):
    """DataLoader, whose workers' errors arrive as what they are: exit code and hint are not lost."""

    batch_sampler: Batches

    def __init__(self, dataset: WindowDataset, sampler: Batches, **options: Any) -> None:
        """options: of DataLoader."""
        super().__init__(_Telling(dataset), batch_sampler=sampler, collate_fn=_same, **options)  # type: ignore[arg-type] # a finished batch

    def __iter__(self) -> Iterator[Pair]:  # type: ignore[override] # torch promises its own class
        for batch in super().__iter__():
            if isinstance(batch, CacheError):
                raise batch
            yield batch


class ThreadLoader:
    """Threads of this process read ahead: no copy between processes, no shared memory to run out of.

    Reading a store lets go of the interpreter's lock. Page-locked batches come from torch's own pool, which hands
    memory out again when the copy from it is done.
    """

    def __init__(
        self, dataset: WindowDataset, sampler: Batches, *, threads: int, ahead: int, pin_memory: bool = False
    ) -> None:
        """ahead: batches that are read before they are asked for."""
        self.dataset, self.batch_sampler = dataset, sampler
        self.threads, self.ahead, self.pin_memory = threads, ahead, pin_memory

    def __len__(self) -> int:
        return len(self.batch_sampler)  # type: ignore[arg-type] # ours have a length

    def __iter__(self) -> Iterator[Pair]:
        waiting: deque[Future[Pair]] = deque()
        pool = ThreadPoolExecutor(self.threads, "windows", **self._pinning())
        try:
            for rows in self.batch_sampler:
                self.dataset.advise(rows)  # the disk is at work on it before a thread has time
                waiting.append(pool.submit(self.dataset.read, rows, pin=self.pin_memory))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _pinning(self) -> dict[str, Any]:
        """Have threads lock pages for this thread's device: by default they would start up the first one."""
        if not self.pin_memory:
            return {}
        return {"initializer": torch.cuda.set_device, "initargs": (torch.cuda.current_device(),)}


def make_loader(
    dataset: WindowDataset,
    sampler: Batches,
    *,
    workers: int = 0,
    threads: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    start: str | None = None,
    seed: int = 0,
) -> Loader:
    """Return a loader of `sampler`'s batches.

    workers: processes, which stay from epoch to epoch. threads: instead of them. Neither: batches are read when asked
    for. prefetch: batches that each of them reads ahead. pin_memory: page-locked, for CUDA. start: of processes, as
    multiprocessing names it; by default its own. seed: of the workers' random numbers; torch's global ones are left
    alone, so that a resumed run finds them as they were. Raises UsageError.
    """
    if min(workers, threads) < 0 or (workers and threads) or prefetch < 1:
        raise UsageError(
            f"{workers} workers, {threads} threads and prefetch={prefetch} do not go together",
            hint="give workers or threads, not both, and prefetch of 1 or more",
        )
    if threads:
        return ThreadLoader(dataset, sampler, threads=threads, ahead=threads * prefetch, pin_memory=pin_memory)
    many: dict[str, Any] = {}
    if workers:
        many = {"prefetch_factor": prefetch, "persistent_workers": True, "multiprocessing_context": start}
    generator = torch.Generator().manual_seed(seed)
    return ProcessLoader(dataset, sampler, num_workers=workers, pin_memory=pin_memory, generator=generator, **many)


class _Telling(Dataset[Pair | CacheError]):
    """Returns errors instead of raising them: torch would make a RuntimeError of those with more than a message.

    Where it arrives by pickle, the dataset is opened at the first batch, so that what goes wrong there is told as well.
    """

    def __init__(self, dataset: WindowDataset) -> None:
        self._dataset: WindowDataset | bytes = dataset

    def __getstate__(self) -> bytes:
        return self._dataset if isinstance(self._dataset, bytes) else pickle.dumps(self._dataset)

    def __setstate__(self, dataset: bytes) -> None:
        self._dataset = dataset

    def __getitems__(self, rows: Sequence[int]) -> Pair | CacheError:
        try:
            if isinstance(self._dataset, bytes):
                self._dataset = pickle.loads(self._dataset)  # noqa: S301 - the process that started this one wrote it
            dataset = cast("WindowDataset", self._dataset)
            dataset.advise(rows)  # its windows come side by side; which batch is next, a worker does not know
            return dataset.read(rows)
        except CacheError as error:
            return error


def _same(batch: Any) -> Any:
    return batch
