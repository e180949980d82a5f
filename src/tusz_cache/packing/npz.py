"""NPZ files of recordings, read without `np.load`: by descriptor, inflated in pieces by ISA-L, within known bounds.

For a good file the values are those of `np.load`, bit for bit. Any other file is a BadRecording that names file and
member, found before memory is taken for it. Objects are never unpickled.
"""

import io
import math
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tusz_cache.errors import BadRecording, UsageError
from tusz_cache.packing import zipped
from tusz_cache.packing.header import LONGEST, Header, parse_header
from tusz_cache.packing.zipped import Entry, Source, bad
from tusz_cache.tusz import CHANNELS, WINDOW

File = str | os.PathLike[str] | int | Callable[[], int]  # path, descriptor, or what opens one
Float32Array = npt.NDArray[np.float32]

LARGEST = 4 << 30  # bytes of an array; the windows of ten hours have 4.2e9
_EXACT = 1 << 24  # float32 holds every whole number up to here
_SUFFIX = ".npy"
_WRITE_IT_SO = "write windows (N, 19, 15360) and labels (N, 15360) as float32, with numpy.savez_compressed"


@dataclass(frozen=True, slots=True)
class Member:
    """One array of an NPZ file, as its headers describe it."""

    name: str  # as numpy.load has it, without ".npy"
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # byte order as in the file
    fortran: bool  # the first axis varies fastest
    size: int  # bytes of the array
    stored: bool  # not deflated: it can be mapped
    header: int  # bytes of the `.npy` header before the array
    entry: Entry


