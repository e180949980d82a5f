"""The ways to feed batches that `bench.feed` compares. Each runs as a process of its own, which waits for its turn.

Every arm fills the same batches: windows (B, 19, 15360) and labels (B, 15360), float32. `fill(indices, x, y)` puts
windows into arrays that are there, so that no arm pays for more copies than its store forces on it.
"""
# ruff: noqa: PLC0415 - torch takes seconds to import, and is needed by few

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import feed_peers
from bench.feed_peers import Fill, Floats
from bench.sync import tree
from tusz_cache.packing.blocks import CHANNELS, WINDOW, aligned
from tusz_cache.packing.store import open_store

Batches = Sequence[Sequence[int]]
Pair = tuple[Floats, Floats]
THREADS = 2


@dataclass(frozen=True)
class Arm:
    """One way to feed."""

    name: str
    data: str  # the folder that it reads, of those that `bench.feed` writes
    opened: Callable[[Path], Fill] | None  # None: nothing is read
    mode: str = "plain"  # plain: by the caller itself; threads; workers: processes of torch's DataLoader; stream
    needs: tuple[str, ...] = ()  # modules, of the peers' environment
    exact: bool = True  # every bit
    few: int = 0  # windows in a turn, where that must be few
    cold: bool = False  # also with data that must come from the disk
    peer: bool = True
    early: bool = False  # opened before worker processes are forked

    @property
    def here(self) -> bool:
        """Whether this Python has what the arm needs."""
        needed = (*self.needs, "torch") if self.mode == "workers" else self.needs
        return all(importlib.util.find_spec(name) for name in needed)


def buffers(count: int) -> Pair:
    """Return arrays for a batch whose pages are there, aligned as torch's are."""
    x, y = aligned((count, CHANNELS, WINDOW), np.float32), aligned((count, WINDOW), np.float32)
    x.fill(1)
    y.fill(1)
    return x, y


# ours and the ceilings


def stored(root: Path, *, backend: Any = "auto") -> Fill:
    """Fill from a packed store; or from NPZ files, of which the last two stay inflated."""
    store = open_store(root, "train", backend=backend)

    def fill(indices: Sequence[int], x: Floats, y: Floats) -> None:
        store.read_batch(indices, (x, y))

    return fill


class Advised:
    """Fills from a packed store after telling the kernel which windows are next."""

    def __init__(self, root: Path, *, backend: Any) -> None:
        self._store: Any = open_store(root, "train", backend=backend)

    def __call__(self, indices: Sequence[int], x: Floats, y: Floats) -> None:
        """Fill a batch."""
        self._store.read_batch(indices, (x, y))

    def advise(self, indices: Sequence[int]) -> None:
        """Tell of a batch that comes."""
        self._store.advise(indices)


