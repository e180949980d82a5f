"""Stores of others for `bench.feed`: how each is written from the NPZ files, and how it is read at its best.

"windows": each window whole, 5.6 times the samples; "blocks": the packed store's own de-overlapped layout in another
container. Nothing is compressed. Labels are bytes.
"""
# ruff: noqa: PLC0415 - an environment of their own has the peers, and not always all

import io
import json
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tusz_cache.packing.blocks import BLOCK, CHANNELS, WINDOW, WINDOW_BLOCKS, as_blocks, blocks_in
from tusz_cache.packing.npz import read_windows

Floats = npt.NDArray[np.float32]
Fill = Callable[[Sequence[int], Floats, Floats], None]
Bytes = npt.NDArray[np.uint8]
SHARD = 512  # blocks in a shard of Zarr: 100 MB
CHUNK = "256MB"  # litdata's advice for samples of some MB


def recordings(npz: Path) -> Iterator[tuple[Floats, Bytes]]:
    """Yield windows (N, 19, 15360) and labels (N, 15360) of each recording, in the order of names."""
    for path in sorted((npz / "train").glob("*.npz")):
        windows, labels = read_windows(path)
        assert labels is not None
        yield windows, labels.astype(np.uint8)


def windows_of(npz: Path) -> Iterator[tuple[Floats, Bytes]]:
    """Yield all windows with their labels."""
    for windows, labels in recordings(npz):
        yield from zip(windows, labels, strict=True)


