"""Plain http:// and https:// sources: a server's HTML index, walked, or one file."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tusz_cache.entry import Entry
from tusz_cache.errors import NoSuchSource, SourceChanged, SourceError
from tusz_cache.stores.base import Facts, HttpFetch
from tusz_cache.stores.foreign import translated

_AT_ONCE = 16  # HEAD requests


class HttpSource:
    """Files below a URL. Sizes and marks come from one HEAD each, since an index shows none."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url = url
        self._fs = filesystem
        address = urlsplit(root)
        user, at, host = address.netloc.rpartition("@")
        self._headers = tuple(_headers(filesystem).items())
        if at:
            secret = base64.b64encode(unquote(user).encode()).decode()
            self._headers += (("Authorization", f"Basic {secret}"),)
        self._is_folder = root.endswith("/")
        self._root = root.rstrip("/") + "/"
        self._netloc, self._host = address.netloc, host
        self._single = False

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = False
            try:
                for entry in pool.map(self._entry, self._links(self._root)):
                    found = True
                    yield entry
            except NoSuchSource:
                if found or self._is_folder:
                    raise
        if not found:
            yield from self._as_single()

    def _links(self, directory: str) -> Iterator[str]:
        with translated(self.url):
            rows = self._fs.ls(directory, detail=True)
        for url in sorted(row["name"] for row in rows):
            if "?" in url or "#" in url or not url.startswith(directory) or url == directory:
                continue  # sort links and parents of an index page
            if url.endswith("/"):
                yield from self._links(url)
            else:
                yield url

    def _entry(self, url: str) -> Entry:
        facts, _ = self._ask(url)
        return Entry(unquote(url.removeprefix(self._root)), facts.size, facts.etag)

    def _as_single(self) -> Iterator[Entry]:
        url = self._root.rstrip("/")
        facts, _ = self._ask(url)
        self._single = True
        yield Entry(unquote(url.rpartition("/")[2]), facts.size, facts.etag)

    def _address(self, entry: Entry) -> str:
        return self._root.rstrip("/") if self._single else self._root + quote(entry.key)

    def _ask(self, url: str) -> tuple[Facts, HttpFetch]:
        with translated(url):
            info = self._fs.info(url)
        if info.get("size") is None:
            raise SourceError(
                f"the server tells no size of {url}",
                hint="a cache can only come from a server that sends Content-Length",
            )
        address = info.get("url", url).replace(self._netloc, self._host, 1)  # user and password go into a header
        mark = "etag" if info.get("ETag") else "last-modified"
        value = info.get("ETag") or info.get("Last-Modified")
        facts = Facts(int(info["size"]), value.strip('"') if value else None)
        return facts, HttpFetch(address, self._headers, mark=mark)

    def facts(self, entry: Entry) -> Facts:
        """See Source."""
        return self._ask_for(entry)[0]

    def fetch(self, entry: Entry) -> HttpFetch:
        """See Source. Follows redirects now, so that workers need not."""
        return self._ask_for(entry)[1]

    def _ask_for(self, entry: Entry) -> tuple[Facts, HttpFetch]:
        try:
            return self._ask(self._address(entry))
        except NoSuchSource as error:
            raise SourceChanged(
                f"{entry.key!r} is gone from the source", hint="run again: the plan is made anew"
            ) from error

    def part_sizes(self, entry: Entry, count: int) -> tuple[int, ...]:
        """See Source. HTTP knows no parts."""
        raise NotImplementedError

    def crosses_processes(self) -> bool:
        """See Source."""
        return True

    def uses_tls(self) -> bool:
        """See Source."""
        return self._root.startswith("https://")

    def refresh(self) -> None:
        """See Source. There is nothing to renew."""


def _headers(filesystem: Any) -> dict[str, str]:
    """Return the headers that the user gave the filesystem for all requests."""
    given: dict[str, str] = dict(filesystem.client_kwargs.get("headers") or {})
    return given | dict(filesystem.kwargs.get("headers") or {})
