"""Schemes whose filesystems need more than `find`, `info` and `cat_file` as they are. Nothing is imported of theirs."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from tusz_cache.entry import Entry
from tusz_cache.errors import UsageError
from tusz_cache.stores.foreign import is_lost_connection, translated
from tusz_cache.stores.generic import ANSWER, GenericSource, Method

SFTP_BLOCK = 64 * 1024  # bytes; what most servers send at most in one answer


class GoogleSource(GenericSource):
    """Objects below gs://: every request for bytes names their generation."""

    names_version = True

    def _read(self, entry: Entry, start: int, stop: int, seconds: float) -> bytes:
        path, generation = self._path(entry), entry.etag
        data: bytes = self._call("cat_file", seconds, path, start=start, end=stop, generation=generation)
        return data


class SftpSource(GenericSource):
    """Files below sftp://. All requests share one connection, which is opened anew once it is lost."""

    _lost = False

    def _read(self, entry: Entry, start: int, stop: int, seconds: float) -> bytes:
        data: bytes = self._wait(partial(_range, path=self._path(entry), start=start, stop=stop), seconds)
        return data

    def _wait(self, method: Method, seconds: float) -> Any:
        if self._lost:
            self.refresh()
        try:
            return super()._wait(method, seconds)
        except Exception as error:
            self._lost = self._lost or is_lost_connection(error)
            raise

    def _reopened(self) -> None:
        self._lost = False


async def _range(filesystem: Any, path: str, start: int, stop: int) -> bytes:
    """Read bytes [start, stop), many requests at once. Not by sshfs's own `cat_file`, which reads the whole file.

    Nor by asyncssh's parallel reading: a lost connection leaves it with errors that it prints.
    """
    async with filesystem._pool.get() as channel, channel.open(path, "rb", block_size=0) as file:  # noqa: SLF001 - the only way to a channel
        blocks = (_block(file, at, min(at + SFTP_BLOCK, stop)) for at in range(start, stop, SFTP_BLOCK))
        return b"".join(await asyncio.gather(*blocks))


async def _block(file: Any, start: int, stop: int) -> bytes:
    data: bytes = await file.read(stop - start, start)
    while data and start + len(data) < stop:  # a server may send less than it is asked for
        more = await file.read(stop - start - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


class HubSource(GenericSource):
    """Files of a repository of the Hugging Face Hub, all of the commit that the revision meant when it was listed."""

    names_version = True
    _commit: str | None = None

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        with self._lock:
            self._commit = None
        yield from super().entries()

    @property
    def _root(self) -> str:
        with self._lock, translated(self.url):
            if self._commit is None:
                self._commit = self._at_commit()
            return self._commit

    def _at_commit(self) -> str:
        place = self._call("resolve_path", ANSWER, self._top)
        if not hasattr(place, "repo_id"):
            raise UsageError(
                f"{self.url} is a storage bucket, which has no commits to hold on to",
                hint="sync from a repository: hf://datasets/OWNER/NAME",
            )
        about = {"repo_type": place.repo_type, "revision": place.revision, "timeout": ANSWER}
        repository = self._fs._api.repo_info(place.repo_id, **about)  # noqa: SLF001 - the filesystem tells no commit
        pinned: str = type(place)(place.repo_type, place.repo_id, repository.sha, place.path_in_repo).unresolve()
        return pinned

    def _read(self, entry: Entry, start: int, stop: int, seconds: float) -> bytes:
        # without its cache, which reads far ahead of what is asked for
        data: bytes = self._call("cat_file", seconds, self._path(entry), start=start, end=stop, cache_type="none")
        return data


SOURCES: Mapping[str, type[GenericSource]] = {"gs": GoogleSource, "sftp": SftpSource, "hf": HubSource}  # by extra
