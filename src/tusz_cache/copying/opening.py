"""Opening a file for the engine, in threads of their own: ask the control plane, sign, make room on the target."""

import os
from dataclasses import dataclass

from tusz_cache.checksum import NOTHING
from tusz_cache.copying.journal import OpenFile
from tusz_cache.copying.transfer import Transfer, part_size_for, partial_name
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import AccessDenied, CacheError, SourceChanged
from tusz_cache.ssd import Target, open_partial
from tusz_cache.stores.base import Facts, HttpFetch, Source


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that can be fetched, or checked, or that cannot be opened."""

    entry: Entry
    transfer: Transfer | None = None
    claim: OpenFile | None = None  # what an earlier run says it has of it
    facts: Facts | None = None
    here: Proof | None = None  # of the file in the target
    error: CacheError | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """A transfer whose URL was signed anew."""

    transfer: Transfer
    error: CacheError | None = None


def open_for_copy(
    source: Source, target: Target, entry: Entry, claim: OpenFile | None, part_size: int, known: Opened | None = None
) -> Opened:
    """Prepare to fetch `entry`. known: facts that a check has brought already."""
    try:
        path = target.partial / partial_name(entry)
        if claim is not None and (claim.entry != entry or not _is_there(path, entry.size)):
            claim = None
        fetch = source.fetch(entry)
        facts = known.facts if known else None
        # a small object's checksum comes with its bytes
        if facts is None and (entry.size > part_size or claim is not None or not isinstance(fetch, HttpFetch)):
            facts = ask(source, entry)
        if claim is not None:
            part_size = claim.part_size
        elif facts is not None:
            part_size = part_size_for(entry, facts, part_size)
        transfer = Transfer(entry, claim.number if claim else -1, path, part_size, fetch=fetch)
        if facts is not None:
            transfer.expectation, transfer.source_parts = facts.expectation, facts.part_sizes
        if not isinstance(fetch, HttpFetch):
            transfer.expectation = NOTHING
        if not transfer.is_single:
            os.close(open_partial(path, entry.size, preallocate=not target.durability.front_to_back))
        return Opened(entry, transfer=transfer, claim=claim)
    except CacheError as error:
        return Opened(entry, error=error)


def open_for_check(source: Source, here: Entry, entry: Entry) -> Opened:
    """Ask what the source says of `entry`, of which the target holds a file of the same size."""
    try:
        return Opened(entry, facts=ask(source, entry), here=here.proof)
    except CacheError as error:
        return Opened(entry, error=error)


def renew(source: Source, transfer: Transfer) -> Renewed:
    """Sign anew; from the second refusal on with credentials read anew."""
    try:
        if transfer.refusals > 1:
            source.refresh()
        transfer.fetch = source.fetch(transfer.entry)
        return Renewed(transfer)
    except CacheError as error:
        return Renewed(transfer, error)


def ask(source: Source, entry: Entry) -> Facts:
    """Return what the source says of `entry` now. Raises SourceChanged if that is not what was listed."""
    try:
        facts = source.facts(entry)
    except AccessDenied:
        source.refresh()  # credentials may have expired
        facts = source.facts(entry)
    if (facts.size, facts.etag) != (entry.size, entry.etag):
        raise SourceChanged(
            f"{entry.key!r} was changed at the source after it was listed", hint="run again: the plan is made anew"
        )
    return facts


def _is_there(path: os.PathLike[str], size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False
