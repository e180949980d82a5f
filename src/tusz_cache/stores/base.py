"""What every source offers, as values and one protocol."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tusz_cache.checksum import NOTHING, Expectation, uniform_parts
from tusz_cache.entry import Entry


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a source: the options that several commands share."""

    endpoint_url: str | None = None  # of an S3-compatible server
    anon: bool = False  # no credentials, for public buckets
    profile: str | None = None  # of the AWS configuration
    storage_options: Mapping[str, Any] = field(default_factory=dict)  # handed to the fsspec filesystem as they are


@dataclass(frozen=True, slots=True)
class Facts:
    """What a source says of one object right now."""

    size: int
    etag: str | None
    expectation: Expectation = NOTHING
    part_sizes: tuple[int, ...] = ()  # lengths of the source's own parts, for a composite expectation

    @property
    def source_parts_are_uniform(self) -> bool:
        """Whether the source's own parts are known and all but the last of one length."""
        return bool(self.part_sizes) and self.part_sizes == uniform_parts(self.size, self.part_sizes[0] or 1)


@dataclass(frozen=True, slots=True)
class HttpFetch:
    """Bytes by HTTP: a signed URL, or a plain one. Can be pickled for worker processes."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    mark: str = "etag"  # the answer's header that carries the version mark
    is_s3: bool = False  # answers carry S3's checksum headers
    cafile: str | None = None  # certificates to trust instead of the system's
    verify: bool = True  # False: the user switched certificate checks off


@dataclass(frozen=True, slots=True)
class LocalFetch:
    """Bytes by pread."""

    path: Path


@dataclass(frozen=True, slots=True)
class GenericFetch:
    """Bytes by fsspec's own reading, in this process only."""

    source: "RangeReader"
    names_version: bool = False  # a request for bytes names the version it wants, so that no other can come


Fetch = HttpFetch | LocalFetch | GenericFetch


class RangeReader(Protocol):
    """Reads a part of an object."""

    def read(self, entry: Entry, start: int, stop: int, stall: float) -> bytes:
        """Return bytes [start, stop) of `entry`. stall: seconds without an answer. Raises CacheError."""

    def facts(self, entry: Entry, stall: float) -> Facts:
        """Say what the object is now. stall: as for `read`. Raises CacheError."""


class Source(Protocol):
    """A place that lists objects and hands out ways to read them. Thread-safe."""

    url: str  # for messages and the seal, without credentials

    def entries(self) -> Iterator[Entry]:
        """Yield every object, directory markers too, in any order, asked anew at each call, a page at a time.

        Raises: NoSuchSource, AccessDenied, NoCredentials, WrongRegion, Unreachable, ListingBroken.
        """

    def facts(self, entry: Entry) -> Facts:
        """Ask for one object's version, size and checksums. Raises: SourceChanged if it is gone; CacheError."""

    def fetch(self, entry: Entry) -> Fetch:
        """Return a way to read `entry`, good for the next hour. Raises: CacheError."""

    def part_sizes(self, entry: Entry, count: int) -> tuple[int, ...]:
        """Return the lengths of all `count` parts that the object was uploaded in. Raises: CacheError."""

    def crosses_processes(self) -> bool:
        """Whether a worker process can use what `fetch` returns."""

    def uses_tls(self) -> bool:
        """Whether bytes come over TLS, which costs a CPU more than copying does. Known after the first listing."""

    def refresh(self) -> None:
        """Forget credentials and read them anew, after signed requests were refused."""
