"""ZIP as NPZ files use it: the directory, and members in pieces, by position and within bounds.

The directory is read by the standard library, through a window that refuses large reads. Members are inflated here,
with ISA-L, since `zipfile` knows only zlib, which takes twice the time.
"""

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from isal import igzip_lib, isal_zlib

from tusz_cache.errors import BadRecording, TargetError

PIECE = 256 * 1024  # bytes read or inflated at once; they stay in a core's cache until they are copied

COPY_AGAIN = "copy the file again: python -m tusz_cache.verify CACHE --level full --against SOURCE --repair"

_DIRECTORY = 256 * 1024  # bytes of a directory that are read; that of two members has 150
_DENSEST = 1032  # DEFLATE makes at most 258 bytes of 2 bits
_LOCAL = struct.Struct("<4s5H3L2H")  # a member's own header
_STORED, _DEFLATED = 0, 8
_UTF8 = 0x800
_ENCRYPTED_OR_PATCHED = 0x2061  # flag bits: encryption, patch, strong encryption, masked header


@dataclass(frozen=True, slots=True)
class Source:
    """An open file that is read by position, so threads and processes may share it."""

    file: io.FileIO
    size: int  # bytes, when it was opened
    name: str  # for messages

    def read(self, at: int, length: int) -> bytes:
        """Return `length` bytes from `at`. Raises BadRecording if the file ends, TargetError if the disk fails."""
        data = b""
        while len(data) < length:
            try:
                more = os.pread(self.file.fileno(), length - len(data), at + len(data)) if at < self.size else b""
            except OSError as error:
                raise unreadable(self.name, error) from error
            if not more:
                raise BadRecording(f"{self.name} ends early: it has no byte {at + len(data)}", hint=COPY_AGAIN)
            data += more
        return data


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as the directory describes it."""

    name: str
    start: int  # of its header, bytes into the file
    end: int  # where the next member or the directory begins
    packed: int  # bytes in the file
    size: int  # bytes when inflated
    crc: int  # CRC-32 of those
    stored: bool  # not deflated


def unreadable(name: str, error: OSError) -> TargetError:
    """Return the error for a file that the system cannot read."""
    return TargetError(
        f"cannot read {name}: {error.strerror}", hint="check that it is there, its permissions and its disk"
    )


def bad(source: Source, member: str, what: str, *, hint: str = COPY_AGAIN) -> BadRecording:
    """Return the error for a member that is not as it must be."""
    return BadRecording(f"{source.name}, member {member!r:.100}: {what}", hint=hint)


# the directory


class _Window:
    """What `zipfile` reads a directory through: a file whose reads are bounded."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to `offset`. Raises OSError before the file's start, as files do."""
        self._at = offset + (self._source.size if whence == os.SEEK_END else 0)
        if self._at < 0:
            raise OSError("before the start of the file")
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, length: int = -1) -> bytes:
        """Return up to `length` bytes. Raises BadZipFile for more than a directory can need."""
        left = max(0, self._source.size - self._at)
        length = left if length < 0 else min(length, left)
        if length > _DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {length} bytes")
        data = self._source.read(self._at, length)
        self._at += length
        return data


def read_directory(source: Source) -> dict[str, Entry]:
    """Return the members that the file's directory names, in its order.

    Raises: BadRecording for what is no ZIP file, names a member twice or members that overlap or lie outside, or needs
    what NPZ files do not use: encryption, several disks, other methods than deflate.
    """
    try:
        with zipfile.ZipFile(_Window(source)) as archive:
            found, directory_start = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise BadRecording(f"{source.name} is no whole NPZ file: {error}", hint=COPY_AGAIN) from error
    starts = sorted({info.header_offset for info in found} | {directory_start})
    ends = dict(pairwise(starts))
    entries: dict[str, Entry] = {}
    for info in found:
        if info.filename in entries:
            raise bad(source, info.filename, "the directory names it twice")
        entries[info.filename] = _entry(source, info, ends.get(info.header_offset, -1))
    if len(starts) <= len(found) or starts[0] != 0:
        raise BadRecording(f"{source.name} has members that lie over each other, or none at its start", hint=COPY_AGAIN)
    return entries


