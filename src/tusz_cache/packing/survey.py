"""Survey: what there is to pack, before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from tusz_cache import ssd
from tusz_cache.durability import Durability
from tusz_cache.errors import NoSpace, UsageError
from tusz_cache.guarding.admitted import AdmittedCache
from tusz_cache.packing import splitting
from tusz_cache.packing.blocks import BLOCK, CHANNELS, blocks_in
from tusz_cache.packing.index import FORMAT, Dtype
from tusz_cache.packing.unpacked import look_at
from tusz_cache.ssd import Target
from tusz_cache.tusz import check_disjoint, check_splits, split_of
from tusz_cache.tusz_windows import CacheFile
from tusz_cache.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSettings:
    """How `pack_cache` works. Raises UsageError for values that make no sense."""

    dtype: Dtype = "float32"
    workers: int | None = None  # recordings inflated at once; None: as many as there are cores
    splits: tuple[str, ...] | None = None  # None: all that the cache has
    durability: Durability = field(default_factory=Durability)
    volume: Mapping[str, str] | None = None  # {"kind", "name", "object_id"}: where the store lies, if declared

    def __post_init__(self) -> None:
        if self.dtype not in {"float32", "int16"}:
            raise UsageError(f"dtype {self.dtype!r} does not exist", hint="use float32 or int16")
        if self.workers is not None and not 1 <= self.workers <= 256:
            raise UsageError(f"workers={self.workers} makes no sense", hint="use 1 to 256")


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to pack."""

    cache_manifest_sha256: str
    recordings: Mapping[str, tuple[CacheFile, ...]]  # split -> its recordings by name
    sizes: Mapping[str, int]  # key -> bytes of the NPZ file, of these splits

    def job(self, settings: PackSettings) -> bytes:
        """Return a note that tells this job from any other."""
        job = {
            "format": FORMAT,
            "cache_manifest_sha256": self.cache_manifest_sha256,
            "dtype": settings.dtype,
            "shard_bytes": splitting.SHARD_BYTES,
        }
        return orjson.dumps(job, option=orjson.OPT_APPEND_NEWLINE)

    def bytes_in(self, split: str) -> int:
        """Return the bytes of a split's NPZ files."""
        return sum(self.sizes[f"{split}/{file.name}"] for file in self.recordings[split])


def survey(cache: AdmittedCache, settings: PackSettings) -> Survey:
    """Look at the headers of all recordings.

    Raises UsageError for a cache without seal or splits; PatientOverlap; BadRecording.
    """
    if cache.seal is None:
        raise UsageError(f"{cache.root} was admitted without its seal", hint="admit it with seal='require'")
    keys = [key for key in cache.files() if key.endswith(".npz") and key.count("/") == 1]
    there = check_splits(map(split_of, keys))
    asked = set(settings.splits or there)
    if absent := asked - set(there) or (not asked and {"train"}):
        raise UsageError(
            f"the cache {cache.root} has no recordings of {', '.join(sorted(absent))}",
            hint=f"it has {', '.join(there) or 'none'}: choose among them with --splits",
        )
    wanted = [split for split in there if split in asked]
    names = {split: [key.partition("/")[2] for key in keys if split_of(key) == split] for split in wanted}
    check_disjoint(names)
    found = {split: look_at(cache, split, some) for split, some in names.items()}
    sizes = {key: cache.manifest[key].size for key in keys if split_of(key) in wanted}
    return Survey(cache.seal.manifest_sha256, found, sizes)


def check_space(place: Target, found: Survey, settings: PackSettings) -> None:
    """Raise NoSpace at once if the store will not fit. A declared volume's figures mean nothing."""
    row = CHANNELS * BLOCK * (4 if settings.dtype == "float32" else 2) + BLOCK
    needed = row * sum(blocks_in(file.n_windows, 1) for files in found.recordings.values() for file in files)
    there = sum(path.stat().st_blocks * 512 for path in place.root.rglob("*.npy"))
    free = ssd.free_bytes(place)
    if needed - there > free and settings.volume is None:
        raise NoSpace(
            f"the store takes {format_bytes(needed)}, {format_bytes(free)} are free at {place.root}",
            hint="free space, choose a larger disk, or pack with --dtype int16 or fewer --splits",
        )
