"""What the operating system says of a target, as our errors: what is wrong, where, and what to do next."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from tusz_cache.entry import META
from tusz_cache.errors import CacheError, NoSpace, TargetError

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a target into our errors."""
    try:
        yield
    except OSError as error:
        raise _ours(error, path) from error


def _ours(error: OSError, path: Path) -> CacheError:
    path = Path(error.filename2 or error.filename or path)
    if error.errno == errno.ENOTDIR:  # what is no folder lies above
        path = next((one for one in (path, *path.parents) if one.exists()), path)
    if error.errno in _FULL:
        return NoSpace(
            f"no space left at {path}",
            hint="free space or choose a larger disk, then run again: finished parts are kept",
        )
    if error.errno in {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST}:
        hint = "a folder is where a file must be, or the other way round: move it away, then run again"
        return TargetError(f"{path} is in the way: {error.strerror}", hint=hint)
    if error.errno == errno.EXDEV:
        return TargetError(
            f"{path} lies on another file system than the target's {META}",
            hint="mount one file system over the whole target",
        )
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return TargetError(f"cannot write {path}: {error.strerror}", hint="make it writable, or choose another place")
    return TargetError(
        f"cannot use {path}: {error.strerror or error}", hint="check the target, its disk and the kernel log"
    )
