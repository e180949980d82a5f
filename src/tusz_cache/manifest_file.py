"""The file `manifest.jsonl`: one JSON object a line. The seal's digest covers its bytes, so they never change form."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from tusz_cache.checksum import Hasher, decode_crc, encode_crc
from tusz_cache.entry import LEVELS
from tusz_cache.errors import Damaged
from tusz_cache.manifest import BARE, LEVEL_NUMBERS, Draft, Manifest, Parts

_AT_ONCE = 4096  # lines in one piece
_ANEW = "run sync again: it checks the files that lie there and writes the manifest anew"


def to_bytes(manifest: Manifest) -> bytes:
    """Return the file `manifest.jsonl`. Every entry must carry a proof."""
    return b"".join(to_lines(manifest))


def to_lines(manifest: Manifest) -> Iterator[bytes]:
    """Yield the file a piece at a time, some thousand lines each. Every entry must carry a proof."""
    assert BARE not in manifest.levels
    columns = zip(
        manifest.keys, manifest.sizes, manifest.etags, manifest.crcs, manifest.levels, manifest.mtimes, strict=True
    )
    lines: list[bytes] = []
    for number, (key, size, etag, crc, level, mtime_ns) in enumerate(columns):
        row: dict[str, Any] = {
            "key": key,
            "size": size,
            "etag": etag,
            "checksum": {"crc64nvme": encode_crc(crc)},
            "verified": LEVELS[level],
            "mtime_ns": mtime_ns,
        }
        if number in manifest.parts:
            part_size, crcs = manifest.parts[number]
            row["parts"] = {"size": part_size, "crc64nvme": list(map(encode_crc, crcs))}
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        if len(lines) == _AT_ONCE:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


def from_bytes(data: bytes, *, path: str) -> Manifest:
    """Read `manifest.jsonl` as `from_lines` does."""
    return from_lines(data.splitlines(), path=path)


def from_lines(lines: Iterable[bytes], *, path: str) -> Manifest:
    """Read `manifest.jsonl` line by line. path: for the message. Raises Damaged, naming the line."""
    draft = Draft()
    for number, line in enumerate(lines, start=1):
        try:
            _append(draft, orjson.loads(line))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise Damaged(f"{path} line {number} cannot be read: {error}", hint=_ANEW) from error
    if (row := draft.repeated()) is not None:
        raise Damaged(f"{path} line {row + 1} names {draft.keys[row]!r} a second time", hint=_ANEW)
    return draft.latest()


def _append(draft: Draft, row: Any) -> None:
    """Append what a line says. Raises ValueError, KeyError, TypeError or OverflowError if it is none of ours."""
    level = LEVEL_NUMBERS.get(row["verified"])
    if level is None:
        raise ValueError(f"unknown verification level {row['verified']!r}")
    key, etag = row["key"], row["etag"]
    if not isinstance(key, str) or not isinstance(etag, str | None):
        raise TypeError("key or etag is no text")
    parts: Parts | None = None
    if "parts" in row:
        part_size = row["parts"]["size"]
        if not isinstance(part_size, int):
            raise TypeError("the part size is no whole number")
        crcs = [decode_crc(crc) for crc in row["parts"]["crc64nvme"]]
        parts = (part_size, crcs) if crcs else None
    crc = decode_crc(row["checksum"]["crc64nvme"])
    draft.append(key, row["size"], etag, (level, crc, row["mtime_ns"]), parts)


def digest(pieces: bytes | Iterable[bytes]) -> str:
    """Return the SHA-256 of a manifest's bytes, as the seal carries it."""
    whole = hashlib.sha256()
    for _ in hashed([pieces] if isinstance(pieces, bytes) else pieces, whole):
        pass
    return whole.hexdigest()


def hashed(pieces: Iterable[bytes], whole: Hasher) -> Iterator[bytes]:
    """Yield `pieces` as they come, each taken into `whole` before."""
    for piece in pieces:
        whole.update(piece)
        yield piece
