"""Orders to workers and what becomes of them, as values that can be pickled."""

from dataclasses import dataclass
from pathlib import Path

from tusz_cache.checksum import Algorithm, Expectation
from tusz_cache.entry import Entry
from tusz_cache.errors import CacheError
from tusz_cache.stores.base import Fetch

BUFFER = 2 * 1024**2  # bytes; larger ones leave the CPU's cache, smaller ones cost system calls and turns of the GIL
TLS_BUFFER = 256 * 1024  # bytes; a read brings 16 KiB at most, and all processes together must stay small
BLOCK = 8 * 1024**2  # bytes; one write to a volume that wants large ones, one request of the generic lane


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of an order: fetch bytes [start, start + length) of an entry into a partial file."""

    ticket: int  # the engine's name for it
    entry: Entry
    fetch: Fetch
    partial: Path
    start: int
    length: int
    algorithm: Algorithm | None = None  # a second checksum, beside crc64nvme
    create: bool = False  # make the partial file (one part is the whole file)
    preallocate: bool = True
    stall: float = 30.0  # seconds without progress
    pace: float | None = None  # bytes per second
    block: int = BUFFER  # bytes to write at once


@dataclass(frozen=True, slots=True)
class Fetched:
    """A piece that lies in its place."""

    ticket: int
    received: int  # bytes
    crc: int  # crc64nvme
    seconds: float  # that it took, from its request on or from the piece before it in the same request
    digest: bytes = b""  # by the piece's algorithm, or the answer's
    expectation: Expectation | None = None  # what an S3 answer with a whole object said of it


@dataclass(frozen=True, slots=True)
class Failed:
    """A piece that did not come."""

    ticket: int
    error: CacheError
    received: int = 0  # bytes, in vain


@dataclass(frozen=True, slots=True)
class Skipped:
    """A piece that was not begun, because one before it in the same order did not come."""

    ticket: int


Result = Fetched | Failed | Skipped
