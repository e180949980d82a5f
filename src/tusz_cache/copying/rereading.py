"""Reading back what a target already holds: nothing there is believed by name, size or record alone."""

import os
from collections.abc import Iterable
from pathlib import Path

from tusz_cache.checksum import Algorithm, combine_crc64nvme, crc64nvme, hasher, uniform_parts
from tusz_cache.copying.journal import OpenFile
from tusz_cache.copying.lanes import read_range
from tusz_cache.copying.transfer import Transfer, Verdict, hash_ranges, judge_digests
from tusz_cache.entry import Proof
from tusz_cache.errors import BadResponse, TargetError
from tusz_cache.stores.base import Facts, Source


def hash_file(path: Path, ranges: Iterable[tuple[int, int]], algorithm: Algorithm | None) -> list[tuple[int, bytes]]:
    """Return (crc64nvme, digest by `algorithm`) of each (start, length) range.

    Raises BadResponse if the file is shorter or the disk does not give its bytes back.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [_hash_range(descriptor, start, length, algorithm, path) for start, length in ranges]
        finally:
            os.close(descriptor)
    except (OSError, TargetError) as error:
        raise BadResponse(
            f"{path} cannot be read back: {error}", hint="check the target's disk and run again"
        ) from error


def _hash_range(descriptor: int, start: int, length: int, algorithm: Algorithm | None, path: Path) -> tuple[int, bytes]:
    crc, second = 0, hasher(algorithm) if algorithm else None
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
    ranges = [(index * claim.part_size, length) for index, length in enumerate(lengths)]
    crcs = tuple(claim.parts[index][1] for index in range(len(lengths)))
    try:
        mtime_ns = path.stat().st_mtime_ns
        found = tuple(crc for crc, _ in hash_file(path, ranges, None))
    except (FileNotFoundError, BadResponse):
        return None
    if found != crcs:
        return None
    several = len(crcs) > 1
    whole = combine_crc64nvme(zip(crcs, lengths, strict=True))
    return Proof(whole, "own-crc", mtime_ns, claim.part_size if several else 0, crcs if several else ())


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
    ranges = hash_ranges(facts.size, expected, facts.part_sizes)
    try:
        before = path.stat().st_mtime_ns
        hashes = hash_file(path, ranges, expected.algorithm)
    except (FileNotFoundError, BadResponse):
        return None  # gone or cut meanwhile
    if judge_digests(expected, [digest for _, digest in hashes]) is not Verdict.PROVEN:
        return None
    crc = combine_crc64nvme((crc, length) for (crc, _), (_, length) in zip(hashes, ranges, strict=True))
    return Proof(crc, expected.level, before)
