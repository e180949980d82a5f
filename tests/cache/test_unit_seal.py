"""What a seal must be: bound to one manifest, readable by its own version, and refused when anything is off."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import Damaged
from tusz_cache.manifest import Manifest, SplitCount
from tusz_cache.manifest_file import digest
from tusz_cache.manifest_file import to_bytes as manifest_bytes
from tusz_cache.seal import FORMAT, Seal, check_manifest, from_bytes, to_bytes

COUNTS = st.integers(0, 2**50)
seals = st.builds(
    Seal,
    source=st.text(max_size=20),
    manifest_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    files=COUNTS,
    bytes=COUNTS,
    splits=st.dictionaries(st.text(max_size=5), st.builds(SplitCount, COUNTS, COUNTS, COUNTS), max_size=3),
    verification=st.dictionaries(st.sampled_from(["source-crc", "own-crc"]), COUNTS),
    filters=st.dictionaries(st.sampled_from(["include", "exclude"]), st.lists(st.text(max_size=5), max_size=2)),
    complete=st.booleans(),
    created=st.just("2025-01-01T00:00:00+00:00"),
    tusz_cache=st.just("0.1.0"),
    volume=st.none() | st.just({"kind": "volume", "name": "n", "object_id": "vo-1"}),
)
SEAL = Seal(
    source="s3://b/p",
    manifest_sha256=digest(b"manifest"),
    files=2,
    bytes=10,
    splits={"train": SplitCount(2, 1, 10)},
    verification={"source-crc": 2},
    created="2025-01-01T00:00:00+00:00",
    tusz_cache="0.1.0",
)
ROW = json.loads(to_bytes(SEAL))


@given(seals)
def test_a_seal_survives_being_written(seal: Seal):
    """Writing and reading gives the same seal, and writing again the same bytes."""
    data = to_bytes(seal)

    assert seal == from_bytes(data, path="s")
    assert data == to_bytes(from_bytes(data, path="s"))


def test_a_seal_has_the_form_of_the_contract():
    """The file is the JSON object that others rely on."""
    assert {
        "format": 1,
        "source": "s3://b/p",
        "manifest_sha256": digest(b"manifest"),
        "files": 2,
        "bytes": 10,
        "splits": {"train": {"files": 2, "npz": 1, "bytes": 10}},
        "verification": {"source-crc": 2},
        "filters": {},
        "complete": True,
        "created": "2025-01-01T00:00:00+00:00",
        "tusz_cache": "0.1.0",
        "volume": None,
    } == ROW


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b"{}",
        b"\xff",
        to_bytes(SEAL)[:-5],
        json.dumps(ROW | {"splits": None}).encode(),
        json.dumps(ROW | {"splits": []}).encode(),
        json.dumps(ROW | {"splits": {"train": 5}}).encode(),
        json.dumps(ROW | {"splits": {"train": {"files": 1, "novelty": 2}}}).encode(),
        json.dumps(ROW | {"novelty": 1}).encode(),
        json.dumps({name: value for name, value in ROW.items() if name != "manifest_sha256"}).encode(),
    ],
)
def test_what_is_no_seal_is_called_damaged(data: bytes):
    """A torn seal, one that lacks a field, or one with fields unknown here is Damaged, named, with the way out."""
    with pytest.raises(Damaged, match="the/seal") as caught:
        from_bytes(data, path="the/seal")

    assert (7, True) == (caught.value.exit_code, "sync" in caught.value.hint)


@pytest.mark.parametrize("more", [{}, {"novelty": 1}, {"splits": {"train": {"files": 1, "novelty": 2}}}])
def test_a_seal_of_a_later_format_is_told_as_such(more: dict):
    """A seal of a later format is refused by its format, whatever else it holds, with the advice to update."""
    with pytest.raises(Damaged, match=f"format {FORMAT + 1}") as caught:
        from_bytes(json.dumps(ROW | more | {"format": FORMAT + 1}).encode(), path="s")

    assert "update tusz_cache" in caught.value.hint


def test_a_seal_fits_its_own_manifest_only():
    """A seal is accepted for exactly the bytes that it was given to."""
    check_manifest(SEAL, digest(b"manifest"))

    for other in (b"", b"manifest\n", b"Manifest"):
        with pytest.raises(Damaged, match="does not fit the manifest"):
            check_manifest(SEAL, digest(other))


def test_any_change_of_an_entry_breaks_the_seal():
    """Key, size, mark, checksum, level and time of every entry are under the seal."""
    proof = Proof(1, "own-crc", 1)
    entry = Entry("a", 1, "e", proof)
    seal = replace(SEAL, manifest_sha256=digest(manifest_bytes(Manifest.of([entry]))))
    changed = [replace(entry, key="b"), replace(entry, size=2), replace(entry, etag=None)]
    changed += [replace(entry, proof=replace(proof, crc64nvme=2)), replace(entry, proof=replace(proof, mtime_ns=2))]
    changed += [replace(entry, proof=replace(proof, verified="source-crc"))]

    check_manifest(seal, digest(manifest_bytes(Manifest.of([entry]))))
    for other in changed:
        with pytest.raises(Damaged):
            check_manifest(seal, digest(manifest_bytes(Manifest.of([other]))))


def test_levels_are_counted():
    """A seal says how many files were verified at each level; files without proof do not count."""
    levels = ["source-crc", "source-crc", "own-crc"]
    entries = [Entry(f"k{i}", 1, "e", Proof(1, level, 1)) for i, level in enumerate(levels)]

    assert {"source-crc": 2, "own-crc": 1} == Manifest.of([*entries, Entry("bare", 1, "e")]).level_counts()