def unfolded(windows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a recording (..., samples) of windows (N, ..., 15360), cut every 2,560 samples."""
    head = [window[..., :BLOCK] for window in windows[:-1]]
    return np.concatenate([*head, windows[-1]], axis=-1)


def blocks_of(npz: Path) -> Iterator[tuple[Floats, Bytes]]:
    """Yield blocks (K, 19, 2560) and labels (K, 2560) of each recording."""
    for windows, labels in recordings(npz):
        x, y = unfolded(windows), unfolded(labels)
        yield np.ascontiguousarray(as_blocks(x)), as_blocks(y)


def each(read: Callable[[int, Floats, Floats], None]) -> Fill:
    """Return the fill that reads window by window."""

    def fill(indices: Sequence[int], x: Floats, y: Floats) -> None:
        for row, i in enumerate(indices):
            read(i, x[row], y[row])

    return fill


def note_counts(npz: Path, folder: Path) -> None:
    """Note the windows of each recording, from which a reader knows where they lie."""
    (folder / "counts.json").write_text(json.dumps([len(windows) for windows, _ in recordings(npz)]))


def firsts(folder: Path) -> list[tuple[int, int, int]]:
    """Return (first block of the recording, window in it, windows of it) of every window."""
    counts, first, found = json.loads((folder / "counts.json").read_text()), 0, []
    for count in counts:
        found += [(first, window, count) for window in range(count)]
        first += blocks_in(count, 1)
    return found


# (19, T) a recording: the other layout


def write_channels(npz: Path, folder: Path) -> None:
    """Write the recordings one behind the other, each (19, T)."""
    with (folder / "samples.bin").open("wb") as samples, (folder / "labels.bin").open("wb") as labels:
        for windows, bytes_ in recordings(npz):
            unfolded(windows).tofile(samples)
            unfolded(bytes_).tofile(labels)
    note_counts(npz, folder)


def channels(folder: Path, *, mapped: bool) -> Fill:
    """Read a window as 19 runs of 61,440 bytes."""
    where = firsts(folder)
    descriptors = [os.open(folder / name, os.O_RDONLY) for name in ("samples.bin", "labels.bin")]
    maps = [mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) for descriptor in descriptors]
    samples, labels = np.frombuffer(maps[0], np.float32), np.frombuffer(maps[1], np.uint8)

    def read_mapped(i: int, x: Floats, y: Floats) -> None:
        first, window, count = where[i]
        length = blocks_in(count, 1) * BLOCK
        start = first * BLOCK * CHANNELS
        recording = samples[start : start + CHANNELS * length].reshape(CHANNELS, length)
        np.copyto(x, recording[:, window * BLOCK : window * BLOCK + WINDOW])
        np.copyto(y, labels[(first + window) * BLOCK :][:WINDOW])

    def read_by_position(i: int, x: Floats, y: Floats) -> None:
        first, window, count = where[i]
        length = blocks_in(count, 1) * BLOCK
        start = first * BLOCK * CHANNELS + window * BLOCK
        for channel in range(CHANNELS):
            os.preadv(descriptors[0], [x[channel].data], 4 * (start + channel * length))
        np.copyto(y, np.frombuffer(os.pread(descriptors[1], WINDOW, (first + window) * BLOCK), np.uint8))

    return each(read_mapped if mapped else read_by_position)


# HDF5


def write_hdf5_blocks(npz: Path, folder: Path) -> None:
    """Write blocks, contiguous."""
    _write_hdf5(folder, list(blocks_of(npz)))
    note_counts(npz, folder)


def write_hdf5_windows(npz: Path, folder: Path) -> None:
    """Write windows, contiguous."""
    _write_hdf5(folder, list(recordings(npz)))


def _write_hdf5(folder: Path, parts: list[tuple[Floats, Bytes]]) -> None:
    import h5py

    count = sum(len(x) for x, _ in parts)
    with h5py.File(folder / "windows.h5", "w") as file:
        for name, number in (("x", 0), ("y", 1)):
            made = file.create_dataset(name, (count, *parts[0][number].shape[1:]), parts[0][number].dtype)
            at = 0
            for part in parts:
                made[at : at + len(part[number])] = part[number]
                at += len(part[number])


def hdf5_blocks(folder: Path) -> Fill:
    """Read six blocks at once, then put them in the order of channels."""
    import h5py

    file, where = h5py.File(folder / "windows.h5", "r"), firsts(folder)
    x_KCS, y_KS = file["x"], file["y"]
    scratch, labels = np.empty((WINDOW_BLOCKS, CHANNELS, BLOCK), np.float32), np.empty((WINDOW_BLOCKS, BLOCK), np.uint8)

    def read(i: int, x: Floats, y: Floats) -> None:
        at = sum(where[i][:2])
        x_KCS.read_direct(scratch, np.s_[at : at + WINDOW_BLOCKS])
        y_KS.read_direct(labels, np.s_[at : at + WINDOW_BLOCKS])
        np.copyto(as_blocks(x), scratch)
        np.copyto(as_blocks(y), labels)

    return each(read)


def hdf5_windows(folder: Path) -> Fill:
    """Read a window straight into its row."""
    import h5py

    file = h5py.File(folder / "windows.h5", "r")
    x_NCT, y_NT = file["x"], file["y"]

    def read(i: int, x: Floats, y: Floats) -> None:
        x_NCT.read_direct(x, np.s_[i])
        np.copyto(y, y_NT[i])

    return each(read)


# Zarr


def write_zarr(npz: Path, folder: Path) -> None:
    """Write blocks, a chunk each, in shards."""
    import zarr

    parts = list(blocks_of(npz))
    for name, number in (("x", 0), ("y", 1)):
        whole = np.concatenate([part[number] for part in parts])
        shape = whole.shape[1:]
        made: Any = zarr.create_array(
            str(folder / name),
            shape=whole.shape,
            chunks=(1, *shape),
            shards=(SHARD, *shape),
            dtype=whole.dtype,
            compressors=None,
        )
        for at in range(0, len(whole), SHARD):
            made[at : at + SHARD] = whole[at : at + SHARD]
    note_counts(npz, folder)


def zarr_blocks(folder: Path) -> Fill:
    """Read six chunks at once, then put them in the order of channels."""
    import zarr

    where = firsts(folder)
    x_KCS: Any = zarr.open_array(str(folder / "x"), mode="r")
    y_KS: Any = zarr.open_array(str(folder / "y"), mode="r")

    def read(i: int, x: Floats, y: Floats) -> None:
        at = sum(where[i][:2])
        np.copyto(as_blocks(x), x_KCS[at : at + WINDOW_BLOCKS])
        np.copyto(as_blocks(y), y_KS[at : at + WINDOW_BLOCKS])

    return each(read)


# streaming formats, a sample a window


def write_mds(npz: Path, folder: Path) -> None:
    """Write windows as fixed-shape arrays in shards of 67 MB, the default."""
    from streaming import MDSWriter

    columns = {"x": f"ndarray:float32:{CHANNELS},{WINDOW}", "y": f"ndarray:uint8:{WINDOW}"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for x, y in windows_of(npz):
            writer.write({"x": x, "y": y})


def mds(folder: Path) -> Fill:
    """Read samples by index."""
    from streaming import StreamingDataset

    dataset: Any = StreamingDataset(local=str(folder), shuffle=False, batch_size=64)
    return each(_sample_of(dataset))


def write_litdata(npz: Path, folder: Path) -> None:
    """Write windows in chunks of the size that is advised for samples of some MB."""
    from litdata import optimize

    folder.rmdir()
    optimize(fn=_sampled, inputs=[str(npz)], output_dir=str(folder), num_workers=1, chunk_bytes=CHUNK)


def _sampled(npz: str) -> Iterator[dict[str, Any]]:
    for x, y in windows_of(Path(npz)):
        yield {"x": x, "y": y}


def litdata(folder: Path) -> Fill:
    """Read samples by index."""
    from litdata import StreamingDataset

    dataset: Any = StreamingDataset(str(folder), shuffle=False)
    return each(_sample_of(dataset))


def _sample_of(dataset: Any) -> Callable[[int, Floats, Floats], None]:
    def read(i: int, x: Floats, y: Floats) -> None:
        sample = dataset[i]
        np.copyto(x, sample["x"])
        np.copyto(y, sample["y"])

    return read


def write_webdataset(npz: Path, folder: Path) -> None:
    """Write windows as .npy members of tar shards."""
    import webdataset

    with webdataset.ShardWriter(str(folder / "shard-%05d.tar"), maxsize=500e6, verbose=0) as writer:
        for i, (x, y) in enumerate(windows_of(npz)):
            writer.write({"__key__": f"{i:08d}", "x.npy": x, "y.npy": y})


class stream:  # noqa: N801 - called as the functions beside it are
    """Batches as WebDataset gives them: shards in random order, and a buffer that shuffles."""

    def __init__(self, folder: Path) -> None:
        import webdataset

        urls = sorted(str(path) for path in folder.glob("*.tar"))
        made = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0, empty_check=False)
        self._samples: Any = iter(made.shuffle(256).repeat())
        self._x = np.ones((256, CHANNELS, WINDOW), np.float32)
        self._y = np.ones((256, WINDOW), np.float32)
        self.order: list[int] = []  # of the windows of the last batch

    def __call__(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Floats, Floats]]:
        """Yield as many batches of these sizes, of whatever windows come."""
        for batch in batches:
            self.order = []
            for row in range(len(batch)):
                sample = next(self._samples)
                np.copyto(self._x[row], np.lib.format.read_array(io.BytesIO(sample["x.npy"])))
                np.copyto(self._y[row], np.lib.format.read_array(io.BytesIO(sample["y.npy"])))
                self.order.append(int(sample["__key__"]))
            yield self._x, self._y


# the files as they are


def numpy_load(folder: Path) -> Fill:
    """Read as the users' tool does: a whole file for each window."""
    paths = sorted((folder / "train").glob("*.npz"))
    where = [(path, i) for path in paths for i in range(read_count(path))]

    def read(i: int, x: Floats, y: Floats) -> None:
        path, window = where[i]
        with np.load(path) as npz:
            x[...], y[...] = npz["windows"][window], npz["labels"][window]

    return each(read)


def read_count(path: Path) -> int:
    """Return the windows of a file, by its labels, which are small."""
    with np.load(path) as npz:
        return len(npz["labels"])


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "channels": write_channels,
    "hdf5-blocks": write_hdf5_blocks,
    "hdf5-windows": write_hdf5_windows,
    "zarr": write_zarr,
    "mds": write_mds,
    "litdata": write_litdata,
    "webdataset": write_webdataset,
}