def _entry(source: Source, info: zipfile.ZipInfo, end: int) -> Entry:
    """Check what the directory says of a member. end: where what follows it begins; -1 if it lies outside."""
    stored = info.compress_type == _STORED
    if info.flag_bits & _ENCRYPTED_OR_PATCHED:
        raise bad(source, info.filename, "it is encrypted or a patch", hint="write it without, as numpy.savez does")
    if info.compress_type not in (_STORED, _DEFLATED):
        raise bad(
            source,
            info.filename,
            f"it is compressed by method {info.compress_type}",
            hint="write it with numpy.savez_compressed, which deflates",
        )
    if info.volume or info.header_offset < 0 or info.header_offset + _LOCAL.size + info.compress_size > end:
        raise bad(source, info.filename, "it lies outside of the file or over another member")
    if info.file_size > info.compress_size * (1 if stored else _DENSEST) or (
        stored and info.file_size != info.compress_size
    ):
        raise bad(source, info.filename, f"{info.compress_size} bytes cannot be {info.file_size} when inflated")
    return Entry(info.filename, info.header_offset, end, info.compress_size, info.file_size, info.CRC, stored)


def data_start(source: Source, entry: Entry) -> int:
    """Return where a member's bytes begin. Raises BadRecording if its own header is not that of the directory."""
    mark, _, flags, method, *_, name_length, extra_length = _LOCAL.unpack(source.read(entry.start, _LOCAL.size))
    start: int = entry.start + _LOCAL.size + name_length + extra_length
    if mark != b"PK\x03\x04" or start + entry.packed > entry.end:
        raise bad(source, entry.name, "there is no member where the directory says")
    name = source.read(entry.start + _LOCAL.size, name_length).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    if name != entry.name or (method == _STORED) != entry.stored:
        raise bad(source, entry.name, "its own header differs from the directory")
    return start


# members


def pieces(source: Source, entry: Entry, *, at_once: int = PIECE) -> Iterator[bytes]:
    """Yield a member's bytes, inflated, about `at_once` at a time.

    Never more than the directory says. Raises: BadRecording, at the last after all pieces, where length or CRC-32 is
    another than the directory's.
    """
    start = data_start(source, entry)
    packed = (
        source.read(at, min(at_once, start + entry.packed - at)) for at in range(start, start + entry.packed, at_once)
    )
    crc = size = 0
    for piece in packed if entry.stored else _inflated(source, entry, packed, at_once):
        crc = isal_zlib.crc32(piece, crc)
        size += len(piece)
        yield piece
    if size != entry.size:
        raise bad(source, entry.name, f"it has {size} bytes, but the directory says {entry.size}")
    if crc != entry.crc:
        raise bad(source, entry.name, "its CRC-32 is wrong")


def _inflated(source: Source, entry: Entry, packed: Iterator[bytes], at_once: int) -> Iterator[bytes]:
    """Yield a deflated member's bytes, never more than the directory says."""
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
    left = entry.size
    while not inflater.eof:
        is_hungry = inflater.needs_input
        piece = next(packed, b"") if is_hungry else b""
        try:
            data = inflater.decompress(piece, min(at_once, left + 1))  # one more tells whether there is more
        except igzip_lib.error as error:  # type: ignore[misc]  # its stub takes the class for an instance
            raise bad(source, entry.name, f"it cannot be inflated: {error}") from error
        left -= len(data)
        if left < 0:
            raise bad(source, entry.name, f"it inflates to more than the {entry.size} bytes that the directory says")
        if data:
            yield data
        elif is_hungry and not piece and not inflater.eof:  # some versions ask for more while they still have data
            raise bad(source, entry.name, "its compressed bytes end early")


def head(source: Source, entry: Entry, length: int) -> bytes:
    """Return a member's first `length` bytes, inflating little more. Raises BadRecording if it has fewer."""
    found = bytearray()
    for piece in pieces(source, entry, at_once=4096):
        found += piece
        if len(found) >= length:
            return bytes(found[:length])
    raise bad(source, entry.name, f"it has only {len(found)} bytes")
