"""Checksums: our own CRC64NVME, and what a source says of its bytes.

CRC-64/NVME has the generator polynomial 0xAD93D23594C93659 (NVM Express, NVM Command Set specification 1.0, 5.2.1.3.4);
it is what S3 computes by default, and it combines: the CRC of a file follows from the CRCs of its parts in any order
of arrival. The arithmetic is awscrt's, which takes any buffer and releases the GIL.
"""

import base64
import binascii
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from awscrt import checksums as crt

from tusz_cache.entry import Level

Buffer = bytes | bytearray | memoryview
Algorithm = Literal["crc64nvme", "crc32c", "crc32", "sha256", "sha1", "md5"]

crc64nvme: Callable[[Buffer, int], int] = crt.crc64nvme

# update, combine, bytes in a digest
_CRCS: dict[str, tuple[Callable[[Buffer, int], int], Callable[[int, int, int], int], int]] = {
    "crc64nvme": (crt.crc64nvme, crt.combine_crc64nvme, 8),
    "crc32c": (crt.crc32c, crt.combine_crc32c, 4),
    "crc32": (crt.crc32, crt.combine_crc32, 4),
}
# S3's header names, best first: the first two combine and are the cheapest
_HEADERS: tuple[Algorithm, ...] = ("crc64nvme", "crc32c", "crc32", "sha256", "sha1")
_LENGTHS: dict[str, int] = {"crc64nvme": 8, "crc32c": 4, "crc32": 4, "sha256": 32, "sha1": 20}  # bytes
_HEADER = re.compile(r"(?P<digest>[A-Za-z0-9+/]+=*)(?:-(?P<parts>[1-9]\d{0,4}))?")
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")
_PARTS_ETAG = re.compile(r"(?P<digest>[0-9a-f]{32})-(?P<parts>[1-9]\d{0,4})")


class Hasher(Protocol):
    """What hashlib's objects offer."""

    def update(self, data: Buffer, /) -> None: ...  # noqa: D102 - hashlib's own contract
    def digest(self) -> bytes: ...  # noqa: D102 - hashlib's own contract


class _CrcHasher:
    def __init__(self, algorithm: str) -> None:
        self._update, _, self._length = _CRCS[algorithm]
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._update(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._length, "big")


def hasher(algorithm: Algorithm) -> Hasher:
    """Return a fresh running hash of `algorithm`."""
    return _CrcHasher(algorithm) if algorithm in _CRCS else hashlib.new(algorithm, usedforsecurity=False)


def combine(algorithm: Algorithm, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the digest of a whole from (digest, length in bytes) of its parts in order. CRCs only."""
    _, combine_two, length = _CRCS[algorithm]
    whole = 0
    for digest, size in parts:
        whole = combine_two(whole, int.from_bytes(digest, "big"), size)
    return whole.to_bytes(length, "big")


def combine_crc64nvme(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC64NVME of a whole from (crc, length in bytes) of its parts in order."""
    whole = 0
    for crc, size in parts:
        whole = crt.combine_crc64nvme(whole, crc, size)
    return whole


def encode_crc(crc: int) -> str:
    """Return a CRC64NVME as S3 writes it: base64 of eight big-endian bytes."""
    return binascii.b2a_base64(crc.to_bytes(8, "big"), newline=False).decode()


def decode_crc(text: str) -> int:
    """Inverse of `encode_crc`. Raises ValueError."""
    raw = binascii.a2b_base64(text, strict_mode=True)
    if len(raw) != 8:
        raise ValueError(f"{text!r} is no CRC64NVME")
    return int.from_bytes(raw, "big")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the source says the bytes are, as the best that can be checked."""

    level: Level
    algorithm: Algorithm | None = None  # None: the source says nothing usable
    digest: bytes = b""
    parts: int = 0  # > 0: `digest` is over the digests of that many source parts

    @property
    def combines(self) -> bool:
        """Whether the whole's digest follows from the digests of any parts."""
        return self.algorithm in _CRCS and not self.parts


NOTHING = Expectation("own-crc")


def expectation(etag: str | None, headers: Mapping[str, str]) -> Expectation:
    """Return the best proof that an S3 answer offers. Pure.

    headers: the answer's headers, names in lower case. An ETag is an MD5 only if it looks like one and the object is
    not encrypted with SSE-KMS or SSE-C (S3 user guide, "Checking object integrity").
    """
    composite: Expectation | None = None
    for algorithm in _HEADERS:
        match = _HEADER.fullmatch(headers.get(f"x-amz-checksum-{algorithm}", ""))
        try:
            digest = base64.b64decode(match["digest"], validate=True) if match else b""
        except ValueError:
            digest = b""
        if match is None or len(digest) != _LENGTHS[algorithm]:
            continue  # not a checksum we know how to read: the next one may be
        if not match["parts"]:
            return Expectation("source-crc", algorithm, digest)
        if composite is None:
            composite = Expectation("source-crc", algorithm, digest, parts=int(match["parts"]))
    if composite is not None:
        return composite
    return _etag_expectation(etag or "", headers)


def _etag_expectation(etag: str, headers: Mapping[str, str]) -> Expectation:
    keyed = (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )
    if keyed:
        return NOTHING
    if _MD5_ETAG.fullmatch(etag):
        return Expectation("etag-md5", "md5", bytes.fromhex(etag))
    if match := _PARTS_ETAG.fullmatch(etag):
        return Expectation("etag-parts", "md5", bytes.fromhex(match["digest"]), parts=int(match["parts"]))
    return NOTHING


def digest_of_parts(algorithm: Algorithm, digests: Sequence[bytes]) -> bytes:
    """Return a composite digest: the hash of the parts' digests, one after the other."""
    whole = hasher(algorithm)
    for digest in digests:
        whole.update(digest)
    return whole.digest()


def uniform_parts(size: int, part_size: int) -> tuple[int, ...]:
    """Return the lengths of `size` bytes cut every `part_size` bytes; one empty part for an empty file."""
    whole, rest = divmod(size, part_size)
    return (part_size,) * whole + ((rest,) if rest or not whole else ())


def spans(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return (start, length) of pieces that lie one after the other."""
    return tuple(zip(itertools.accumulate(lengths, initial=0), lengths, strict=False))
