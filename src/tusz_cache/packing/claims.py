"""Claims: what an earlier run says that it laid. Believed only after it was read back."""

from collections.abc import Iterable
from pathlib import Path

from tusz_cache.copying import journal
from tusz_cache.errors import Damaged
from tusz_cache.manifest import Manifest
from tusz_cache.packing.index import INDEX, Index, from_bytes
from tusz_cache.packing.splitting import Laid, laid_from_record
from tusz_cache.sealed import PACKING
from tusz_cache.ssd import Target

Claims = dict[str, dict[str, Laid]]  # split -> cache file -> where it lies


def read_job(place: Target) -> bytes | None:
    """Return the note of the job that was begun here."""
    path = place.meta / PACKING
    return path.read_bytes() if path.exists() else None


def read_index(path: Path) -> Index:
    """Return the index that lies at `path`. Raises Damaged if there is none."""
    try:
        return from_bytes(path.read_bytes(), path=str(path))
    except FileNotFoundError as error:
        raise Damaged(f"there is no {path}", hint="pack the cache again") from error


def read_claims(place: Target, splits: Iterable[str], proven: Manifest) -> Claims:
    """Return what the indexes and the journal claim; where both speak of a recording, the journal is newer.

    proven: files that nothing touched. An index that is not among them claims nothing.
    """
    claims: Claims = {split: {} for split in splits}
    for split, known in claims.items():
        if f"{split}/{INDEX}" not in proven:
            continue  # its recordings are packed again
        index = read_index(place.path(f"{split}/{INDEX}"))
        known |= {row.cache_file: Laid(row, index.max_error) for row in index.recordings}
    path = place.meta / journal.NAME
    if path.exists():
        with path.open("rb") as file:
            for record, _ in journal.whole_records(file):
                if (found := laid_from_record(record)) and found[0] in claims:
                    claims[found[0]][found[1].recording.cache_file] = found[1]
    return claims
