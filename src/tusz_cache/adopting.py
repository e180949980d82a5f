"""Adopting: give a cache that is provably its source's the manifest and seal that it lacks."""

from collections.abc import Iterator

from tusz_cache import sealing, ssd
from tusz_cache.checking import Found
from tusz_cache.comparing import Prover, prove_files
from tusz_cache.disk_errors import translated
from tusz_cache.errors import Damaged, EmptyListing
from tusz_cache.holdings import look
from tusz_cache.lock import locked
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Filters
from tusz_cache.planning import Listing
from tusz_cache.progress import Progress
from tusz_cache.settings import SyncSettings
from tusz_cache.ssd import Target
from tusz_cache.stores.base import Source


def adopt(
    place: Target, store: Source, listing: Listing, settings: SyncSettings, watcher: Progress
) -> tuple[Found, Manifest]:
    """Read every byte, and seal the cache if it has all that `listing` names. Returns what is not so, and the manifest.

    Nothing is written unless the cache is whole, and then only below our own directory. The manifest is of the files
    that are whole. Raises LockHeld, TargetError, NoSpace; Damaged if something writes to the cache; as `prove_files`.
    """
    listed = listing.manifest
    if not len(listed):
        raise EmptyListing("the source lists no objects at all", hint="check the URL for typing errors")
    watcher.start(listed.bytes, len(listed))
    found, manifest = prove_files(place.root, listed, Prover(store, settings), watcher)
    if found.bad:
        return found, manifest
    ssd.prepare(place)
    with locked(place):
        if touched := next(_touched(place, manifest), None):
            raise Damaged(
                f"{touched!r} was changed while the cache was read", hint="stop what writes to the cache, and run again"
            )
        if place.durability.syncs:  # another program wrote the files, perhaps a moment ago
            with translated(place.root):
                ssd.sync_files([place.path(key) for key in manifest.keys])
        held = look(place.root).files.proven()
        sealing.unseal(place)
        stated = sealing.statement(store.url, manifest, Filters(), complete=True, volume=settings.volume)
        sealing.publish(place, stated, manifest, leftovers=held.without(frozenset(manifest.keys)))
    return found, manifest


def _touched(place: Target, manifest: Manifest) -> Iterator[str]:
    """Yield the keys of files that are no longer as they were when they were read."""
    for row, key in enumerate(manifest.keys):
        with translated(place.path(key)):
            stat = place.path(key).stat()
        if (stat.st_size, stat.st_mtime_ns) != (manifest.sizes[row], manifest.mtimes[row]):
            yield key
