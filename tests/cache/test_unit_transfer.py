"""What judging a file must be: proven only by the right bytes, wrong for any others, and never a guess."""

import random
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.checksum import NOTHING, Expectation, crc64nvme, digest_of_parts, hasher, uniform_parts
from tusz_cache.copying.transfer import (
    LARGEST_PART,
    SMALLEST_PART,
    Transfer,
    Verdict,
    hash_ranges,
    judge_digests,
    part_size_for,
    partial_name,
)
from tusz_cache.entry import Entry, Proof
from tusz_cache.stores.base import Facts

SIZE, PART = 1000, 300
BYTES = random.Random(0).randbytes(SIZE)
FLIPPED = BYTES[:777] + bytes([BYTES[777] ^ 1]) + BYTES[778:]
ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha256", "sha1", "md5")
CRCS = ("crc64nvme", "crc32c", "crc32")
MIB = 1024**2


def cut(data: bytes, lengths: Iterable[int]) -> list[bytes]:
    pieces, start = [], 0
    for length in lengths:
        pieces.append(data[start : start + length])
        start += length
    return pieces


def digest(algorithm: str, data: bytes) -> bytes:
    running = hasher(algorithm)
    running.update(data)
    return running.digest()


def of_whole(algorithm: str, data: bytes = BYTES) -> Expectation:
    return Expectation("source-crc", algorithm, digest(algorithm, data))


def of_parts(algorithm: str, lengths: tuple[int, ...], data: bytes = BYTES) -> Expectation:
    digests = [digest(algorithm, piece) for piece in cut(data, lengths)]
    return Expectation("source-crc", algorithm, digest_of_parts(algorithm, digests), len(lengths))


def fetched(expected: Expectation | None, data: bytes, part_size: int, source_parts: tuple[int, ...] = ()) -> Transfer:
    """Return a transfer as it is when all its parts have arrived, with the checksums that it asked for."""
    transfer = Transfer(Entry("k", len(data), "e"), 0, Path("p"), part_size, expected, source_parts)
    for index, piece in enumerate(cut(data, transfer.lengths)):
        second = digest(transfer.algorithm, piece) if transfer.algorithm else b""
        transfer.have(index, crc64nvme(piece, 0), second)
    return transfer


def read_back(expected: Expectation, data: bytes, source_parts: tuple[int, ...]) -> Verdict:
    """Judge as a reading of the file does."""
    ranges = hash_ranges(len(data), expected, source_parts)
    return judge_digests(expected, [digest(expected.algorithm, data[at : at + length]) for at, length in ranges])


# the stream alone


@pytest.mark.parametrize("part_size", [PART, SIZE, 10 * SIZE, 1])
@pytest.mark.parametrize("algorithm", CRCS)
def test_a_crc_of_the_whole_judges_any_parts(algorithm: str, part_size: int):
    """A CRC over the whole object proves right bytes and refutes wrong ones, however they were fetched."""
    expected = of_whole(algorithm)

    assert Verdict.PROVEN is fetched(expected, BYTES, part_size).judge()
    assert Verdict.WRONG is fetched(expected, FLIPPED, part_size).judge()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_hash_of_the_whole_judges_a_file_in_one_part(algorithm: str):
    """Any checksum over the whole object judges a file that came in one piece."""
    expected = of_whole(algorithm)

    assert Verdict.PROVEN is fetched(expected, BYTES, SIZE).judge()
    assert Verdict.WRONG is fetched(expected, FLIPPED, SIZE).judge()


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
@pytest.mark.parametrize("data", [BYTES, FLIPPED])
def test_a_hash_that_does_not_combine_needs_a_reading(algorithm: str, data: bytes):
    """A hash of the whole says nothing of a file that came in several parts, until it is read back."""
    transfer = fetched(of_whole(algorithm), data, PART)

    assert Verdict.UNKNOWN is transfer.judge()
    assert transfer.algorithm is None
    assert (Verdict.PROVEN if data == BYTES else Verdict.WRONG) is read_back(of_whole(algorithm), data, ())


@pytest.mark.parametrize("algorithm", ["crc32c", "crc32", "sha256", "sha1", "md5"])
def test_a_composite_checksum_judges_parts_cut_alike(algorithm: str):
    """A checksum over the source's parts proves and refutes bytes that were fetched in those parts."""
    parts = uniform_parts(SIZE, PART)
    expected = of_parts(algorithm, parts)

    assert Verdict.PROVEN is fetched(expected, BYTES, PART, parts).judge()
    assert Verdict.WRONG is fetched(expected, FLIPPED, PART, parts).judge()


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256", "sha1", "md5"])
@pytest.mark.parametrize("source_parts", [(400, 600), (500, 500), (999, 1), (0, 1000), (1000,)])
@pytest.mark.parametrize("data", [BYTES, FLIPPED])
def test_a_composite_checksum_over_other_parts_needs_a_reading(
    algorithm: str, source_parts: tuple[int, ...], data: bytes
):
    """Where the source's parts are cut elsewhere, the stream cannot tell, and reading by the source's parts does."""
    expected = of_parts(algorithm, source_parts)

    assert Verdict.UNKNOWN is fetched(expected, data, PART, source_parts).judge()
    assert (Verdict.PROVEN if data == BYTES else Verdict.WRONG) is read_back(expected, data, source_parts)


