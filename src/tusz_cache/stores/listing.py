"""Listing a bucket by ListObjectsV2: page after page, and several folders at once where that is quicker.

Nothing here relies on the order of keys: directory buckets and some servers have none, and there ranges of keys
(StartAfter) would lose objects silently. The folders that a Delimiter tells do not.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

from tusz_cache.errors import ListingBroken, SourceError

AT_ONCE = 8  # requests
_AGAIN = "run again; nothing was concluded from it"

Row = dict[str, Any]  # of one object: Key, Size, ETag
Ask = Callable[..., dict[str, Any]]  # takes parameters of ListObjectsV2, returns its answer, raises CacheError


@dataclass(frozen=True, slots=True)
class _Page:
    rows: list[Row]
    folders: list[str]
    is_last: bool


@dataclass(slots=True)
class _Chain:
    """Pages that follow one another."""

    ask: Ask
    prefix: str
    delimiter: str = ""
    token: str = ""
    seen: set[str] = field(default_factory=set)  # tokens that led to pages we have

    def next_page(self) -> _Page:
        """Ask for the page after the last one. Raises ListingBroken if it contradicts itself."""
        optional = {"Delimiter": self.delimiter, "ContinuationToken": self.token}
        answer = self.ask(Prefix=self.prefix, **{name: value for name, value in optional.items() if value})
        rows: list[Row] = answer.get("Contents", [])
        folders = [row["Prefix"] for row in answer.get("CommonPrefixes", [])]
        # some servers count folders, some do not
        if answer.get("KeyCount", len(rows)) not in {len(rows), len(rows) + len(folders)}:
            raise ListingBroken(f"a page of the listing of {self.prefix!r} lacks keys that it counts", hint=_AGAIN)
        if any(not name.startswith(self.prefix) for name in (*(row["Key"] for row in rows), *folders)):
            raise ListingBroken(f"the listing of {self.prefix!r} names objects elsewhere", hint=_AGAIN)
        is_last = not answer.get("IsTruncated")
        self.seen.add(self.token)
        if not is_last:
            self.token = answer.get("NextContinuationToken") or ""
            if self.token in self.seen:  # also if it is missing: the first page is the one without a token
                raise ListingBroken(f"the listing of {self.prefix!r} ends in the middle", hint=_AGAIN)
        return _Page(rows, folders, is_last)


def listed(ask: Ask, prefix: str) -> Iterator[Row]:
    """Yield a row for every object below `prefix`, folder markers too, in any order. Holds a few pages at a time.

    Raises ListingBroken where the answers contradict themselves or end early, and what `ask` raises.
    """
    chain = _Chain(ask, prefix)
    first = chain.next_page()
    level = None if first.is_last else _level_to_split(ask, prefix, first)
    if level is None:
        yield from first.rows
        if not first.is_last:
            yield from _together([chain])
        return
    again = {row["Key"] for row in first.rows}  # they have to come with their folder, too
    for row in itertools.chain(level.rows, _together([_Chain(ask, folder) for folder in level.folders])):
        again.discard(row["Key"])
        yield row
    if again:
        raise ListingBroken(f"the listing of {prefix!r} names {min(again)!r} first, and then no more", hint=_AGAIN)


def _level_to_split(ask: Ask, prefix: str, first: _Page) -> _Page | None:
    """Return the objects and folders right below `prefix` if asking each folder by itself is quicker, else None.

    It is where folders fill pages: the keys of the first page lie in one of several folders. What a server makes of a
    Delimiter is taken only if it fits.
    """
    inside = (row["Key"][len(prefix) :].partition("/") for row in first.rows)
    heads = {f"{prefix}{head}/" for head, slash, _ in inside if slash}
    if len(heads) != 1:
        return None
    try:
        level = _Chain(ask, prefix, delimiter="/").next_page()
        for folder in heads:
            ask(Prefix=folder, MaxKeys=1)  # a policy may allow nothing but the prefix as it was given
    except SourceError:
        return None
    fits = level.is_last and heads.issubset(level.folders) and prefix not in level.folders
    return level if fits and len(level.folders) > 1 else None


def _together(chains: Iterable[_Chain]) -> Iterator[Row]:
    """Follow chains to their ends, some at a time. At most one page of each is asked for ahead of its reader."""
    waiting = deque(chains)
    asked: dict[Future[_Page], _Chain] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="list") as pool:
        try:
            while waiting or asked:
                while waiting and len(asked) < AT_ONCE:
                    chain = waiting.popleft()
                    asked[pool.submit(chain.next_page)] = chain
                for future in wait(asked, return_when=FIRST_COMPLETED).done:
                    chain, page = asked.pop(future), future.result()
                    if not page.is_last:
                        asked[pool.submit(chain.next_page)] = chain
                    elif not page.rows and len(chain.seen) == 1:
                        raise ListingBroken(f"{chain.prefix!r} is listed, and nothing in it", hint=_AGAIN)
                    yield from page.rows
        finally:
            pool.shutdown(cancel_futures=True)


def take_rows(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Read the rows of a listing before botocore does, which takes 60 ms for 1000, most of it for dates.

    A handler for botocore's event "before-parse". What it does not understand it leaves to botocore.
    """
    if response_dict["status_code"] != 200:
        return
    try:
        root = ET.fromstring(response_dict["body"])  # noqa: S314 - what botocore does with the same bytes
    except ET.ParseError:
        return
    space = root.tag.rpartition("ListBucketResult")[0]
    contents = [item for item in root if item.tag == f"{space}Contents"]
    names = [(name, f"{space}{name}") for name in ("Key", "Size", "ETag")]
    rows = [{name: item.findtext(tag) for name, tag in names} for item in contents]
    if not rows or any(row["Key"] is None or row["Size"] is None for row in rows):
        return
    root[:] = [item for item in root if item.tag != f"{space}Contents"]
    response_dict["body"] = ET.tostring(root)
    customized_response_dict["Contents"] = rows
