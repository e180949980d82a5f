"""Seal: the statement that a cache was whole when it was written, bound to its manifest by a digest."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tusz_cache.errors import Damaged
from tusz_cache.manifest import SplitCount

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What `seal.json` says."""

    source: str  # URL, without credentials
    manifest_sha256: str
    files: int
    bytes: int
    splits: Mapping[str, SplitCount]
    verification: Mapping[str, int]  # level -> files
    filters: Mapping[str, list[str]] = field(default_factory=dict)
    complete: bool = True  # False: filters left objects of the source out
    created: str  # UTC, ISO 8601
    tusz_cache: str  # version that wrote it
    volume: Mapping[str, str] | None = None  # {"kind", "name", "object_id"} where the cache lies on a declared volume
    format: int = FORMAT


def to_bytes(seal: Seal) -> bytes:
    """Return the file `seal.json`."""
    return json.dumps(asdict(seal), indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def from_bytes(data: bytes, *, path: str) -> Seal:
    """Read `seal.json`. path: for the message. Raises Damaged."""
    hint = "run sync again: it proves the cache anew and seals it"
    try:
        row: dict[str, Any] = json.loads(data)
        if row["format"] != FORMAT:
            raise Damaged(
                f"{path} has format {row['format']}, this version reads {FORMAT}", hint="update tusz_cache, or " + hint
            )
        row["splits"] = {name: SplitCount(**count) for name, count in row["splits"].items()}
        return _checked(Seal(**row))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path} cannot be read: {error}", hint=hint) from error


def _checked(seal: Seal) -> Seal:
    """Return `seal`. Raises TypeError if one of its fields is not what it says."""
    texts = [seal.source, seal.manifest_sha256, seal.created, seal.tusz_cache]
    texts += [*seal.verification, *(seal.volume or {}), *(seal.volume or {}).values()]
    texts += [text for globs in seal.filters.values() for text in globs]
    counts = [seal.files, seal.bytes, *seal.verification.values()]
    counts += [count for split in seal.splits.values() for count in (split.files, split.npz, split.bytes)]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is none")
    if not all(type(count) is int and count >= 0 for count in counts) or type(seal.complete) is not bool:
        raise TypeError("a count is none")
    return seal


def check_manifest(seal: Seal, manifest_sha256: str) -> None:
    """Raise Damaged unless `seal` was given to exactly the manifest of this digest."""
    if manifest_sha256 != seal.manifest_sha256:
        raise Damaged(
            "the seal does not fit the manifest: one of them was changed after sealing",
            hint="run sync again: it checks the files that lie there and seals them anew",
        )
