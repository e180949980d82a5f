"""Sealing: how a cache's records are published, and how the seal goes before the first byte changes."""

from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime

from tusz_cache import lock, plan_file, ssd
from tusz_cache.checksum import hasher
from tusz_cache.copying import journal
from tusz_cache.copying.committer import commit
from tusz_cache.copying.journal import Journal, kept_record
from tusz_cache.holdings import LEFTOVERS, Holdings, shard_journals
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import hashed, to_lines
from tusz_cache.plan import Filters
from tusz_cache.seal import Seal
from tusz_cache.seal import to_bytes as seal_to_bytes
from tusz_cache.sealed import MANIFEST, REPAIR, SEAL
from tusz_cache.ssd import Target
from tusz_cache.version import __version__


def statement(
    source: str, manifest: Manifest, filters: Filters, *, complete: bool, volume: Mapping[str, str] | None
) -> Seal:
    """Return what a seal says of `manifest`, but for its digest and the time. Pure.

    source: its URL without credentials. complete: the manifest has all that the source lists.
    """
    return Seal(
        source=source,
        manifest_sha256="",
        files=len(manifest),
        bytes=manifest.bytes,
        splits=manifest.splits(),
        verification=manifest.level_counts(),
        filters={} if complete else filters.as_dict(),
        complete=complete,
        created="",
        tusz_cache=__version__,
        volume=volume,
    )


def publish(place: Target, stated: Seal, manifest: Manifest, leftovers: Manifest) -> None:
    """Write leftovers, manifest and seal, in this order. stated: as `statement` returns it."""
    whole = hasher("sha256")
    ssd.write_file(place, place.meta / LEFTOVERS, to_lines(leftovers))
    ssd.write_file(place, place.meta / MANIFEST, hashed(to_lines(manifest), whole))
    seal(place, replace(stated, manifest_sha256=whole.digest().hex()))


def seal(place: Target, stated: Seal) -> None:
    """Write the seal of the manifest that lies there, dated now, and forget how the cache came to be whole."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    ssd.write_file(place, place.meta / SEAL, seal_to_bytes(replace(stated, created=now, tusz_cache=__version__)))
    make_durable(place)
    forget(place)


def unseal(place: Target) -> None:
    """Remove the seal, also that of a cache under repair: from now on bytes may change."""
    ssd.remove(place, place.meta / REPAIR)
    ssd.remove(place, place.meta / SEAL)


def open_journal(place: Target, holdings: Holdings) -> Journal:
    """Go on with the target's journal. What shards have recorded is taken into it, and their journals go.

    The target's lock is held, so no shard writes.
    """
    state, others = holdings.replay, holdings.elsewhere
    if others.good_bytes:
        book = Journal(place, state)
        try:
            book.record(kept_record(entry) for entry in others.done)
            book.claim(others.open.values())
            book.sync()
        finally:
            book.close()  # there are volumes that commit no file while it is open
        make_durable(place)  # before what it replaces is gone
        state = replace(state, files=book.number(), good_bytes=(place.meta / journal.NAME).stat().st_size)
    _remove_shards(place)
    return Journal(place, state)


def make_durable(place: Target) -> None:
    """Have a volume that has to be told commit what was written. Raises TargetError."""
    if place.durability.commit is not None:
        commit(place.durability.commit)


def _remove_shards(place: Target) -> None:
    """Remove journals and locks of shards, none of which works."""
    for path in (*shard_journals(place.meta), *place.meta.glob(f"{lock.NAME}-*")):
        ssd.remove(place, path)


def set_aside(place: Target, stated: Seal) -> None:
    """Take the seal off a cache that is being repaired, and keep what it says."""
    ssd.write_file(place, place.meta / REPAIR, seal_to_bytes(stated))
    ssd.remove(place, place.meta / SEAL)


def forget(place: Target) -> None:
    """Remove what a sealed cache has no use for, also if an earlier run was killed before it could."""
    ssd.remove(place, place.meta / REPAIR)
    ssd.remove(place, place.meta / plan_file.NAME)
    _remove_shards(place)
    ssd.remove(place, place.meta / journal.NAME)
    sweep(place, frozenset())
    ssd.tidy(place)


def sweep(place: Target, wanted: Set[str]) -> None:
    """Remove partial files but those that are named in `wanted`."""
    for path in place.partial.iterdir():
        if path.name not in wanted:
            ssd.remove(place, path)
