"""Index: what a split of a packed store holds, and where. A value, and its file `index.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import orjson

from tusz_cache.checksum import decode_crc, encode_crc
from tusz_cache.errors import Damaged
from tusz_cache.packing.blocks import BLOCK, CHANNELS, STEPS, WINDOW_BLOCKS, blocks_in

INDEX = "index.json"
FORMAT = 1
SMALL_LABELS = "uint8"  # labels that are whole numbers from 0 to 255, as they should be: kept as bytes

Dtype = Literal["float32", "int16"]


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


def to_bytes(index: Index) -> bytes:
    """Return the file `index.json`."""
    shape = {"channels": CHANNELS, "block": BLOCK, "window_blocks": WINDOW_BLOCKS}
    recordings = [
        asdict(recording) | {"crc": encode_crc(recording.crc), "label_crc": encode_crc(recording.label_crc)}
        for recording in index.recordings
    ]
    document = {"format": FORMAT, **shape, **_head(index), "recordings": recordings}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


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
        return _checked(orjson.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path} cannot be read: {error}", hint="pack the cache again into another directory, or update tusz_cache"
        ) from error


def _checked(row: Mapping[str, Any]) -> Index:
    found = (row["format"], row["channels"], row["block"], row["window_blocks"])
    if found != (FORMAT, CHANNELS, BLOCK, WINDOW_BLOCKS):
        raise ValueError(f"its format, channels, block and window_blocks are {found}")
    if row["dtype"] not in get_args(Dtype) or (row["dtype"] == "int16") != isinstance(row["scale"], float):
        raise ValueError(f"dtype {row['dtype']!r} does not go with scale {row['scale']!r}")
    shards = tuple(Shard(**shard) for shard in row["shards"])
    recordings = tuple(map(_recording, row["recordings"]))
    used = [0] * len(shards)
    for recording in sorted(recordings, key=lambda recording: (recording.shard, recording.first)):
        if not 0 <= recording.shard < len(shards) or recording.first != used[recording.shard]:
            raise ValueError(f"{recording.cache_file} does not lie behind its neighbour")
        used[recording.shard] += recording.blocks
    if used != [shard.blocks for shard in shards]:
        raise ValueError("its recordings do not fill its shards")
    names = [recording.cache_file for recording in recordings]
    if sorted(set(names)) != names:
        raise ValueError("its recordings are not in the order of their names")
    head = {name: row[name] for name in ("split", "dtype", "scale", "max_error", "cache_manifest_sha256")}
    return Index(**head, shards=shards, recordings=recordings)


def _recording(row: Mapping[str, Any]) -> PackedRecording:
    crcs = {"crc": decode_crc(row["crc"]), "label_crc": decode_crc(row["label_crc"])}
    recording = PackedRecording(**{**row, **crcs})
    numbers = (recording.shard, recording.first, recording.windows, recording.step)
    if any(type(number) is not int or number < 0 for number in numbers) or recording.step not in STEPS:
        raise ValueError(f"{recording.cache_file} has numbers that make no sense")
    return recording
