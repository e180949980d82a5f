"""Keys of a whole listing: whether they can be files beside each other below one root."""

import re
from collections.abc import Iterable

from tusz_cache.entry import check_key, parents
from tusz_cache.errors import UnsafeKey
from tusz_cache.manifest import Manifest

_RENAME = "no file system can hold both: rename one at the source, or leave one out with --exclude"
# A component that is surely good: 63 characters are at most 252 bytes. What does not match is looked at closely.
_COMPONENT = r"(?!\.\.?(?:/|\Z))[^/\0\ud800-\udfff]{1,63}"
_is_plain = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*").fullmatch


def check_keys(manifest: Manifest, *, folds_case: bool = False) -> None:
    """Raise UnsafeKey, naming the key, unless all keys can be files beside each other below one root.

    folds_case: the target's file system takes "A" and "a" for one name.
    """
    for key in manifest.keys:
        if not _is_plain(key):
            check_key(key)
    if folds_case:
        _check_folded(manifest)
        return
    for folder, below in folders(manifest.keys).items():
        if folder in manifest:
            raise _is_both(folder, below)


def _check_folded(manifest: Manifest) -> None:
    names: dict[str, str] = {}  # as the target sees it -> key
    for key in manifest.keys:
        if (other := names.setdefault(key.casefold(), key)) != key:
            raise UnsafeKey(f"keys {other!r} and {key!r} would be one file on this target", hint=_RENAME)
    for folder, below in folders(names).items():
        if folder in names:
            raise _is_both(names[folder], names[below])


def _is_both(key: str, below: str) -> UnsafeKey:
    return UnsafeKey(f"key {key!r} is also a directory: {below!r} lies below it", hint=_RENAME)


def folders(keys: Iterable[str]) -> dict[str, str]:
    """Return every folder above `keys`, each with a key below it. Fast where neighbours lie in one folder."""
    found: dict[str, str] = {}
    last = ""
    for key in keys:
        folder = key[: max(key.rfind("/"), 0)]
        if folder == last:
            continue
        last = folder
        for above in parents(key):
            if above in found:
                break  # those above it are known too
            found[above] = key
    return found
