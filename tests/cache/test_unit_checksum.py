"""What checksums must be: right, combinable, and believed only where the source says what they are of."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.checksum import (
    NOTHING,
    Expectation,
    combine,
    combine_crc64nvme,
    crc64nvme,
    decode_crc,
    digest_of_parts,
    encode_crc,
    expectation,
    hasher,
    uniform_parts,
)

CHECK = b"123456789"
CRCS = ("crc64nvme", "crc32c", "crc32")
MD5 = "0123456789abcdef0123456789abcdef"


def digest(algorithm: str, *blocks: bytes) -> bytes:
    running = hasher(algorithm)
    for block in blocks:
        running.update(block)
    return running.digest()


def header(algorithm: str, data: bytes = CHECK, count: int | None = None) -> dict[str, str]:
    value = base64.b64encode(digest(algorithm, data)).decode()
    return {f"x-amz-checksum-{algorithm}": value if count is None else f"{value}-{count}"}


@st.composite
def split_bytes(draw: st.DrawFn) -> list[bytes]:
    """Return some bytes in arbitrary pieces, empty ones among them."""
    return draw(st.lists(st.binary(max_size=300), max_size=8))


@pytest.mark.parametrize(
    ("algorithm", "check"),
    [
        ("crc64nvme", "ae8b14860a799888"),
        ("crc32c", "e3069283"),
        ("crc32", "cbf43926"),
        ("md5", "25f9e794323b453885f5181f1b624d0b"),
        ("sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ],
)
def test_known_answers(algorithm: str, check: str):
    """Every algorithm gives the published check value for "123456789"."""
    assert check == digest(algorithm, CHECK).hex()


def test_the_running_crc_is_the_hashers():
    """The CRC that lanes compute block by block is the one that the hasher gives."""
    running = 0
    for byte in CHECK:
        running = crc64nvme(bytes([byte]), running)

    assert 0xAE8B14860A799888 == running
    assert 0 == crc64nvme(b"", 0)


@given(st.binary(max_size=2000))
def test_crc32_is_zlibs(data: bytes):
    """CRC-32 agrees with an independent implementation."""
    assert zlib.crc32(data).to_bytes(4, "big") == digest("crc32", data)


@pytest.mark.parametrize("algorithm", CRCS)
@given(blocks=split_bytes())
def test_crcs_of_parts_combine_to_the_whole(algorithm: str, blocks: list[bytes]):
    """However bytes are cut, the parts' CRCs and lengths give the CRC of the whole."""
    parts = [(digest(algorithm, block), len(block)) for block in blocks]

    assert digest(algorithm, b"".join(blocks)) == combine(algorithm, parts)


@given(split_bytes())
def test_crc64nvme_numbers_combine_to_the_whole(blocks: list[bytes]):
    """The numeric form combines as the digests do."""
    expected = crc64nvme(b"".join(blocks), 0)

    assert expected == combine_crc64nvme((crc64nvme(block, 0), len(block)) for block in blocks)


@given(st.binary(min_size=1, max_size=100), st.binary(min_size=1, max_size=100))
def test_the_order_of_parts_counts(one: bytes, other: bytes):
    """Parts in the wrong order do not pass for the whole, unless it is the same bytes."""
    swapped = combine_crc64nvme((crc64nvme(block, 0), len(block)) for block in (other, one))

    assert (one + other == other + one) == (crc64nvme(one + other, 0) == swapped)


@pytest.mark.parametrize("algorithm", [*CRCS, "sha256", "sha1", "md5"])
@given(blocks=split_bytes())
def test_a_hasher_does_not_see_how_bytes_arrive(algorithm: str, blocks: list[bytes]):
    """Feeding pieces gives what feeding the whole gives, from any kind of buffer."""
    views = [memoryview(bytearray(block)) for block in blocks]

    assert digest(algorithm, b"".join(blocks)) == digest(algorithm, *views)


@given(st.integers(0, 2**64 - 1))
def test_a_crc_survives_being_written(crc: int):
    """Writing and reading a CRC gives the number back, in the form that S3 uses."""
    text = encode_crc(crc)

    assert crc == decode_crc(text)
    assert crc.to_bytes(8, "big") == base64.b64decode(text)


@pytest.mark.parametrize(
    "text", ["", "AAAA", "AAAAAAAAAA==", "not base64!", "AAAAAAAAAAAAAAAA", "AAAAAAAAAAA", "é" * 12]
)
def test_what_is_no_crc_is_refused(text: str):
    """Text that is not base64 of eight bytes raises ValueError."""
    with pytest.raises(ValueError, match=r".*"):
        decode_crc(text)


# what a source says


