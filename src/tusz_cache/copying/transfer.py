"""One file on its way: its parts, what is known of them, and what that proves. Decisions only, no I/O."""

import hashlib
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tusz_cache.checksum import (
    NOTHING,
    Algorithm,
    Expectation,
    combine,
    combine_crc64nvme,
    digest_of_parts,
    spans,
    uniform_parts,
)
from tusz_cache.entry import Entry, Proof
from tusz_cache.stores.base import Facts, Fetch

SMALLEST_PART = 1024**2  # bytes; a source's own parts are taken over between these bounds
LARGEST_PART = 64 * 1024**2


class Verdict(Enum):
    """What the checksums of a complete file say."""

    PROVEN = "proven"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # the file must be read back to tell


@dataclass(slots=True, eq=False)
class Transfer:
    """A file being fetched. Owned by the engine's thread."""

    entry: Entry
    number: int | None  # in the journal; None: not recorded yet
    partial: Path
    part_size: int
    expectation: Expectation | None = None  # None: not known yet, the answer to a whole GET will tell
    source_parts: tuple[int, ...] = ()
    fetch: Fetch | None = None
    todo: deque[int] = field(default_factory=deque)  # part indices to fetch, ascending
    crcs: dict[int, int] = field(default_factory=dict)  # part index -> crc64nvme
    digests: dict[int, bytes] = field(default_factory=dict)  # part index -> digest by `algorithm`
    attempts: dict[int, int] = field(default_factory=dict)  # part index -> failures
    cut: set[int] = field(default_factory=set)  # part indices that were once cut off as stragglers
    in_flight: int = 0
    received: int = 0  # bytes of this run
    pausing: int = 0  # parts that wait before another attempt
    refusals: int = 0  # 403 in a row
    wrong: int = 0  # times the whole was wrong
    reread: bool = False  # read back since the parts were last complete
    resumed: bool = False
    failed: bool = False
    lengths: tuple[int, ...] = field(init=False)  # of the parts, in order

    def __post_init__(self) -> None:
        self.lengths = uniform_parts(self.entry.size, self.part_size)

    @property
    def is_single(self) -> bool:
        """Whether one part is the whole file."""
        return self.entry.size <= self.part_size

    @property
    def is_complete(self) -> bool:
        """Whether every part is there."""
        return not self.todo and not self.in_flight and len(self.crcs) == len(self.lengths)

    @property
    def is_composite(self) -> bool:
        """Whether the source's checksum is over the checksums of its own parts."""
        return self.expectation is not None and self.expectation.parts > 0

    @property
    def algorithm(self) -> Algorithm | None:
        """The second checksum to compute on the way, where that spares a second reading."""
        expected = self.expectation
        if expected is None or expected.algorithm in {None, "crc64nvme"}:
            return None
        return expected.algorithm if expected.combines or self.is_single or self._aligned else None

    @property
    def _aligned(self) -> bool:
        return bool(self.source_parts) and self.lengths == self.source_parts

    def take(self, most: int) -> list[int]:
        """Take the next part out of `todo`, and those that follow it, up to `most` parts."""
        taken = [self.todo.popleft()]
        while len(taken) < most and self.todo and self.todo[0] == taken[-1] + 1:
            taken.append(self.todo.popleft())
        return taken

    def put_back(self, index: int) -> None:
        """Put a part that did not come into `todo`, in its place."""
        insort(self.todo, index)

    def have(self, index: int, crc: int, digest: bytes) -> None:
        """Note that part `index` lies in its place, with its checksums (an empty digest: not computed)."""
        self.crcs[index] = crc
        if digest:
            self.digests[index] = digest

    def start_over(self) -> None:
        """Forget all parts: the whole was wrong."""
        self.number, self.received, self.reread = None, 0, False
        self.crcs.clear()
        self.digests.clear()
        self.todo.extend(range(len(self.lengths)))

    def crc64nvme(self) -> int:
        """Return the CRC of the whole."""
        return combine_crc64nvme((self.crcs[index], length) for index, length in enumerate(self.lengths))

    def judge(self) -> Verdict:
        """Say what the parts' checksums prove of the whole."""
        expected = self.expectation or NOTHING
        if expected.algorithm is None:
            return Verdict.PROVEN
        if expected.algorithm == "crc64nvme" and not expected.parts:
            return _verdict(self.crc64nvme().to_bytes(8, "big"), expected)
        if len(self.digests) < len(self.lengths):
            return Verdict.UNKNOWN
        digests = [self.digests[index] for index in range(len(self.lengths))]
        if expected.combines:
            return _verdict(combine(expected.algorithm, zip(digests, self.lengths, strict=True)), expected)
        if expected.parts:
            return judge_digests(expected, digests) if self._aligned else Verdict.UNKNOWN
        return _verdict(digests[0], expected) if self.is_single else Verdict.UNKNOWN

    def proof(self, mtime_ns: int) -> Proof:
        """Return what is known of the finished file."""
        crcs = () if self.is_single else tuple(self.crcs[index] for index in range(len(self.lengths)))
        return Proof(
            self.crc64nvme(), (self.expectation or NOTHING).level, mtime_ns, self.part_size if crcs else 0, crcs
        )


def _verdict(digest: bytes, expected: Expectation) -> Verdict:
    return Verdict.PROVEN if digest == expected.digest else Verdict.WRONG


def judge_digests(expected: Expectation, digests: Sequence[bytes]) -> Verdict:
    """Judge by the digests of `hash_ranges`: of the whole, or of the source's parts."""
    assert expected.algorithm is not None
    return _verdict(digest_of_parts(expected.algorithm, digests) if expected.parts else digests[0], expected)


def hash_ranges(size: int, expected: Expectation, source_parts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the (start, length) ranges whose digests `judge_digests` needs."""
    return spans(source_parts if expected.parts else (size,))


def part_size_for(facts: Facts | None, wanted: int, block: int = 1) -> int:
    """Return the part size to fetch with: the source's own where that lets the stream be checked, else `wanted`.

    block: the result is a multiple of it, in bytes.
    """
    own = facts.part_sizes[0] if facts and facts.source_parts_are_uniform else 0
    fits = SMALLEST_PART <= own <= LARGEST_PART and own % block == 0
    return own if fits else -(-wanted // block) * block


def partial_name(entry: Entry) -> str:
    """Return the partial file's name: another version of the object never resumes onto old bytes."""
    tag = f"{entry.key}\0{entry.size}\0{entry.etag}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(tag, digest_size=16).hexdigest()
