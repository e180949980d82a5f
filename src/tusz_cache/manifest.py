"""Manifest: the entries of a source or a target, and their form on disk (one JSON object a line)."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tusz_cache.checksum import decode_crc, encode_crc
from tusz_cache.entry import LEVELS, Entry, Level, Proof, check_key, parents
from tusz_cache.errors import Damaged, ListingBroken, UnsafeKey
from tusz_cache.tusz import split_of

_RENAME = "no file system can hold both: rename one at the source, or leave one out with --exclude"
_ANEW = "run sync again: it checks the files that lie there and writes the manifest anew"


@dataclass(frozen=True, slots=True)
class SplitCount:
    """What one split holds."""

    files: int = 0
    npz: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """Entries by key, in the order of their UTF-8 bytes."""

    files: Mapping[str, Entry]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Manifest":
        """Collect `entries`. Raises ListingBroken if a key comes twice."""
        files: dict[str, Entry] = {}
        for entry in entries:
            if entry.key in files:
                raise ListingBroken(
                    f"the listing names {entry.key!r} twice",
                    hint="run again; if it persists, the server's listing is broken",
                )
            files[entry.key] = entry
        return cls(dict(sorted(files.items(), key=lambda item: item[0].encode("utf-8", "surrogatepass"))))

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.files.values())

    @property
    def bytes(self) -> int:
        """Sum of all sizes."""
        return sum(entry.size for entry in self)

    def splits(self) -> dict[str, SplitCount]:
        """Return counts by split (first folder)."""
        return count_splits(self)


def count_splits(entries: Iterable[Entry]) -> dict[str, SplitCount]:
    """Return how many files, NPZ files and bytes each split (first folder) has."""
    counts: dict[str, SplitCount] = {}
    for entry in entries:
        split = split_of(entry.key)
        old = counts.get(split, SplitCount())
        counts[split] = SplitCount(old.files + 1, old.npz + entry.key.endswith(".npz"), old.bytes + entry.size)
    return counts


def check_keys(manifest: Manifest, *, folds_case: bool = False) -> None:
    """Raise UnsafeKey, naming the key, unless all keys can be files beside each other below one root.

    folds_case: the target's file system takes "A" and "a" for one name.
    """
    for key in manifest.files:
        check_key(key)
    fold: Callable[[str], str] = str.casefold if folds_case else str
    names: dict[str, str] = {}  # as the target sees it -> key
    folders: dict[str, str] = {}  # as the target sees it -> a key below it
    for key in manifest.files:
        if (other := names.setdefault(fold(key), key)) != key:
            raise UnsafeKey(f"keys {other!r} and {key!r} would be one file on this target", hint=_RENAME)
        for parent in parents(fold(key)):
            if parent in folders:
                break  # its own parents are known too
            folders[parent] = key
    for name, key in names.items():
        if name in folders:
            raise UnsafeKey(f"key {key!r} is also a directory: {folders[name]!r} lies below it", hint=_RENAME)


def to_line(entry: Entry) -> bytes:
    """Return the manifest line of `entry`, which must carry a proof."""
    proof = entry.proof
    assert proof is not None
    row: dict[str, Any] = {
        "key": entry.key,
        "size": entry.size,
        "etag": entry.etag,
        "checksum": {"crc64nvme": encode_crc(proof.crc64nvme)},
        "verified": proof.verified,
        "mtime_ns": proof.mtime_ns,
    }
    if proof.part_crcs:
        row["parts"] = {"size": proof.part_size, "crc64nvme": [encode_crc(crc) for crc in proof.part_crcs]}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def to_bytes(manifest: Manifest) -> bytes:
    """Return the file `manifest.jsonl`."""
    return b"".join(to_line(entry) for entry in manifest)


def from_line(line: bytes) -> Entry:
    """Inverse of `to_line`. Raises ValueError, KeyError or TypeError on anything else."""
    row = json.loads(line)
    if row["verified"] not in LEVELS:
        raise ValueError(f"unknown verification level {row['verified']!r}")
    parts = row.get("parts", {"size": 0, "crc64nvme": []})
    proof = Proof(
        crc64nvme=decode_crc(row["checksum"]["crc64nvme"]),
        verified=cast("Level", row["verified"]),
        mtime_ns=int(row["mtime_ns"]),
        part_size=int(parts["size"]),
        part_crcs=tuple(decode_crc(crc) for crc in parts["crc64nvme"]),
    )
    return Entry(str(row["key"]), int(row["size"]), row["etag"], proof)


def from_bytes(data: bytes, *, path: str) -> Manifest:
    """Read `manifest.jsonl`. path: for the message. Raises Damaged, naming the line."""
    files: dict[str, Entry] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            entry = from_line(line)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise Damaged(f"{path} line {number} cannot be read: {error}", hint=_ANEW) from error
        if entry.key in files:
            raise Damaged(f"{path} line {number} names {entry.key!r} a second time", hint=_ANEW)
        files[entry.key] = entry
    return Manifest(files)


def digest(data: bytes) -> str:
    """Return the SHA-256 of a manifest's bytes, as the seal carries it."""
    return hashlib.sha256(data).hexdigest()
