"""A sealed cache's records, read together: the seal, and the manifest that it fits."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tusz_cache.entry import META
from tusz_cache.errors import Damaged, ForeignTarget, TargetError
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import digest, from_lines
from tusz_cache.seal import Seal, check_manifest
from tusz_cache.seal import from_bytes as seal_from_bytes

MANIFEST = "manifest.jsonl"
SEAL = "seal.json"
PACKING = "pack.json"  # in a packed store: what is being packed there, or was
REPAIR = "repair.json"  # the seal of a cache that is being repaired, set aside


def read_sealed(root: Path) -> tuple[Seal, Manifest]:
    """Return the seal and manifest of the cache at `root`. Raises Damaged if one is missing or they do not fit."""
    meta = root / META
    return read_records(lambda name: (meta / name).open("rb"), root)


def read_set_aside(root: Path) -> tuple[Seal, Manifest] | None:
    """Return what `read_sealed` would have before a repair took the seal off; None if no repair was interrupted."""
    meta = root / META
    if not (meta / REPAIR).exists():
        return None
    return read_records(lambda name: (meta / (REPAIR if name == SEAL else name)).open("rb"), root)


def is_store(root: Path) -> bool:
    """Return whether a packed store lies at `root`, whole or not."""
    return (root / META / PACKING).exists()


def refuse_store(root: Path) -> None:
    """Raise ForeignTarget if a packed store lies at `root`: no source has its files."""
    if is_store(root):
        raise ForeignTarget(
            f"{root} is a packed store, no copy of a source",
            hint=f"python -m tusz_cache.pack CACHE {root} makes what is missing or damaged anew",
        )


def read_records(opened: Callable[[str], BinaryIO], root: Path) -> tuple[Seal, Manifest]:
    """Return what `read_sealed` does. opened: opens one of our own files by its name, wherever they are kept."""
    meta = root / META
    try:
        with opened(SEAL) as file:
            seal = seal_from_bytes(file.read(), path=str(meta / SEAL))
        with opened(MANIFEST) as file:
            check_manifest(seal, digest(file))
            file.seek(0)
            return seal, from_lines(file, path=str(meta / MANIFEST))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Damaged(
            f"no seal at {root}: the cache was never completed, or a run is under way or was interrupted",
            hint=f"python -m tusz_cache.sync SOURCE {root} completes and seals it; one that was copied otherwise is "
            f"adopted by python -m tusz_cache.verify {root} --level full --against SOURCE",
        ) from error
    except OSError as error:
        raise TargetError(f"cannot read {meta}: {error.strerror}", hint="check its permissions and its disk") from error