@dataclass(frozen=True, slots=True)
class Npz:
    """An open NPZ file. A context manager."""

    members: Mapping[str, Member]
    source: Source

    def read(self, member: Member, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return the array, in C order and the machine's byte order, with CRC-32 checked.

        out: an array of the member's shape and the machine's byte order to put it in, C-contiguous; it is returned.
        Raises: BadRecording if the bytes are not what the headers say; `out` then holds anything.
        """
        native = member.dtype.newbyteorder("=")
        if out is None:
            out = np.empty(member.shape, native)
        elif (out.shape, out.dtype) != (member.shape, native) or not (out.flags.c_contiguous and out.flags.writeable):
            raise UsageError(
                f"{member.name} does not fit into the array given for it",
                hint=f"give a writable C-contiguous array of shape {member.shape} and dtype {native}",
            )
        raw = np.empty(member.size, np.uint8) if member.fortran else out.reshape(-1).view(np.uint8)
        at = -member.header
        for piece in zipped.pieces(self.source, member.entry):
            end = at + len(piece)
            if end > 0:
                raw[max(0, at) : end] = np.frombuffer(piece, np.uint8)[max(0, -at) :]
            at = end
        if member.fortran:
            out[...] = raw.view(native).reshape(member.shape, order="F")
        return out if member.dtype.isnative else out.byteswap(inplace=True)

    def rows(self, member: Member) -> Iterator[npt.NDArray[Any]]:
        """Yield the rows of an array as they are inflated, in memory that the next one reuses.

        Only the end tells whether the CRC-32 fits: nothing may be made of the rows before. Raises as `read` does.
        """
        if member.fortran or not member.dtype.isnative:
            yield from self.read(member)
            return
        row = np.empty(member.shape[1:], member.dtype)
        raw, filled, skip = row.reshape(-1).view(np.uint8), 0, member.header
        for piece in zipped.pieces(self.source, member.entry):
            data = np.frombuffer(piece, np.uint8)[skip:]
            skip = max(0, skip - len(piece))
            while len(data):
                some = data[: len(raw) - filled]
                raw[filled : filled + len(some)] = some
                data, filled = data[len(some) :], (filled + len(some)) % len(raw)
                if not filled:
                    yield row

    def map(self, member: Member) -> npt.NDArray[Any]:
        """Return a stored array as the file's own pages, read-only, in the file's byte order and axis order.

        The CRC-32 is not checked, and a file that shrinks later kills the process: for local, sealed caches.
        Raises: UsageError for a deflated member; BadRecording if the file has become shorter.
        """
        if not member.stored:
            raise UsageError(f"{member.name} is deflated and cannot be mapped", hint="read it instead")
        start = zipped.data_start(self.source, member.entry) + member.header
        skipped = start % mmap.ALLOCATIONGRANULARITY
        length, offset = skipped + member.size, start - skipped
        try:
            pages = mmap.mmap(self.source.file.fileno(), length, access=mmap.ACCESS_READ, offset=offset)
        except ValueError as error:
            raise bad(self.source, member.name, "the file ends before it") from error
        except OSError as error:
            raise zipped.unreadable(self.source.name, error) from error
        return np.ndarray(member.shape, member.dtype, pages, skipped, order="F" if member.fortran else "C")

    def close(self) -> None:
        """Close the file, unless its descriptor was given. Mapped arrays stay."""
        self.source.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def open_npz(
    file: File, *, name: str | None = None, wanted: Iterable[str] | None = None, largest: int = LARGEST
) -> Npz:
    """Open an NPZ file and read the headers of its arrays.

    file: a path; a descriptor, which stays open; or a function that returns one, which is then closed with the NPZ. It
        is read by position, so the descriptor may be shared.
    name: for messages; by default the path.
    wanted: the members to look at, if they are there; by default all. Others may be anything, as numpy.load has it.
    largest: bytes that an array may have.
    Raises: BadRecording for a broken file; TargetError for one that the system cannot read.
    """
    source = _open(file, name)
    try:
        entries = _arrays(source)
        keys = entries.keys() if wanted is None else entries.keys() & set(wanted)
        members = {key: _member(source, key, entry, largest) for key, entry in entries.items() if key in keys}
        return Npz(MappingProxyType(members), source)
    except BaseException:
        source.file.close()
        raise


def read_windows(file: Npz | File, *, finite: bool = False) -> tuple[Float32Array, Float32Array | None]:
    """Return a recording's windows (N, 19, 15360) and labels (N, 15360), float32; labels None if the file has none.

    finite: also refuse NaN and infinity, which cost a pass over the values.
    Other number types become float32 where that changes no value. Raises: BadRecording, naming file and member.
    """
    if not isinstance(file, Npz):
        with open_npz(file, wanted=("windows", "labels")) as npz:
            return read_windows(npz, finite=finite)
    windows, labels = check_windows(file)
    return float_values(file, windows, finite=finite), float_values(file, labels, finite=finite) if labels else None


def check_windows(npz: Npz) -> tuple[Member, Member | None]:
    """Return the members `windows` and `labels`. Raises BadRecording unless their shapes are those of a recording."""
    windows, labels = npz.members.get("windows"), npz.members.get("labels")
    if windows is None:
        raise BadRecording(f"{npz.source.name} has no member 'windows'", hint=_WRITE_IT_SO)
    expected: tuple[int, ...] = (*windows.shape[:1], CHANNELS, WINDOW)
    for member in filter(None, (windows, labels)):
        if member.shape != expected:
            what = f"its shape is {member.shape}, not {expected}"
            raise bad(npz.source, member.name, what, hint=_WRITE_IT_SO)
        expected = (*windows.shape[:1], WINDOW)
    return windows, labels


def _open(file: File, name: str | None) -> Source:
    try:
        if isinstance(file, int):
            descriptor, known = file, f"descriptor {file}"
        elif callable(file):
            descriptor, known = file(), "the file"
        else:
            known = os.fspath(file)
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its writer
        status = os.fstat(descriptor)
    except OSError as error:
        raise zipped.unreadable(name or str(file), error) from error
    given = isinstance(file, int)
    if not stat.S_ISREG(status.st_mode):
        if not given:
            os.close(descriptor)
        raise BadRecording(f"{name or known} is no regular file", hint="give a recording's NPZ file")
    return Source(io.FileIO(descriptor, closefd=not given), status.st_size, name or known)


def _arrays(source: Source) -> dict[str, Entry]:
    """Return the directory by the names that numpy.load gives."""
    entries: dict[str, Entry] = {}
    for entry in zipped.read_directory(source).values():
        name = entry.name.removesuffix(_SUFFIX)
        if name in entries:
            raise bad(source, name, "it is there with and without .npy")
        entries[name] = entry
    return entries


def _member(source: Source, name: str, entry: Entry, largest: int) -> Member:
    try:
        header = parse_header(zipped.head(source, entry, min(LONGEST, entry.size)))
        size = _bytes(header, largest)
    except ValueError as error:
        raise bad(source, name, str(error), hint=f"{_WRITE_IT_SO}; or {zipped.COPY_AGAIN}") from error
    if header.length + size != entry.size:
        what = f"{header.shape} of {header.dtype} has {size} bytes, but it holds {entry.size - header.length}"
        raise bad(source, name, what)
    return Member(name, header.shape, header.dtype, header.fortran, size, entry.stored, header.length, entry)


def _bytes(header: Header, largest: int) -> int:
    """Return the bytes of an array. Raises ValueError for more than `largest`, axes of length 0 aside."""
    if header.dtype.itemsize * math.prod(axis or 1 for axis in header.shape) > largest:
        raise ValueError(f"its shape {header.shape} has more than {largest} bytes")
    return header.dtype.itemsize * math.prod(header.shape)


def _are_equal(values: Float32Array, array: npt.NDArray[Any]) -> bool:
    """Whether float32 values are those of the array they were made of."""
    if array.dtype.kind in "iu":  # comparing them as float64 may round them alike
        return int(array.min(initial=0)) >= -_EXACT and int(array.max(initial=0)) <= _EXACT
    return values is array or np.array_equal(values, array, equal_nan=True)


def float_rows(npz: Npz, member: Member) -> Iterator[Float32Array]:
    """Yield the member's rows as float32, in memory that the next one may reuse. Raises as `float_values` does."""
    in_order = member.dtype == np.float32 and member.dtype.isnative and not member.fortran
    return npz.rows(member) if in_order else iter(float_values(npz, member))


def float_values(npz: Npz, member: Member, *, finite: bool = False) -> Float32Array:
    """Return the member as float32. Raises BadRecording if that would change a value, or one is not finite."""
    array = npz.read(member)
    with np.errstate(over="ignore"):  # what does not fit is refused below
        values = array.astype(np.float32, copy=False)
    if not _are_equal(values, array):
        raise bad(npz.source, member.name, f"float32 cannot hold its {member.dtype} values", hint=_WRITE_IT_SO)
    if finite:
        for number, window in enumerate(values):
            if not np.isfinite(window).all():
                what = f"window {number} has NaN or infinity"
                raise bad(npz.source, member.name, what, hint="make this recording's file anew")
    return values
