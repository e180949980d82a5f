"""What the engine has done in threads beside it: ask the control plane, sign, make room, read back.

A CacheError comes back as part of the answer.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tusz_cache.checksum import NOTHING
from tusz_cache.copying.journal import OpenFile
from tusz_cache.copying.pieces import BLOCK
from tusz_cache.copying.rereading import claimed_proof, judge_by_reading, proof_at, recorded_proof, take_over
from tusz_cache.copying.transfer import Transfer, Verdict, part_size_for, partial_name
from tusz_cache.entry import Entry
from tusz_cache.errors import AccessDenied, CacheError, ForeignTarget, SourceChanged
from tusz_cache.ssd import Target, open_partial
from tusz_cache.stores.base import Facts, LocalFetch, Source


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry that can be fetched (`transfer`), lies there already (`kept`), or cannot be opened (`error`)."""

    entry: Entry
    transfer: Transfer | None = None
    kept: Entry | None = None
    error: CacheError | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """A transfer whose URL was signed anew."""

    transfer: Transfer
    error: CacheError | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A complete transfer that was read back."""

    transfer: Transfer
    verdict: Verdict = Verdict.UNKNOWN
    error: CacheError | None = None


Answer = Opened | Renewed | Judged


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens entries of one source for one target."""

    source: Source
    target: Target
    part_size: int  # bytes

    def for_copies(self, entries: Sequence[Entry]) -> list[Answer]:
        """Prepare to fetch files of which nothing is there."""
        return [self.for_copy(entry, None) for entry in entries]

    def for_copy(self, entry: Entry, claim: OpenFile | None) -> Opened:
        """Prepare to fetch `entry`. claim: what an earlier run says it has of it."""
        try:
            return Opened(entry, transfer=self._transfer(entry, claim, None))
        except CacheError as error:
            return Opened(entry, error=error)

    def for_check(
        self, entry: Entry, here: Entry, claim: OpenFile | None, known: Entry | None = None, *, is_guest: bool
    ) -> Opened:
        """Keep the file of the same size that lies `here` if it is provably `entry`, else prepare to fetch it.

        known: what was recorded of the file if it differs from that in time only. is_guest: it is not ours to replace.
        """
        try:
            facts = ask(self.source, entry)
            path = self.target.path(entry.key)
            proof = proof_at(self.source, entry, path, facts, here.proof)
            if proof is None and facts.expectation.algorithm is None:
                if claim is not None and claim.entry == entry:
                    proof = claimed_proof(path, claim)
                if proof is None and known is not None and known.etag == entry.etag is not None:
                    proof = recorded_proof(path, known)
            if proof is not None:
                return Opened(entry, kept=replace(entry, proof=proof))
            if is_guest:
                raise ForeignTarget(
                    f"{entry.key!r} lies in the target, this tool never wrote it, and it is not provably the source's",
                    hint="move it away, or pass --adopt to replace it",
                )
            return Opened(entry, transfer=self._transfer(entry, claim, facts))
        except CacheError as error:
            return Opened(entry, error=error)

    def _transfer(self, entry: Entry, claim: OpenFile | None, facts: Facts | None) -> Transfer:
        path = self.target.partial / partial_name(entry)
        if claim is not None and (claim.entry != entry or not _is_there(path, entry.size)):
            claim = None
        fetch = self.source.fetch(entry)
        # an object in one part brings its checksum along with its bytes
        if facts is None and (entry.size > self.part_size or claim is not None) and not isinstance(fetch, LocalFetch):
            facts = ask(self.source, entry)
        block = BLOCK if self.target.durability.front_to_back else 1
        part_size = claim.part_size if claim else part_size_for(facts, self.part_size, block)
        transfer = Transfer(entry, claim.number if claim else None, path, part_size, fetch=fetch)
        if facts is not None:
            transfer.expectation, transfer.source_parts = facts.expectation, facts.part_sizes
        elif isinstance(fetch, LocalFetch):
            transfer.expectation = NOTHING
        if claim is not None:
            take_over(transfer, claim)
        elif not transfer.is_single:
            os.close(open_partial(path, entry.size, preallocate=not self.target.durability.front_to_back))
        transfer.todo.extend(index for index in range(len(transfer.lengths)) if index not in transfer.crcs)
        return transfer

    def renew(self, transfer: Transfer) -> Renewed:
        """Sign anew; from the second refusal on with credentials read anew."""
        try:
            if transfer.refusals > 1:
                self.source.refresh()
            transfer.fetch = self.source.fetch(transfer.entry)
            return Renewed(transfer)
        except CacheError as error:
            return Renewed(transfer, error)

    def judge(self, transfer: Transfer) -> Judged:
        """Read a complete transfer back."""
        try:
            return Judged(transfer, judge_by_reading(self.source, transfer))
        except CacheError as error:
            return Judged(transfer, error=error)


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


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
