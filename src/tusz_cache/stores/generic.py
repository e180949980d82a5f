"""Every other fsspec filesystem: listing by `find`, bytes by `cat_file` with a length check."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tusz_cache.entry import Entry, is_ours
from tusz_cache.errors import BadResponse, NoSuchSource, SourceChanged
from tusz_cache.stores.base import Facts, GenericFetch
from tusz_cache.stores.foreign import translated, translated_read

# fields of `info` that change with an object's content, best first; named differently by every implementation
_MARKS = (
    "etag",
    "ETag",
    "generation",
    "md5Hash",
    "content_md5",
    "mtime",
    "modified",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


class GenericSource:
    """Objects below a URL of any scheme."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url = url
        self._fs = filesystem
        self._root = str(filesystem._strip_protocol(root)).rstrip("/")  # noqa: SLF001 - fsspec's own way to a bare path
        self._single = False

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        with translated(self.url):
            self._single = self._fs.isfile(self._root)
            if not self._single and self._root and not self._fs.exists(self._root):
                raise NoSuchSource(f"there is nothing at {self.url}", hint="check the path for typing errors")
            rows = {self._root: self._fs.info(self._root)} if self._single else self._fs.find(self._root, detail=True)
        for path, info in rows.items():
            key = path.rpartition("/")[2] if self._single else path.removeprefix(self._root + "/")
            if not is_ours(key):
                yield Entry(key, int(info["size"]), _mark(info))

    def _path(self, key: str) -> str:
        return self._root if self._single else f"{self._root}/{key}"

    def facts(self, entry: Entry) -> Facts:
        """See Source."""
        try:
            with translated(f"{self.url}/{entry.key}"):
                info = self._fs.info(self._path(entry.key))
        except NoSuchSource as error:
            raise SourceChanged(
                f"{entry.key!r} is gone from the source", hint="run again: the plan is made anew"
            ) from error
        return Facts(int(info["size"]), _mark(info))

    def fetch(self, entry: Entry) -> GenericFetch:
        """See Source."""
        return GenericFetch(self, entry.key)

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes [start, stop). Raises BadResponse if they are not that many."""
        with translated_read(f"{self.url}/{key}"):
            data: bytes = self._fs.cat_file(self._path(key), start=start, end=stop) if stop > start else b""
        if len(data) != stop - start:
            raise BadResponse(f"{key!r}: {len(data)} bytes came instead of {stop - start}", hint="run again")
        return data

    def part_sizes(self, entry: Entry, count: int) -> tuple[int, ...]:
        """See Source. Nothing is known of parts."""
        raise NotImplementedError

    def crosses_processes(self) -> bool:
        """See Source."""
        return False

    def uses_tls(self) -> bool:
        """See Source. Whatever it is, it stays in this process."""
        return False

    def refresh(self) -> None:
        """See Source. Renewal is the filesystem's own matter."""


def _mark(info: Mapping[str, Any]) -> str | None:
    for name in _MARKS:
        if (value := info.get(name)) is not None:
            # memory:// gives a time as a number when it lists and as a datetime when it is asked
            return str(value.timestamp() if isinstance(value, datetime) else value).strip('"')
    return None
