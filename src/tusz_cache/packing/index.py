"""Index: what a split of a packed store holds, and where. A value, and its file `index.json`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import orjson

from tusz_cache.checksum import crc64nvme, decode_crc, encode_crc
from tusz_cache.errors import Damaged
from tusz_cache.packing.blocks import BLOCK, CHANNELS, STEPS, WINDOW_BLOCKS, blocks_in

INDEX = "index.json"
FORMAT = 1
SMALL_LABELS = "uint8"  # labels that are whole numbers from 0 to 255, as they should be: kept as bytes

Dtype = Literal["float32", "int16"]

_MOST = 1 << 40  # of blocks or windows: beyond any disk, and sums stay within 64 bits


def shard_files(number: int) -> tuple[str, str]:
    """Return the names of a shard's two files: blocks and labels."""
    return f"shard-{number:05d}.npy", f"labels-{number:05d}.npy"


def own_labels_file(cache_file: str) -> str:
    """Return the name of the file of labels that are no bytes."""
    return f"{cache_file.removesuffix('.npz')}.labels.npy"


@dataclass(frozen=True, slots=True)
class PackedRecording:
    """Where one recording lies."""

    cache_file: str  # its name in the cache: "aaaaaaac_s001_t000_windows.npz"
    shard: int
    first: int  # block in the shard
    windows: int
    step: int  # blocks between two windows
    labels: str | None  # SMALL_LABELS; or the file of a float32 array of their own; None: it has none
    crc: int  # CRC64NVME of its blocks
    label_crc: int  # of its label blocks; 0: it has none

    @property
    def blocks(self) -> int:
        """Blocks that it takes."""
        return blocks_in(self.windows, self.step)


@dataclass(frozen=True, slots=True)
class Shard:
    """Two arrays, each a `.npy` file: blocks (K, C, S) and their labels (K, S) uint8."""

    file: str
    labels: str
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A split of a store."""

    split: str
    dtype: Dtype
    scale: float | None  # of int16: value = scale * number
    max_error: float  # of any sample against the cache; 0 for float32
    cache_manifest_sha256: str  # of the cache that it was packed from
    shards: tuple[Shard, ...]
    recordings: tuple[PackedRecording, ...]  # in the order of their names

    @property
    def windows(self) -> int:
        """Windows in all."""
        return sum(recording.windows for recording in self.recordings)

    @property
    def files(self) -> set[str]:
        """The names of all files that it speaks of."""
        own = {row.labels for row in self.recordings if row.labels is not None} - {SMALL_LABELS}
        return own | {name for shard in self.shards for name in (shard.file, shard.labels)}


def to_bytes(index: Index) -> bytes:
    """Return the file `index.json`."""
    shape = {"channels": CHANNELS, "block": BLOCK, "window_blocks": WINDOW_BLOCKS}
    recordings = [
        asdict(recording) | {"crc": encode_crc(recording.crc), "label_crc": encode_crc(recording.label_crc)}
        for recording in index.recordings
    ]
    document = {"format": FORMAT, **shape, **_head(index), "recordings": recordings}
    return stamped(document)


def stamped(document: Mapping[str, Any]) -> bytes:
    """Return an index's document with its checksum, as it is written."""
    return orjson.dumps(
        {**document, "crc64nvme": _crc(document)}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


def _head(index: Index) -> dict[str, Any]:
    return {
        "split": index.split,
        "dtype": index.dtype,
        "scale": index.scale,
        "max_error": index.max_error,
        "cache_manifest_sha256": index.cache_manifest_sha256,
        "shards": [asdict(shard) for shard in index.shards],
    }


def from_bytes(data: bytes, *, path: str) -> Index:
    """Read `index.json`. path: for the message. Raises Damaged if it is none, or contradicts itself."""
    try:
        return _checked(_unstamped(orjson.loads(data)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path} cannot be read: {error}", hint="pack the cache again into another directory, or update tusz_cache"
        ) from error


def _unstamped(document: dict[str, Any]) -> dict[str, Any]:
    """Return an index's document without its checksum. Raises ValueError if that is wrong."""
    stated = document.pop("crc64nvme")
    if stated != _crc(document):
        raise ValueError("its checksum is wrong: it was changed after packing")
    return document


def _crc(document: Mapping[str, Any]) -> str:
    return encode_crc(crc64nvme(orjson.dumps(document), 0))


def _checked(row: Mapping[str, Any]) -> Index:
    found = (row["format"], row["channels"], row["block"], row["window_blocks"])
    if found != (FORMAT, CHANNELS, BLOCK, WINDOW_BLOCKS):
        raise ValueError(f"its format, channels, block and window_blocks are {found}")
    if row["dtype"] not in get_args(Dtype) or (row["dtype"] == "int16") != _is_positive(row["scale"]):
        raise ValueError(f"dtype {row['dtype']!r:.100} does not go with scale {row['scale']!r:.100}")
    head = {name: row[name] for name in ("split", "dtype", "scale", "max_error", "cache_manifest_sha256")}
    if not isinstance(head["split"], str) or not isinstance(head["cache_manifest_sha256"], str):
        raise TypeError("split and cache_manifest_sha256 must be text")
    if head["max_error"] != 0 and not _is_positive(head["max_error"]):
        raise ValueError(f"max_error {head['max_error']!r:.100} makes no sense")
    shards = tuple(_shard(number, shard) for number, shard in enumerate(row["shards"]))
    recordings = tuple(map(_recording, row["recordings"]))
    used = [0] * len(shards)
    # by blocks as well: a recording without any begins where the next one does
    for recording in sorted(recordings, key=lambda recording: (recording.shard, recording.first, recording.blocks)):
        if not 0 <= recording.shard < len(shards) or recording.first != used[recording.shard]:
            raise ValueError(f"{recording.cache_file} does not lie behind its neighbour")
        used[recording.shard] += recording.blocks
    if used != [shard.blocks for shard in shards]:
        raise ValueError("its recordings do not fill its shards")
    names = [recording.cache_file for recording in recordings]
    if sorted(set(names)) != names:
        raise ValueError("its recordings are not in the order of their names")
    return Index(**head, shards=shards, recordings=recordings)


def _is_positive(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value > 0


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _shard(number: int, row: Mapping[str, Any]) -> Shard:
    shard = Shard(**row)
    if (shard.file, shard.labels) != shard_files(number) or not _is_count(shard.blocks):
        raise ValueError(f"its shard {number} makes no sense")
    return shard


def _recording(row: Mapping[str, Any]) -> PackedRecording:
    crcs = {"crc": decode_crc(row["crc"]), "label_crc": decode_crc(row["label_crc"])}
    recording = PackedRecording(**{**row, **crcs})
    name = recording.cache_file
    if not isinstance(name, str) or "/" in name:
        raise ValueError(f"{name!r:.100} is no name of a file")
    numbers = (recording.shard, recording.first, recording.windows, recording.step)
    if not all(map(_is_count, numbers)) or recording.step not in STEPS:
        raise ValueError(f"{name:.100} has numbers that make no sense")
    if recording.labels not in (None, SMALL_LABELS, own_labels_file(name)):
        raise ValueError(f"{name:.100} has labels {recording.labels!r:.100}")
    return recording