def memcpy(root: Path) -> Fill:
    """Copy windows that lie whole and contiguous in memory, of as many bytes as the store: one core's ceiling."""
    shards = sum(path.stat().st_size for path in (root / "train").glob("shard-*.npy"))
    windows, labels = buffers(shards // (CHANNELS * WINDOW * 4))

    def fill(indices: Sequence[int], x: Floats, y: Floats) -> None:
        for row, i in enumerate(indices):
            x[row], y[row] = windows[i % len(windows)], labels[i % len(windows)]

    return fill


# modes


def plain(fill: Fill, batches: Batches, pair: Pair) -> Iterator[Pair]:
    """Yield batches that the caller itself fills, in memory that is used again."""
    for number, batch in enumerate(batches):
        if isinstance(fill, Advised):
            for coming in batches[number + 1 : number + 2] if number else batches[:2]:
                fill.advise(coming)
        fill(batch, *(array[: len(batch)] for array in pair))
        yield pair


def threads(fill: Fill, batches: Iterable[Sequence[int]], pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yield batches that threads fill ahead, each in memory of its own."""

    def work(number: int, batch: Sequence[int]) -> Pair:
        pair = pairs[number % len(pairs)]
        fill(batch, *(array[: len(batch)] for array in pair))
        return pair

    with ThreadPoolExecutor(THREADS) as pool:
        begun: deque[Any] = deque()
        for number, batch in enumerate(batches):
            if isinstance(fill, Advised):
                fill.advise(batch)
            begun.append(pool.submit(work, number, batch))
            if len(begun) == len(pairs) - 1:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


class Workers:
    """Batches that two worker processes of torch fill, each in shared memory, as torch's own collate does."""

    def __init__(self, opened: Callable[[], Fill], *, early: bool) -> None:
        import torch.utils.data

        self.batches: list[list[int]] = []
        self._opened = opened
        self._fill: Fill | None = opened() if early else None
        self._loader: Any = torch.utils.data.DataLoader(
            self,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            num_workers=2,
            persistent_workers=True,
            collate_fn=lambda pair: pair,
        )

    def __getitems__(self, indices: list[int]) -> tuple[Any, Any]:
        import torch

        torch.set_num_threads(1)
        self._fill = self._fill or self._opened()
        shapes = (len(indices), CHANNELS, WINDOW), (len(indices), WINDOW)
        pair = tuple(torch.empty(0).new(_shared(shape)).view(shape) for shape in shapes)
        self._fill(indices, pair[0].numpy(), pair[1].numpy())
        return pair  # type: ignore[return-value]

    def __call__(self, batches: Batches) -> Iterator[Pair]:
        """Yield batches."""
        self.batches[:] = map(list, batches)
        for x, y in self._loader:
            yield x.numpy(), y.numpy()


def _shared(shape: tuple[int, ...]) -> Any:
    import torch

    count = int(np.prod(shape))
    return torch.UntypedStorage._new_shared(count * 4, device="cpu")


# a turn


def cpu_seconds() -> float:
    """Return the CPU time that this process and those it started, which still run, have had."""
    return sum(_ticks(pid) for pid in tree(os.getpid())) / os.sysconf("SC_CLK_TCK") + time.process_time()


def _ticks(pid: int) -> int:
    if pid == os.getpid():
        return 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def digest_of(x: Floats, y: Floats) -> str:
    """Return the SHA-256 of a window and its labels."""
    return hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()


class Player:
    """An arm that is open."""

    def __init__(self, arm: Arm, root: Path, batch: int) -> None:
        pairs = [buffers(batch) for _ in range({"plain": 1, "threads": THREADS + 2}.get(arm.mode, 0))]
        opened = partial(arm.opened or _nothing, root)
        self._run: Callable[[Batches], Iterator[Pair]]
        if arm.mode == "workers":
            self._run = Workers(opened, early=arm.early)
        elif arm.mode == "stream":
            self._run = feed_peers.stream(root)
        elif arm.mode == "threads":
            self._run = partial(threads, opened(), pairs=pairs)
        else:
            self._run = partial(plain, opened(), pair=pairs[0])

    def turn(self, batches: Batches) -> dict[str, Any]:
        """Feed `batches`; return how long each was waited for and what all took."""
        waits, count = [], 0
        cpu, began = cpu_seconds(), time.perf_counter()
        last = began
        for _ in self._run(batches):
            now = time.perf_counter()
            waits.append(now - last)
            last, count = now, count + 1
        assert count == len(batches), f"{count} of {len(batches)} batches"
        return {"wall": time.perf_counter() - began, "cpu": cpu_seconds() - cpu, "waits": waits}

    def digests(self, batches: Batches, wanted: Sequence[int]) -> list[str]:
        """Return the digests of windows that `batches` have; an arm of its own order tells which it gave."""
        found: dict[int, str] = {}
        for batch, (x, y) in zip(batches, self._run(batches), strict=False):
            order = getattr(self._run, "order", None) or batch
            found |= {i: digest_of(x[row], y[row]) for row, i in enumerate(order) if i in set(wanted) - found.keys()}
            if len(found) == len(wanted):
                break
        return [found[i] for i in wanted]

    def errors(self, batches: Batches, exact: npt.NDArray[np.float32]) -> float:
        """Return the largest difference of a sample from `exact`, the same windows."""
        return max(
            float(np.abs(x[: len(batch)] - exact[at * len(batch) : (at + 1) * len(batch)]).max())
            for at, (batch, (x, _)) in enumerate(zip(batches, self._run(batches), strict=True))
        )


def _nothing(_: Path) -> Fill:
    return lambda *_: None


def _packed_arms() -> Iterator[Arm]:
    modes = {"plain": "", "threads": ", 2 threads", "workers": ", 2 workers"}
    for dtype in ("float32", "int16"):
        for backend in ("mmap", "pread"):
            for mode, words in modes.items() if (dtype, backend) != ("int16", "pread") else [("plain", "")]:
                cold = backend == "mmap" or mode == "plain"
                usual: dict[str, Any] = {"data": dtype, "exact": dtype == "float32", "cold": cold, "peer": False}
                name = f"packed {dtype}, {backend}{words}"
                yield Arm(name, opened=partial(stored, backend=backend), mode=mode, **usual)
                if mode != "workers":
                    yield Arm(f"{name}, advised", opened=partial(Advised, backend=backend), mode=mode, **usual)


def _both(name: str, data: str, opened: Callable[[Path], Fill], needs: str, *, early: bool = False) -> Iterator[Arm]:
    yield Arm(name, data, opened, needs=(needs,), cold=True)
    yield Arm(f"{name}, 2 workers", data, opened, "workers", (needs,), cold=True, early=early)


ARMS = (
    Arm("memcpy of one core", "float32", memcpy, peer=False, exact=False),
    Arm("mock (nothing is read)", "float32", None, peer=False, exact=False),
    *_packed_arms(),
    Arm("(19, T) a recording, mmap", "channels", partial(feed_peers.channels, mapped=True), cold=True),
    Arm("(19, T) a recording, pread", "channels", partial(feed_peers.channels, mapped=False), cold=True),
    *_both("HDF5, blocks", "hdf5-blocks", feed_peers.hdf5_blocks, "h5py"),
    *_both("HDF5, windows", "hdf5-windows", feed_peers.hdf5_windows, "h5py"),
    *_both("Zarr v3, blocks in shards", "zarr", feed_peers.zarr_blocks, "zarr"),
    *_both("MosaicML Streaming, MDS", "mds", feed_peers.mds, "streaming", early=True),
    *_both("litdata", "litdata", feed_peers.litdata, "litdata"),
    Arm("WebDataset, its own order", "webdataset", None, "stream", ("webdataset", "torch"), cold=True),
    Arm("NpzStore, two files inflated", "npz", stored, few=64),
    Arm("np.load of a file per window", "npz", feed_peers.numpy_load, few=2),
)


def main() -> None:
    """Play an arm, or write its data: a request and an answer a line, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--play", help="name of the arm")
    parser.add_argument("--write", help="name of the data")
    parser.add_argument("--has", action="store_true", help="say which arms this Python can play")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print must not mix with the answers
        if options.has:
            answers.write(json.dumps([arm.name for arm in ARMS if arm.here]))
        elif options.write:
            feed_peers.WRITERS[options.write](options.root / "npz", options.root / options.write)
        else:
            arm = next(arm for arm in ARMS if arm.name == options.play)
            player = Player(arm, options.root / arm.data, options.batch)
            for line in sys.stdin:
                request = json.loads(line)
                match request["do"]:
                    case "turn":
                        answer: Any = player.turn(request["batches"])
                    case "digests":
                        answer = player.digests(request["batches"], request["wanted"])
                    case _:
                        answer = player.errors(request["batches"], np.load(request["exact"], mmap_mode="r"))
                print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
