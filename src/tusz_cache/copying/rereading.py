"""Reading back what a target already holds: nothing there is believed by name, size or record alone."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tusz_cache.checksum import Algorithm, Hasher, combine_crc64nvme, crc64nvme, hasher, spans, uniform_parts
from tusz_cache.copying.journal import OpenFile
from tusz_cache.copying.streams import read_range
from tusz_cache.copying.transfer import Transfer, Verdict, hash_ranges, judge_digests
from tusz_cache.entry import Entry, Level, Proof
from tusz_cache.errors import BadResponse, TargetError
from tusz_cache.stores.base import Facts, Source

CUT = 16 * 1024**2  # bytes; a file that was found is remembered in parts of this size, as one that was fetched


def hash_file(
    path: Path, ranges: Iterable[tuple[int, int]], algorithm: Algorithm | None, *, running: bool = False
) -> list[tuple[int, bytes]]:
    """Return (crc64nvme, digest by `algorithm`) of each (start, length) range.

    running: a digest is of its range and all before it. Raises BadResponse if the file is shorter or the disk does not
    give its bytes back.
    """
    whole = hasher(algorithm) if algorithm and running else None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            hashes = []
            for start, length in ranges:
                second = whole or (hasher(algorithm) if algorithm else None)
                hashes.append(_hash_range(descriptor, start, length, second, path))
            return hashes
        finally:
            os.close(descriptor)
    except (OSError, TargetError) as error:
        raise BadResponse(
            f"{path} cannot be read back: {error}", hint="check the target's disk and run again"
        ) from error


def _hash_range(descriptor: int, start: int, length: int, second: Hasher | None, path: Path) -> tuple[int, bytes]:
    crc = 0
    for block in read_range(descriptor, start, length, path):
        crc = crc64nvme(block, crc)
        if second is not None:
            second.update(block)
    return crc, second.digest() if second else b""


def take_over(transfer: Transfer, claim: OpenFile) -> None:
    """Give `transfer` the parts that an earlier run claims to have fetched, where their checksums are as claimed."""
    for index, length in enumerate(transfer.lengths):
        claimed_length, claimed_crc = claim.parts.get(index, (-1, 0))
        if claimed_length != length:
            continue
        try:
            [(crc, digest)] = hash_file(transfer.partial, [(index * transfer.part_size, length)], transfer.algorithm)
        except BadResponse:
            continue  # it has to be fetched again
        if crc == claimed_crc:
            transfer.have(index, crc, digest)
            transfer.resumed = True


def claimed_proof(path: Path, claim: OpenFile) -> Proof | None:
    """Return a proof that the file at `path` is what an earlier run fetched, or None if that cannot be shown.

    For a file that got its name before the run could record that: the checksums of its parts are all there is.
    """
    lengths = uniform_parts(claim.entry.size, claim.part_size)
    if any(claim.parts.get(index, (-1, 0))[0] != length for index, length in enumerate(lengths)):
        return None
    crcs = [claim.parts[index][1] for index in range(len(lengths))]
    try:
        mtime_ns = path.stat().st_mtime_ns
        found = [crc for crc, _ in hash_file(path, spans(lengths), None)]
    except (FileNotFoundError, BadResponse):
        return None
    return _proof("own-crc", mtime_ns, lengths, crcs) if found == crcs else None


def judge_by_reading(source: Source, transfer: Transfer) -> Verdict:
    """Judge a complete partial file by reading it: the stream could not tell, or said that the whole is wrong.

    Source parts of one length are assumed first, since one HEAD tells it; before a file is called wrong, all are asked.
    Raises CacheError.
    """
    expected = transfer.expectation
    assert expected is not None
    if transfer.source_parts:
        verdict = _judge(transfer)
        if verdict is Verdict.PROVEN or not expected.parts:
            return verdict
    if expected.parts:
        true_parts = source.part_sizes(transfer.entry, expected.parts)
        if true_parts == transfer.source_parts or sum(true_parts) != transfer.entry.size:
            return Verdict.WRONG
        transfer.source_parts = true_parts
    return _judge(transfer)


def _judge(transfer: Transfer) -> Verdict:
    assert transfer.expectation is not None
    ranges = hash_ranges(transfer.entry.size, transfer.expectation, transfer.source_parts)
    hashes = hash_file(transfer.partial, ranges, transfer.expectation.algorithm)
    return judge_digests(transfer.expectation, [digest for _, digest in hashes])


def proof_of(path: Path, facts: Facts, known: Proof | None) -> Proof | None:
    """Return a proof that the file at `path` has the bytes that `facts` describe, or None if that cannot be shown.

    known: what this tool proved of the file earlier, if nothing touched it since. Raises TargetError.
    """
    expected = facts.expectation
    if expected.algorithm is None:
        return None
    if known is not None and expected.algorithm == "crc64nvme" and not expected.parts:
        same = known.crc64nvme.to_bytes(8, "big") == expected.digest
        return (
            Proof(known.crc64nvme, expected.level, known.mtime_ns, known.part_size, known.part_crcs) if same else None
        )
    lengths = facts.part_sizes if expected.parts else uniform_parts(facts.size, CUT)
    try:
        before = path.stat()
        if before.st_size != facts.size:
            return None
        hashes = hash_file(path, spans(lengths), expected.algorithm, running=not expected.parts)
    except (OSError, BadResponse):
        return None  # gone or cut meanwhile, or something else is in its place
    digests = [digest for _, digest in hashes]
    if judge_digests(expected, digests if expected.parts else digests[-1:]) is not Verdict.PROVEN:
        return None
    return _proof(expected.level, before.st_mtime_ns, lengths, [crc for crc, _ in hashes])


def proof_at(source: Source, entry: Entry, path: Path, facts: Facts, known: Proof | None) -> Proof | None:
    """As `proof_of`; before a file is called another, the source is asked for the true lengths of its own parts.

    facts: what `source` says of `entry`. Raises CacheError.
    """
    proof, parts = proof_of(path, facts, known), facts.expectation.parts
    if proof is not None or not parts:
        return proof
    true_parts = source.part_sizes(entry, parts)
    if true_parts == facts.part_sizes or sum(true_parts) != facts.size:
        return None
    return proof_of(path, replace(facts, part_sizes=true_parts), known)


def own_proof(path: Path, size: int) -> Proof | None:
    """Return the checksums of the file at `path`, which say what it is and prove nothing more.

    None if it has not `size` bytes, is gone, or the disk does not give its bytes back.
    """
    lengths = uniform_parts(size, CUT)
    try:
        before = path.stat()
        crcs = [crc for crc, _ in hash_file(path, spans(lengths), None)]
        return _proof("own-crc", before.st_mtime_ns, lengths, crcs) if before.st_size == size else None
    except (OSError, BadResponse):
        return None


def recorded_proof(path: Path, known: Entry) -> Proof | None:
    """Return what was proven of a file, with the time that it has now, if it still has those bytes; else None.

    known: with proof, of a file whose time is another one: it was touched, or a volume gave it the time of a commit.
    """
    found = own_proof(path, known.size)
    if found is None or known.proof is None or found.crc64nvme != known.proof.crc64nvme:
        return None
    return replace(known.proof, mtime_ns=found.mtime_ns)


def _proof(level: Level, mtime_ns: int, lengths: Sequence[int], crcs: Sequence[int]) -> Proof:
    """Return a proof, with the CRCs of its parts where these are of one length."""
    whole = combine_crc64nvme(zip(crcs, lengths, strict=True))
    if len(lengths) > 1 and tuple(lengths) == uniform_parts(sum(lengths), lengths[0] or 1):
        return Proof(whole, level, mtime_ns, lengths[0], tuple(crcs))
    return Proof(whole, level, mtime_ns)
