"""Opening a location. The only import of fsspec."""

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tusz_cache.errors import NoSuchSource, TargetError, UsageError
from tusz_cache.stores.base import Access, Source
from tusz_cache.stores.foreign import translated
from tusz_cache.stores.generic import GenericSource
from tusz_cache.stores.http import HttpSource
from tusz_cache.stores.local import LocalSource
from tusz_cache.stores.s3 import S3Source, s3_options

_S3 = {"s3", "s3a"}
_HTTP = {"http", "https"}


def open_source(url: str, access: Access | None = None) -> Source:
    """Open any fsspec URL or path for reading. Asks the store nothing yet.

    Raises: UsageError for an unknown scheme or option, MissingPackage, NoSuchSource for a local path that is not there.
    """
    access = access or Access()
    if not url:
        raise UsageError("the source is empty", hint="is a variable unset? Name a URL or a path")
    scheme, _, rest = url.partition("://") if "://" in url else ("file", "", url)
    if scheme not in _S3 and (access.endpoint_url or access.anon or access.profile):
        raise UsageError(
            "--endpoint-url, --anon and --profile are for s3:// sources",
            hint=f"use --storage-option KEY=VALUE for {scheme}://",
        )
    if scheme in {"file", "local"}:
        return _open_local(url, rest)
    options: dict[str, Any] = dict(access.storage_options)
    if scheme in _S3:
        options = s3_options(access)
    filesystem = _filesystem(scheme, url, options)
    shown = without_secrets(url)
    if scheme in _S3:
        return S3Source(shown, filesystem, rest, lambda: _filesystem(scheme, url, options), _call)
    if scheme in _HTTP:
        return HttpSource(shown, filesystem, url)
    return GenericSource(shown, filesystem, url)


def _open_local(url: str, rest: str) -> LocalSource:
    root = _absolute(rest)
    with translated(url):
        there = root.exists()
    if not there:
        raise NoSuchSource(f"there is nothing at {url}", hint="check the path for typing errors")
    return LocalSource(str(root), root)


def _call(function: Callable[..., Coroutine[Any, Any, Any]], filesystem: Any, *arguments: Any) -> Any:
    from fsspec.asyn import sync  # noqa: PLC0415 - imported by now; see _filesystem

    return sync(filesystem.loop, function, filesystem, *arguments)


def _filesystem(scheme: str, url: str, options: dict[str, Any]) -> Any:
    import fsspec  # noqa: PLC0415 - half a second that `--help` and the workers do not need

    with translated(url):
        try:
            return fsspec.filesystem(
                scheme, **options, use_listings_cache=False, skip_instance_cache=scheme != "memory"
            )
        except ValueError as error:
            raise UsageError(
                f"cannot open {url}: {error}", hint="use s3://, gs://, https://, a path, or another fsspec scheme"
            ) from error


def upload(directory: Path, url: str, access: Access) -> None:
    """Put every file below `directory` under an s3:// URL, whose bucket is made. For the demo and tests.

    Raises: SourceError, Unreachable.
    """
    filesystem = _filesystem("s3", url, s3_options(access))
    bucket = url.removeprefix("s3://").partition("/")[0]
    with translated(url):
        filesystem.mkdir(bucket)
        filesystem.put(str(directory) + "/", url.removeprefix("s3://").rstrip("/") + "/", recursive=True)


def _absolute(text: str) -> Path:
    """Return the path that a user names; "~" is home, symbolic links stay as they are."""
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - resolve() would follow links


def without_secrets(url: str) -> str:
    """Return `url` without user name, password and query, as messages and the seal may show it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def target_path(target: str | os.PathLike[str]) -> Path:
    """Return the local directory that `target` names: a path or a file:// URL. Raises TargetError for other schemes."""
    text = os.fspath(target)
    scheme, found, rest = text.partition("://")
    if found and scheme not in {"file", "local"}:
        raise TargetError(
            f"the target {text} is remote",
            hint="a target is a local directory for now: the point is to bring the cache to this machine",
        )
    if not (rest if found else text):
        raise UsageError("the target is empty", hint="is a variable unset? Name a directory")
    path = _absolute(rest if found else text)
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:
        raise TargetError(
            f"cannot look at {path}: {error.strerror}", hint="check the path and its permissions"
        ) from error
    if is_other:
        raise TargetError(
            f"the target {path} is not a directory", hint="name a directory; it is made if it does not exist"
        )
    return path