@pytest.mark.parametrize(
    ("name", "etag", "headers", "expected"),
    [
        ("md5", MD5, {}, Expectation("etag-md5", "md5", bytes.fromhex(MD5))),
        ("parts", f"{MD5}-12", {}, Expectation("etag-parts", "md5", bytes.fromhex(MD5), 12)),
        ("one part", f"{MD5}-1", {}, Expectation("etag-parts", "md5", bytes.fromhex(MD5), 1)),
        ("10,000 parts", f"{MD5}-10000", {}, Expectation("etag-parts", "md5", bytes.fromhex(MD5), 10_000)),
        ("no etag", None, {}, NOTHING),
        ("empty etag", "", {}, NOTHING),
        ("nginx", "66f1a3b2-4a2f00", {}, NOTHING),
        ("nginx, long", "0123456789abcdef0123456789abcdef-4a2f", {}, NOTHING),
        ("weak", f'W/"{MD5}"', {}, NOTHING),
        ("weak, half unquoted", f'W/"{MD5}', {}, NOTHING),
        ("quoted", f'"{MD5}"', {}, NOTHING),
        ("no parts", f"{MD5}-0", {}, NOTHING),
        ("leading zero", f"{MD5}-01", {}, NOTHING),
        ("too many parts", f"{MD5}-123456", {}, NOTHING),
        ("two dashes", f"{MD5}-1-2", {}, NOTHING),
        ("negative", f"{MD5}--1", {}, NOTHING),
        ("upper case", MD5.upper(), {}, NOTHING),
        ("31 digits", MD5[:-1], {}, NOTHING),
        ("33 digits", MD5 + "0", {}, NOTHING),
        ("newline", MD5 + "\n", {}, NOTHING),
        ("not hex", "g" * 32, {}, NOTHING),
        ("sha256 as etag", "a" * 64, {}, NOTHING),
        ("generation", "1718822400123456", {}, NOTHING),
        ("SSE-KMS", MD5, {"x-amz-server-side-encryption": "aws:kms"}, NOTHING),
        ("SSE-KMS, two layers", MD5, {"x-amz-server-side-encryption": "aws:kms:dsse"}, NOTHING),
        ("SSE-KMS parts", f"{MD5}-2", {"x-amz-server-side-encryption": "aws:kms"}, NOTHING),
        ("SSE-C", MD5, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, NOTHING),
        (
            "SSE-S3",
            MD5,
            {"x-amz-server-side-encryption": "AES256"},
            Expectation("etag-md5", "md5", bytes.fromhex(MD5)),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_an_etag_is_believed_only_where_it_is_a_checksum(name, etag, headers, expected):
    """An ETag counts as MD5, of the whole or of the parts, only in S3's exact form and without keyed encryption."""
    assert expected == expectation(etag, headers)


@pytest.mark.parametrize("algorithm", ["crc64nvme", "crc32c", "crc32", "sha256", "sha1"])
@pytest.mark.parametrize("etag", [None, MD5, f"{MD5}-3"])
@pytest.mark.parametrize("keyed", [{}, {"x-amz-server-side-encryption": "aws:kms"}])
def test_a_full_object_checksum_is_best(algorithm: str, etag: str | None, keyed: dict[str, str]):
    """A checksum over the whole object beats any ETag, also on encrypted objects."""
    expected = Expectation("source-crc", algorithm, digest(algorithm, CHECK))

    assert expected == expectation(etag, header(algorithm) | keyed)


@pytest.mark.parametrize("algorithm", ["crc32c", "crc32", "sha256", "sha1"])
def test_a_composite_checksum_is_known_by_its_count(algorithm: str):
    """A checksum with a count is over the parts' checksums, and does not combine."""
    found = expectation(f"{MD5}-3", header(algorithm, count=3))

    assert Expectation("source-crc", algorithm, digest(algorithm, CHECK), 3) == found
    assert not found.combines


def test_a_full_object_checksum_beats_composite_ones():
    """Where a source sends several, one over the whole object is taken first, then the cheapest composite one."""
    composite = header("crc32c", count=2) | header("sha256", count=2)

    assert "sha1" == expectation(MD5, composite | header("sha1")).algorithm
    assert "crc32c" == expectation(MD5, composite).algorithm
    assert "crc64nvme" == expectation(MD5, header("sha256") | header("crc64nvme") | header("crc32c")).algorithm


@pytest.mark.parametrize(
    "garbage",
    ["", "-", "-3", "???", "AAAA", "AAAAAAAA", "=", "not a checksum", "AAAAAAAAAAA=-0", "AAAAAAAAAAA=-x", "é"],
)
def test_a_header_that_is_no_checksum_is_passed_over(garbage: str):
    """A value that cannot be a CRC64NVME proves nothing, so the next best proof is taken."""
    headers = {"x-amz-checksum-crc64nvme": garbage}

    assert Expectation("etag-md5", "md5", bytes.fromhex(MD5)) == expectation(MD5, headers)
    assert "sha256" == expectation(MD5, headers | header("sha256")).algorithm


def test_an_unknown_checksum_is_passed_over():
    """A header of an algorithm of the future changes nothing."""
    assert NOTHING == expectation(None, {"x-amz-checksum-xxhash128": "AAAA", "x-amz-checksum-type": "FULL_OBJECT"})


@pytest.mark.parametrize(
    ("expected", "combines"),
    [
        (NOTHING, False),
        (Expectation("source-crc", "crc64nvme", b"8"), True),
        (Expectation("source-crc", "crc32", b"4"), True),
        (Expectation("source-crc", "crc32", b"4", 2), False),
        (Expectation("source-crc", "sha256", b"32"), False),
        (Expectation("etag-md5", "md5", b"16"), False),
    ],
)
def test_only_crcs_of_the_whole_combine(expected: Expectation, combines: bool):
    """Parts tell the whole's checksum only for CRCs over the whole object."""
    assert combines == expected.combines


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_a_composite_is_the_hash_of_the_parts_hashes(blocks: list[bytes]):
    """A composite digest hashes the parts' digests, one after the other, as S3 does for multipart ETags."""
    digests = [hashlib.md5(block).digest() for block in blocks]

    assert hashlib.md5(b"".join(digests)).digest() == digest_of_parts("md5", digests)


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_uniform_parts_cover_a_file_exactly(size: int, part_size: int):
    """Parts add up to the file; all but the last have the part size, and the last is not empty unless the file is."""
    parts = uniform_parts(size, part_size)

    assert size == sum(parts)
    assert {part_size} >= set(parts[:-1])
    assert (size == 0) == (parts[-1] == 0)
    assert max(1, -(-size // part_size)) == len(parts)
    assert parts[-1] <= part_size