@pytest.mark.parametrize("algorithm", ["crc32c", "md5"])
@pytest.mark.parametrize("part_size", [PART, SIZE])
def test_a_composite_checksum_over_unknown_parts_needs_a_reading(algorithm: str, part_size: int):
    """While nothing is known of the source's parts, a composite checksum judges nothing."""
    expected = of_parts(algorithm, (400, 600))

    assert Verdict.UNKNOWN is fetched(expected, BYTES, part_size).judge()


def test_a_composite_over_one_part_judges_a_file_in_one_part():
    """The composite checksum of an object uploaded in one part judges a file fetched in one part."""
    expected = of_parts("md5", (SIZE,))

    assert Verdict.PROVEN is fetched(expected, BYTES, SIZE, (SIZE,)).judge()
    assert Verdict.WRONG is fetched(expected, FLIPPED, SIZE, (SIZE,)).judge()


@pytest.mark.parametrize("expected", [NOTHING, None])
def test_without_a_checksum_the_own_one_is_all_there_is(expected: Expectation | None):
    """Where the source says nothing usable, the pinned stream counts, and the proof says so."""
    transfer = fetched(expected, BYTES, PART)

    assert Verdict.PROVEN is transfer.judge()
    assert "own-crc" == transfer.proof(1).verified


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_empty_file_can_be_proven(algorithm: str):
    """A file of no bytes has one empty part, and a checksum like any other."""
    transfer = fetched(of_whole(algorithm, b""), b"", PART)

    assert (0,) == transfer.lengths
    assert Verdict.PROVEN is transfer.judge()
    assert Verdict.WRONG is fetched(of_whole(algorithm), b"", PART).judge()


@given(data=st.data(), algorithm=st.sampled_from(ALGORITHMS))
def test_only_the_right_bytes_are_ever_proven(data: st.DataObject, algorithm: str):
    """Whatever the sizes, cuts and algorithm, right bytes are never called wrong and wrong ones never proven."""
    right = data.draw(st.binary(min_size=1, max_size=200))
    at = data.draw(st.integers(0, len(right) - 1))
    wrong = right[:at] + bytes([right[at] ^ data.draw(st.integers(1, 255))]) + right[at + 1 :]
    source_parts = uniform_parts(len(right), data.draw(st.integers(1, 200)))
    part_size = data.draw(st.integers(1, 200))
    expected = data.draw(st.sampled_from([of_whole(algorithm, right), of_parts(algorithm, source_parts, right)]))

    assert Verdict.WRONG is not fetched(expected, right, part_size, source_parts).judge()
    assert Verdict.PROVEN is not fetched(expected, wrong, part_size, source_parts).judge()
    assert Verdict.PROVEN is read_back(expected, right, source_parts)
    assert Verdict.WRONG is read_back(expected, wrong, source_parts)


# parts


@given(st.permutations(range(4)))
def test_a_file_is_complete_when_every_part_is_there(order: list[int]):
    """In whatever order parts arrive, the file is complete with the last one and not before."""
    whole = fetched(None, BYTES, PART)
    transfer = Transfer(whole.entry, 0, Path("p"), PART)
    for index in order:
        assert not transfer.is_complete
        transfer.have(index, whole.crcs[index], b"")

    assert transfer.is_complete
    assert crc64nvme(BYTES, 0) == transfer.crc64nvme()


@pytest.mark.parametrize("change", [{"in_flight": 1}, {"todo": [2]}])
def test_a_file_with_parts_under_way_is_not_complete(change: dict):
    """As long as a part is being fetched, or waits for it, a file is not complete."""
    transfer = fetched(None, BYTES, PART)
    for name, value in change.items():
        setattr(transfer, name, value)

    assert not transfer.is_complete


def test_starting_over_forgets_every_part():
    """After the whole was wrong, all parts are to be fetched, in order, under a new number."""
    transfer = fetched(of_whole("crc32"), FLIPPED, PART)
    transfer.reread = True
    transfer.start_over()

    assert (None, [0, 1, 2, 3], {}, {}) == (transfer.number, list(transfer.todo), transfer.crcs, transfer.digests)
    assert (False, False) == (transfer.is_complete, transfer.reread)


def test_the_proof_carries_the_parts():
    """The proof of a file in several parts names each part's CRC, that of a file in one part none."""
    parts = tuple(crc64nvme(piece, 0) for piece in cut(BYTES, uniform_parts(SIZE, PART)))
    whole = crc64nvme(BYTES, 0)

    assert Proof(whole, "source-crc", 7, PART, parts) == fetched(of_whole("crc32"), BYTES, PART).proof(7)
    assert Proof(whole, "source-crc", 7) == fetched(of_whole("crc32"), BYTES, SIZE).proof(7)


