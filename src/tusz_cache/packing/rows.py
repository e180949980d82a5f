"""Rows of an array that lies in a `.npy` file: read where they are wanted, by mmap or by pread."""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import Damaged
from tusz_cache.packing.blocks import aligned

Backend = Literal["mmap", "pread"]
Array = npt.NDArray[Any]
BYTE, SHORT, FLOAT = np.dtype("u1"), np.dtype("<i2"), np.dtype("<f4")
HEADER = 4096  # bytes before the data: rows start on a page

_AGAIN = "pack the cache again, or copy the store again from where it is whole"


class Files(Protocol):
    """Where a store's files are opened: a directory, or one that the guard admitted. Goes through pickle."""

    def open(self, key: str) -> int:
        """Return a descriptor for reading the file `key`. Raises CacheError."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A plain directory, for notebooks and checks. Training opens only what was admitted."""

    root: Path

    def open(self, key: str) -> int:
        """Return a descriptor for reading the file `key`. Raises Damaged if it cannot be opened."""
        try:
            return os.open(self.root / key, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Damaged(f"cannot read {self.root / key}: {error.strerror}", hint=_AGAIN) from error


class Rows(Protocol):
    """Rows of an array, read-only. Safe in threads, and in processes that were forked."""

    def read(self, first: int, out: Array) -> None:
        """Copy len(out) rows from `first` on into `out`, whose last axis is contiguous. Raises Damaged."""

    def get(self, first: int, count: int) -> Array:
        """Return `count` rows from `first` on, read-only, perhaps without a copy. Raises Damaged."""

    def advise(self, first: int, count: int) -> None:
        """Have the kernel begin to read `count` rows from `first` on."""


def open_rows(files: Files, key: str, shape: tuple[int, ...], dtype: "np.dtype[Any]", backend: Backend) -> Rows:
    """Open the array of `shape` and `dtype` in the file `key`. Raises Damaged if the file is not of that form."""
    descriptor = files.open(key)
    try:
        _check(descriptor, key, shape, dtype)
        if backend == "mmap":
            return Mapped(descriptor, partial(files.open, key), shape, dtype)
        return Pread(os.dup(descriptor), key, shape, dtype)
    finally:
        os.close(descriptor)


def header(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> bytes:
    """Return the first HEADER bytes of a `.npy` file, format 1.0, in C order."""
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return np.lib.format.magic(1, 0) + (HEADER - 10).to_bytes(2, "little") + text.encode().ljust(HEADER - 11) + b"\n"


def _check(descriptor: int, key: str, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
    size = os.fstat(descriptor).st_size
    expected = HEADER + int(np.prod(shape)) * dtype.itemsize
    if size != expected:
        raise Damaged(f"{key} has {size} bytes, its index says {expected}", hint=_AGAIN)
    if os.pread(descriptor, HEADER, 0) != header(shape, dtype):
        raise Damaged(f"{key} does not begin as an array of shape {shape} and type {dtype}", hint=_AGAIN)


class Mapped:
    """Rows of a file that is mapped to memory: for disks of this machine."""

    def __init__(
        self, descriptor: int, reopen: Callable[[], int], shape: tuple[int, ...], dtype: "np.dtype[Any]"
    ) -> None:
        """reopen: returns another descriptor, which `advise` needs: the map's own cannot be had."""
        self._file: BinaryIO | None = None
        self._reopen = reopen
        self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self._rows: Array = np.frombuffer(self._map, dtype, int(np.prod(shape)), HEADER).reshape(shape)
        self._row_bytes = int(np.prod(shape[1:])) * dtype.itemsize

    def read(self, first: int, out: Array) -> None:
        """See Rows."""
        np.copyto(out, self._rows[first : first + len(out)])

    def get(self, first: int, count: int) -> Array:
        """See Rows."""
        return self._rows[first : first + count]

    def advise(self, first: int, count: int) -> None:
        """See Rows. From the first time on the kernel adds no guesses, up to 8 MiB around a page that is missing."""
        if self._file is None:
            self._file = os.fdopen(self._reopen(), "rb", buffering=0)
            self._map.madvise(mmap.MADV_RANDOM)
        _advise(self._file, first * self._row_bytes, count * self._row_bytes)  # madvise would hold the interpreter

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


class Pread:
    """Rows of a file that is read with positioned reads: where a page fault is a request over the network."""

    def __init__(self, descriptor: int, key: str, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
        self._file: BinaryIO = open(descriptor, "rb", buffering=0)  # noqa: SIM115 - owns the descriptor
        self._key, self._shape, self._dtype = key, shape[1:], dtype
        self._row_bytes = int(np.prod(self._shape)) * dtype.itemsize

    def read(self, first: int, out: Array) -> None:
        """See Rows."""
        offset, pieces = HEADER + first * self._row_bytes, _pieces(out)
        while pieces:  # once, but for file systems that give less than they were asked for
            try:
                found = os.preadv(self._file.fileno(), pieces, offset)
            except OSError as error:
                raise Damaged(f"cannot read {self._key} at byte {offset}: {error.strerror}", hint=_AGAIN) from error
            if not found:
                raise Damaged(f"{self._key} ends early: it has no byte {offset}", hint=_AGAIN)
            offset, pieces = offset + found, _behind(pieces, found)

    def get(self, first: int, count: int) -> Array:
        """See Rows."""
        out = aligned((count, *self._shape), self._dtype)
        self.read(first, out)
        return out

    def advise(self, first: int, count: int) -> None:
        """See Rows."""
        _advise(self._file, first * self._row_bytes, count * self._row_bytes)

    def __del__(self) -> None:
        self._file.close()


def _advise(file: BinaryIO, start: int, length: int) -> None:
    os.posix_fadvise(file.fileno(), HEADER + start, length, os.POSIX_FADV_WILLNEED)


def _pieces(out: Array) -> list[memoryview]:
    """Return the contiguous runs of `out`, in the order of its rows."""
    if out.flags.c_contiguous:
        return [out.data] if out.size else []
    length, starts = _runs(out.shape, out.strides)
    spanned = np.lib.stride_tricks.as_strided(out, ((starts[-1] + length) // out.itemsize,), (out.itemsize,))
    memory = spanned.data.cast("B")  # slices of one view cost a third of a view for each run
    return [memory[start : start + length] for start in starts]


@cache
def _runs(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the bytes of the last axis, which is contiguous, and where its runs start, in the order of rows."""
    starts = sum(np.ogrid[tuple(slice(0, n * step, step) for n, step in zip(shape[:-1], strides, strict=False))])
    return shape[-1] * strides[-1], tuple(int(start) for start in np.ravel(starts))


def _behind(pieces: list[memoryview], filled: int) -> list[memoryview]:
    """Return what is left of `pieces` when their first `filled` bytes are full."""
    for number, piece in enumerate(pieces):
        if filled < piece.nbytes:
            return [piece.cast("B")[filled:], *pieces[number + 1 :]]
        filled -= piece.nbytes
    return []
