"""Streams: the bytes of a part as they come from a source, into one buffer that each thread has.

Three ways (docs/design.md): HTTP for whatever signs URLs, local files, and fsspec's `cat_file` for the rest.
"""

import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tusz_cache.checksum import NOTHING, Expectation
from tusz_cache.copying.http import get
from tusz_cache.copying.pieces import BLOCK, BUFFER, Piece
from tusz_cache.disk_errors import translated as target_errors
from tusz_cache.entry import Entry
from tusz_cache.errors import BadResponse, NoSuchSource, SourceChanged
from tusz_cache.stores.base import Facts, GenericFetch, HttpFetch, LocalFetch
from tusz_cache.stores.foreign import translated
from tusz_cache.stores.local import mark_of

_REPLAN = "run again: the plan is made anew"

_thread = threading.local()


class Stream(Protocol):
    """The bytes of one request."""

    expectation: Expectation  # what the answer says of the whole object

    def fill(self, view: memoryview) -> None:
        """Read exactly `view`. Raises CacheError."""

    def finish(self) -> None:
        """Make sure that nothing else follows, and that it was the version asked for. Raises CacheError."""


def open_stream(piece: Piece, length: int) -> Stream:
    """Ask for `length` bytes from the start of `piece` on."""
    match piece.fetch:
        case HttpFetch():
            return get(piece.fetch, piece.entry, piece.start, length, piece.stall)
        case LocalFetch():
            return _LocalStream(piece.entry, piece.fetch.path, piece.start)
        case GenericFetch():
            return _GenericStream(piece)


def blocks(stream: Stream, piece: Piece) -> Iterator[memoryview]:
    """Yield the piece's bytes in filled buffers. A yielded view is good until the next one."""
    size = max(piece.block, BLOCK) if isinstance(piece.fetch, GenericFetch) else piece.block
    held = buffer(min(size, max(piece.length, 1)))
    left = piece.length
    while left:
        view = held[:left]
        stream.fill(view)
        left -= len(view)
        yield view


def buffer(size: int) -> memoryview:
    """Return `size` bytes of this thread's buffer."""
    held: memoryview | None = getattr(_thread, "buffer", None)
    if held is None or len(held) < size:
        # whole pages of its own: copying from pages of a file to memory that begins a little behind a page is slower
        own = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held = _thread.buffer = memoryview(own)
    return held[:size]


@dataclass(slots=True)
class _LocalStream:
    entry: Entry
    path: Path
    offset: int
    expectation: Expectation = NOTHING
    _descriptor: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        try:
            with translated(str(self.path)):
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except NoSuchSource as error:
            raise SourceChanged(f"{self.entry.key!r} is gone from the source", hint=_REPLAN) from error
        self._check()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fill(self, view: memoryview) -> None:
        while view:
            with translated(str(self.path)):
                count = os.preadv(self._descriptor, [view], self.offset)
            if not count:
                raise SourceChanged(f"{self.entry.key!r} became shorter", hint=_REPLAN)
            self.offset += count
            view = view[count:]

    def finish(self) -> None:
        self._check()  # nothing wrote to it meanwhile

    def _check(self) -> None:
        if mark_of(os.fstat(self._descriptor)) != self.entry.etag:
            raise SourceChanged(f"{self.entry.key!r} was changed after it was listed", hint=_REPLAN)


@dataclass(slots=True)
class _GenericStream:
    piece: Piece
    expectation: Expectation = NOTHING
    _offset: int = field(init=False)

    def __post_init__(self) -> None:
        self._offset = self.piece.start
        whole = self.piece.length == self.piece.entry.size
        if whole or not self._fetch.names_version:
            facts = self._check()
            self.expectation = facts.expectation if whole else NOTHING

    @property
    def _fetch(self) -> GenericFetch:
        assert isinstance(self.piece.fetch, GenericFetch)
        return self.piece.fetch

    def fill(self, view: memoryview) -> None:
        stop = self._offset + len(view)
        view[:] = self._fetch.source.read(self.piece.entry, self._offset, stop, self.piece.stall)
        self._offset = stop

    def finish(self) -> None:
        if not self._fetch.names_version:
            self._check()  # the version before and after is the same, so the bytes between are of it

    def _check(self) -> Facts:
        entry = self.piece.entry
        facts = self._fetch.source.facts(entry, self.piece.stall)
        if (facts.size, facts.etag) != (entry.size, entry.etag):
            raise SourceChanged(f"{entry.key!r} was changed after it was listed", hint=_REPLAN)
        return facts


def read_range(descriptor: int, start: int, length: int, path: Path) -> Iterator[memoryview]:
    """Yield bytes [start, start + length) of an open file, in this thread's buffer. Raises BadResponse if shorter."""
    held = buffer(BUFFER)
    while length:
        with target_errors(path):
            count = os.preadv(descriptor, [held[:length]], start)
        if not count:
            raise BadResponse(f"{path} is shorter than it should be", hint="run sync again: it is fetched anew")
        yield held[:count]
        start += count
        length -= count
