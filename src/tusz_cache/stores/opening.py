"""Opening a location. The only import of fsspec."""

import contextlib
import gc
import importlib
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tusz_cache.errors import MissingPackage, NoSuchSource, TargetError, UsageError
from tusz_cache.stores.base import Access, Source
from tusz_cache.stores.foreign import translated
from tusz_cache.stores.generic import GenericSource
from tusz_cache.stores.http import HttpSource
from tusz_cache.stores.known import SOURCES
from tusz_cache.stores.local import LocalSource
from tusz_cache.stores.s3 import S3Source, s3_options
from tusz_cache.stores.schemes import ANY, AZURE, KNOWN, Scheme

_S3 = {"s3", "s3a"}
_HTTP = {"http", "https"}
_NOISY = ("gcsfs", "azure", "asyncssh")  # they raise what they log
_SILENCE = logging.NullHandler()


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
    shown = without_secrets(url)
    if scheme in _S3:
        filesystem = _filesystem(scheme, url, options)
        return S3Source(shown, filesystem, rest, lambda: _filesystem(scheme, url, options), _call)
    if scheme in _HTTP:
        return HttpSource(shown, _filesystem(scheme, url, options), url)
    return _open_generic(scheme, url, shown, options)


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
    with translated(url), _without_collecting():
        import fsspec  # noqa: PLC0415 - a third of a second that `--help` and the workers do not need

        try:
            kind = fsspec.get_filesystem_class(scheme)
            # s3 and http take nothing from a URL but what is in its path
            named = {} if scheme in _S3 | _HTTP else kind._get_kwargs_from_urls(url)  # noqa: SLF001 - see _connected
            return kind(**(named | options), use_listings_cache=False, skip_instance_cache=scheme != "memory")
        except ValueError as error:
            raise UsageError(
                f"cannot open {url}: {error}", hint="use s3://, gs://, https://, a path, or another fsspec scheme"
            ) from error


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Spare the garbage collector the objects of an import, which all stay: a tenth of the time it takes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _open_generic(scheme: str, url: str, shown: str, options: dict[str, Any]) -> GenericSource:
    known = KNOWN.get(scheme)
    if known is None:
        return GenericSource(shown, url, ANY, lambda: _filesystem(scheme, url, options))
    kind = _implementation(scheme, known)
    _check_names(kind, scheme, known, options)
    return SOURCES.get(known.extra, GenericSource)(shown, url, known, lambda: _connected(kind, url, known, options))


def _implementation(scheme: str, known: Scheme) -> Any:
    for name in _NOISY:  # else what they log, tracebacks too, lands on standard error
        logging.getLogger(name).addHandler(_SILENCE)
    module, _, name = known.filesystem.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingPackage(
            f"{scheme}:// needs the package {module.partition('.')[0]}: {error}",
            hint=f"pip install 'tusz-cache[{known.extra}]'",
        ) from error


def _check_names(kind: Any, scheme: str, known: Scheme, options: dict[str, Any]) -> None:
    """Raise UsageError for options that the filesystem would ignore without a word."""
    unknown = options.keys() - inspect.signature(kind.__init__).parameters.keys() if known.swallows_options else set()
    if unknown:
        raise UsageError(
            f"{scheme}:// knows no storage option {', '.join(sorted(unknown))}", hint="check --storage-option"
        )


def _connected(kind: Any, url: str, known: Scheme, options: dict[str, Any]) -> Any:
    shown = without_secrets(url)
    with translated(shown):
        try:
            named = kind._get_kwargs_from_urls(url)  # noqa: SLF001 - fsspec's own way from a URL to host and user
            return kind(**{**known.options, **named, **options}, skip_instance_cache=True)
        except (TypeError, ValueError, FileNotFoundError) as error:
            raise UsageError(f"cannot open {shown}: {error}", hint=known.identity) from error


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
    # abfs://container@account: what stands before the "@" is no user
    place = parts.netloc if KNOWN.get(parts.scheme) is AZURE else parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


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
