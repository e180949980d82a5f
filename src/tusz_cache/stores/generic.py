"""Every filesystem that has no lane of its own: listing by `find`, bytes by `cat_file` with a length check."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from operator import methodcaller
from typing import Any

from tusz_cache.entry import Entry, is_ours
from tusz_cache.errors import BadResponse, ListingBroken, NoSuchSource, SourceChanged, SourceError
from tusz_cache.stores.base import Facts, GenericFetch
from tusz_cache.stores.foreign import translated, translated_read
from tusz_cache.stores.schemes import Info, Scheme

ANSWER = 60.0  # seconds for a question about one object
LISTING = 1800.0  # seconds for a whole listing, whose progress nobody can see
SLOWEST = 64 * 1024  # bytes per second; a request for more bytes may take longer, since its progress cannot be seen
REOPEN_EVERY = 2.0  # seconds

_REPLAN = "run again: the plan is made anew"

Method = Callable[[Any], Coroutine[Any, Any, Any]]  # of an asynchronous filesystem


class GenericSource:
    """Objects below a URL of any scheme."""

    names_version = False  # whether a request for bytes names the version, so that no other can come

    def __init__(self, url: str, root: str, scheme: Scheme, open_filesystem: Callable[[], Any]) -> None:
        self.url = url
        self._scheme = scheme
        self._open = open_filesystem
        self._fs = open_filesystem()
        self._top = str(self._fs._strip_protocol(root))  # noqa: SLF001 - fsspec's own way to a bare path
        self._single = False
        self._lock = threading.Lock()
        self._opened = time.monotonic()

    @property
    def _root(self) -> str:
        return self._top.rstrip("/")

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        info = self._info(self._root or self._top)
        self._single = info["type"] == "file"
        if self._single:
            yield self._entry(self._root.rpartition("/")[2], info)
            return
        for path, row in self._rows(self._root or self._top):
            key = path.removeprefix(self._root + "/")
            if key == path:
                raise ListingBroken(f"the listing of {self.url} names {path!r}, which is not below it", hint=_REPLAN)
            if not is_ours(key):
                yield self._entry(key, row)

    def _rows(self, directory: str) -> Iterator[tuple[str, Info]]:
        with translated(self.url):
            rows: dict[str, Info] = self._call("find", LISTING, directory, detail=True)
        for path, info in rows.items():
            if info["type"] == "link":
                yield from self._followed(path)
            elif info["type"] not in {"other", "unknown"}:  # sockets, pipes and devices
                yield path, info

    def _followed(self, path: str) -> Iterator[tuple[str, Info]]:
        """Yield what a symbolic link leads to, under the link's own name."""
        try:
            info = self._info(path)
        except NoSuchSource as error:
            raise SourceError(f"{path} is a symbolic link that leads nowhere", hint="mend or remove it") from error
        if info["type"] == "directory":
            yield from self._rows(path)
        else:
            yield path, info

    def _entry(self, key: str, info: Info) -> Entry:
        return Entry(key, self._size(key, info), self._scheme.mark(info))

    def _size(self, key: str, info: Info) -> int:
        if info["type"] == "directory":
            raise SourceChanged(f"{key!r} is a directory now", hint=_REPLAN)
        if info["size"] is None:
            raise SourceError(
                f"{self.url} tells no size of {key!r}", hint="a cache can only come from a store that knows its sizes"
            )
        return int(info["size"])

    def _path(self, entry: Entry) -> str:
        return self._root if self._single else f"{self._root}/{entry.key}"

    def facts(self, entry: Entry, stall: float | None = None) -> Facts:
        """See Source. stall: seconds without an answer; None: ANSWER."""
        try:
            info = self._info(self._path(entry), stall)
        except NoSuchSource as error:
            raise SourceChanged(f"{entry.key!r} is gone from the source", hint=_REPLAN) from error
        return Facts(self._size(entry.key, info), self._scheme.mark(info), self._scheme.expect(info))

    def _info(self, path: str, seconds: float | None = None) -> Info:
        with translated(self.url):
            info: Info = self._call("info", seconds or ANSWER, path)
        return info

    def fetch(self, entry: Entry) -> GenericFetch:
        """See Source."""
        return GenericFetch(self, names_version=self.names_version and entry.etag is not None)

    def read(self, entry: Entry, start: int, stop: int, stall: float) -> bytes:
        """Return bytes [start, stop), stop > start. stall: seconds, more for many bytes (SLOWEST).

        Raises: BadResponse if they are not that many, SourceChanged, Stalled, Throttled, other TransferErrors.
        """
        try:
            with translated_read(f"{self.url}/{entry.key}"):
                data = self._read(entry, start, stop, stall + (stop - start) / SLOWEST)
        except NoSuchSource as error:
            raise SourceChanged(f"{entry.key!r} is gone from the source", hint=_REPLAN) from error
        if len(data) != stop - start:
            raise BadResponse(f"{entry.key!r}: {len(data)} bytes came instead of {stop - start}", hint="run again")
        return data

    def _read(self, entry: Entry, start: int, stop: int, seconds: float) -> bytes:
        data: bytes = self._call("cat_file", seconds, self._path(entry), start=start, end=stop)
        return data

    def _call(self, name: str, seconds: float, *args: Any, **options: Any) -> Any:
        """Return what the filesystem's method answers. Raises its errors, and TimeoutError after so many seconds."""
        if self._fs.async_impl:
            return self._wait(methodcaller(f"_{name}", *args, **options), seconds)
        return _result(_in_thread(lambda: getattr(self._fs, name)(*args, **options)), seconds)

    def _wait(self, method: Method, seconds: float) -> Any:
        filesystem = self._fs
        return _result(asyncio.run_coroutine_threadsafe(method(filesystem), filesystem.loop), seconds)

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
        """See Source. Opens the filesystem anew."""
        with self._lock:
            if time.monotonic() - self._opened > REOPEN_EVERY:  # many requests fail at once
                self._fs = self._open()
                self._opened = time.monotonic()
                self._reopened()

    def _reopened(self) -> None:
        """For sources that remember something of the filesystem that they had."""


def _result(future: Future[Any], seconds: float) -> Any:
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.cancel():
            raise TimeoutError(f"no answer in {seconds:.0f} s") from None
        raise


def _in_thread(call: Callable[[], Any]) -> Future[Any]:
    """Run `call` in a thread that can be given up: a filesystem without coroutines cannot be told to stop."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - for the thread that waits
            _settle(future, error=error)
        else:
            _settle(future, result)

    threading.Thread(target=run, name="generic", daemon=True).start()
    return future


def _settle(future: Future[Any], result: Any = None, error: BaseException | None = None) -> None:
    if not future.set_running_or_notify_cancel():
        return  # nobody waits any more
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
