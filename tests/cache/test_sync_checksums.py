"""Verification levels: the best proof that a source offers is used, stated, and finds a flipped byte."""

import base64
import itertools
import json
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme

from tests.support.running import META, tree

SIZES = {"dev/empty.npz": 0, "dev/one.npz": 20_000, "train/few.npz": 300_000, "train/many.npz": 2_500_000}
SOLID = [key for key, size in SIZES.items() if size]
CUTS = (65_536, 100_000, 1 << 20)  # our own parts' size; across our parts; large enough to be taken over
LEVEL = {"md5": "etag-md5", "multipart": "etag-parts", "opaque": "own-crc"}


def settings():
    """Every pair of (etag, checksum) settings; each cut only where something is cut."""
    etags = ["md5", "opaque", "multipart:"]
    checksums = [None, "crc64nvme", "crc32c", "crc32", "sha256", "composite:crc32:", "composite:sha256:"]
    for etag, checksum in itertools.product(etags, checksums):
        is_cut = f"{etag}{checksum}".count(":") > 0
        for cut in CUTS if is_cut else (0,):
            yield tuple(f"{each}{cut}" if each and each.endswith(":") else each for each in (etag, checksum))


def level(etag: str, checksum: str | None, sse: str | None = None) -> str:
    """The level that these settings of the server allow."""
    if checksum is not None:
        return "source-crc"
    return "own-crc" if sse else LEVEL[etag.partition(":")[0]]


def rows(target: Path) -> dict[str, dict]:
    lines = (target / META / "manifest.jsonl").read_text().splitlines()
    return {row["key"]: row for row in map(json.loads, lines)}


def encoded(data: bytes) -> str:
    return base64.b64encode(crc64nvme(data).to_bytes(8, "big")).decode()


def check_rows(target: Path, contents: dict[str, bytes], wanted: str) -> None:
    """The manifest has every file with its true size and CRC, proven at the `wanted` level."""
    found = {key: (row["size"], row["checksum"], row["verified"]) for key, row in rows(target).items()}
    assert {key: (len(data), {"crc64nvme": encoded(data)}, wanted) for key, data in contents.items()} == found


@pytest.fixture
def filled(bucket):
    for key, size in SIZES.items():
        bucket.put(key, size)
    return bucket


@pytest.mark.parametrize(("etag", "checksum"), tuple(settings()))
def test_the_best_proof_is_used_and_stated(etag, checksum, filled, target):
    """The report's and the manifest's levels are the best that the source offers, and the CRC is that of the bytes."""
    filled.configure(etag=etag, checksum=checksum)
    report = filled.sync(target)
    wanted = level(etag, checksum)
    assert {wanted: len(SIZES)} == report.verification
    assert (
        dict.fromkeys(("source-crc", "etag-md5", "etag-parts", "own-crc"), 0) | report.verification
        == report.as_dict()["verification"]
    )
    assert (0, 0, 0) == (report.exit_code, report.retries, report.bytes_refetched)
    assert filled.contents() == tree(target)
    check_rows(target, filled.contents(), wanted)


@pytest.mark.parametrize(("etag", "checksum"), [pair for pair in settings() if level(*pair) != "own-crc"])
def test_a_flipped_byte_is_found(etag, checksum, filled, target):
    """A byte flipped on the way is found by every kind of checksum, and the file is fetched again."""
    filled.configure(etag=etag, checksum=checksum)
    filled.faults(*({"do": "flip", "arg": 1234, "key": key} for key in SOLID))
    report = filled.sync(target)
    assert 0 == report.exit_code
    assert len(SOLID) == report.retries
    assert filled.contents() == tree(target)
    check_rows(target, filled.contents(), level(etag, checksum))


@pytest.mark.parametrize("checksum", [None, "crc64nvme", "composite:sha256:100000"])
@pytest.mark.parametrize("etag", ["md5", "multipart:100000"])
def test_an_etag_under_kms_is_no_md5(etag, checksum, filled, target):
    """An ETag of an object encrypted with SSE-KMS proves nothing, though it looks like an MD5."""
    filled.configure(etag=etag, checksum=checksum, sse="aws:kms")
    report = filled.sync(target)
    assert (0, 0) == (report.exit_code, report.retries)
    assert {level(etag, checksum, "aws:kms"): len(SIZES)} == report.verification
    assert filled.contents() == tree(target)
    check_rows(target, filled.contents(), level(etag, checksum, "aws:kms"))


UNEVEN = {
    "dev/one.npz": [15_000, 5_000],
    "train/few.npz": [70_000, 30_000, 200_000],
    "train/many.npz": [1 << 20, 900_000, 1_600_000 - (1 << 20)],  # as many as even parts of 1 MiB would be
}


@pytest.mark.parametrize("checksum", [None, "crc64nvme", "composite:crc32:1000000", "composite:sha256:1000000"])
@pytest.mark.parametrize("flipped", [False, True], ids=["clean", "flipped"])
def test_uneven_parts_are_proven_by_their_true_lengths(checksum, flipped, filled, target):
    """An object uploaded in parts of different lengths is proven part by part, without a second fetch."""
    filled.configure(etag="multipart:1000000", checksum=checksum, multipart_parts=UNEVEN)
    filled.faults(*[{"do": "flip", "arg": 1234, "key": key} for key in SOLID] * flipped)
    report = filled.sync(target)
    assert (0, len(SOLID) if flipped else 0) == (report.exit_code, report.retries)
    assert {level("multipart", checksum): len(SIZES)} == report.verification
    assert filled.contents() == tree(target)
    check_rows(target, filled.contents(), level("multipart", checksum))


@pytest.mark.parametrize("part_size", [1 << 16, 90_001, 1 << 20, 1 << 24])
@pytest.mark.parametrize("checksum", [None, "crc32", "sha256", "composite:crc32:100000"])
def test_the_own_part_size_does_not_matter(part_size, checksum, filled, target):
    """However the files are cut on the way, their checksums are the same."""
    filled.configure(etag="multipart:100000", checksum=checksum)
    report = filled.sync(target, part_size=part_size)
    assert (0, 0) == (report.exit_code, report.retries)
    check_rows(target, filled.contents(), level("multipart", checksum))
    assert filled.contents() == tree(target)


@pytest.mark.parametrize(
    ("etag", "checksum"), [("md5", None), ("multipart:65536", None), ("opaque", "composite:crc32:65536")]
)
def test_reverify_reads_what_was_written(etag, checksum, filled, target):
    """--reverify finds nothing wrong after a good run, whatever the proof."""
    filled.configure(etag=etag, checksum=checksum)
    assert 0 == filled.sync(target, reverify=True).exit_code
    assert 0 == filled.sync(target, reverify=True).bytes_copied
