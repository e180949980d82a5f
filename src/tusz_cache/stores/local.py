"""A local directory or file as a source: a mounted disk, another cache."""

import os
from collections.abc import Iterator
from pathlib import Path

from tusz_cache.entry import Entry, is_ours
from tusz_cache.errors import SourceChanged, SourceError
from tusz_cache.stores.base import Facts, LocalFetch
from tusz_cache.stores.foreign import translated


def mark_of(stat: os.stat_result) -> str:
    """Return a local file's version mark: it changes with every write. Not the inode: bucket mounts renumber them."""
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"


def walk(root: Path, prefix: str = "", *, strict: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (key, stat) of every file below `root`, our own directory left out. Symbolic links are followed.

    strict: raise SourceError for a link that leads nowhere. Sockets, pipes and devices are no files.
    """
    with os.scandir(root) as rows:
        for row in rows:
            key = prefix + row.name
            if is_ours(key):
                continue
            if row.is_dir():
                yield from walk(Path(row.path), key + "/", strict=strict)
            elif row.is_file():
                yield key, row.stat()
            elif strict and row.is_symlink():
                raise SourceError(f"{row.path} is a symbolic link that leads nowhere", hint="mend or remove it")


class LocalSource:
    """Files below a directory, or one file. Symbolic links are followed; our own directory is left out."""

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self._root = root

    def overlaps(self, directory: Path) -> bool:
        """Whether `directory` is the source, lies in it, or contains it."""
        here, there = (Path(os.path.realpath(one)) for one in (self._root, directory))  # bears a link to itself
        return here == there or here in there.parents or there in here.parents

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        with translated(self.url):
            if self._root.is_dir():
                for key, stat in walk(self._root, strict=True):
                    yield Entry(key, stat.st_size, mark_of(stat))
            else:
                stat = self._root.stat()
                yield Entry(self._root.name, stat.st_size, mark_of(stat))

    def _path(self, entry: Entry) -> Path:
        return self._root / entry.key if self._root.is_dir() else self._root

    def facts(self, entry: Entry) -> Facts:
        """See Source."""
        try:
            stat = self._path(entry).stat()
        except FileNotFoundError as error:
            raise SourceChanged(
                f"{entry.key!r} is gone from the source", hint="run again: the plan is made anew"
            ) from error
        return Facts(stat.st_size, mark_of(stat))

    def fetch(self, entry: Entry) -> LocalFetch:
        """See Source."""
        return LocalFetch(self._path(entry))

    def part_sizes(self, entry: Entry, count: int) -> tuple[int, ...]:
        """See Source. Files know no parts."""
        raise NotImplementedError

    def crosses_processes(self) -> bool:
        """See Source."""
        return True

    def uses_tls(self) -> bool:
        """See Source."""
        return False

    def refresh(self) -> None:
        """See Source. There is nothing to renew."""