@pytest.mark.parametrize(
    ("expected", "part_size", "source_parts", "algorithm"),
    [
        (None, PART, (), None),
        (NOTHING, PART, (), None),
        (of_whole("crc64nvme"), PART, (), None),  # computed anyway
        (of_whole("crc32c"), PART, (), "crc32c"),
        (of_whole("md5"), PART, (), None),  # would not combine
        (of_whole("md5"), SIZE, (), "md5"),
        (of_parts("md5", uniform_parts(SIZE, PART)), PART, uniform_parts(SIZE, PART), "md5"),
        (of_parts("md5", (400, 600)), PART, (400, 600), None),
    ],
)
def test_a_second_checksum_is_computed_only_where_it_helps(expected, part_size, source_parts, algorithm):
    """A second checksum runs along only where the parts' digests can judge the file."""
    transfer = Transfer(Entry("k", SIZE, "e"), 0, Path("p"), part_size, expected, source_parts)

    assert algorithm == transfer.algorithm


# where to cut, what to hash, what to call it


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_ranges_follow_the_sources_parts(lengths: list[int]):
    """A composite checksum is read back part by part, without gap or overlap."""
    size = sum(lengths)
    ranges = hash_ranges(size, Expectation("etag-parts", "md5", b"", len(lengths)), lengths)

    assert lengths == [length for _, length in ranges]
    assert [sum(lengths[:i]) for i in range(len(lengths))] == [start for start, _ in ranges]
    assert ((0, size),) == hash_ranges(size, Expectation("etag-md5", "md5", b""), lengths)


@pytest.mark.parametrize(
    ("size", "source_parts", "part_size"),
    [
        (50 * MIB, (), 16 * MIB),  # nothing known
        (50 * MIB, uniform_parts(50 * MIB, 8 * MIB), 8 * MIB),
        (50 * MIB, uniform_parts(50 * MIB, 20 * MIB), 20 * MIB),
        (50 * MIB, (20 * MIB, 10 * MIB, 20 * MIB), 16 * MIB),  # of several lengths
        (50 * MIB, (10 * MIB, 40 * MIB), 16 * MIB),  # the last one longer
        (50 * MIB, uniform_parts(50 * MIB, MIB - 1), 16 * MIB),  # too small
        (50 * MIB, uniform_parts(50 * MIB, MIB), MIB),
        (300 * MIB, uniform_parts(300 * MIB, 64 * MIB), 64 * MIB),
        (300 * MIB, uniform_parts(300 * MIB, 64 * MIB + 1), 16 * MIB),  # too large
        (0, (0,), 16 * MIB),
    ],
)
def test_the_sources_parts_are_taken_over_where_they_help(size, source_parts, part_size):
    """A file is fetched in the source's own parts if they are of one usable length, else in the size asked for."""
    facts = Facts(size, "e", part_sizes=source_parts)

    assert (MIB, 64 * MIB) == (SMALLEST_PART, LARGEST_PART)
    assert part_size == part_size_for(facts, 16 * MIB)


@pytest.mark.parametrize(
    ("source_part", "wanted", "part_size"),
    [(8, 16, 8), (16, 8, 16), (5, 16, 16), (5, 10, 16), (20, 1, 8), (None, 10, 16), (None, 16, 16), (None, 1, 8)],
)
def test_parts_are_whole_blocks_where_a_volume_wants_that(source_part: int | None, wanted: int, part_size: int):
    """Given blocks, parts are multiples of them: the source's own if they are, else the size asked for, rounded up."""
    size = 100 * MIB
    facts = Facts(size, "e", part_sizes=uniform_parts(size, source_part * MIB)) if source_part else None

    assert part_size * MIB == part_size_for(facts, wanted * MIB, 8 * MIB)


def test_another_version_never_resumes_onto_old_bytes():
    """The partial file's name differs with key, size and version mark, and is the same for the same entry."""
    entry = Entry("k", 10, "e")
    others = [replace(entry, key="l"), replace(entry, size=11), replace(entry, etag="f"), replace(entry, etag=None)]
    others += [Entry("k\x0010", 1, "e"), Entry("k", 101, ""), Entry("k", 10, "")]

    assert len(others) + 1 == len({partial_name(one) for one in [entry, *others]})
    assert partial_name(entry) == partial_name(replace(entry, proof=Proof(1, "own-crc", 1)))


@given(st.text(max_size=300), st.none() | st.text(max_size=50))
def test_a_partial_name_fits_any_file_system(key: str, etag: str | None):
    """The name is a short row of hex digits, whatever the key."""
    assert re.fullmatch("[0-9a-f]{32}", partial_name(Entry(key, 1, etag)))
