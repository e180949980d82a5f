"""What a manifest must be: in one order, the same after writing and reading, and made of keys that can be files."""

import contextlib
import hashlib
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.checksum import encode_crc
from tusz_cache.entry import LEVELS, Entry, Proof, check_key
from tusz_cache.errors import Damaged, ListingBroken, UnsafeKey
from tusz_cache.keys import check_keys
from tusz_cache.manifest import Draft, Manifest, SplitCount
from tusz_cache.manifest_file import digest, from_bytes, to_bytes

PROOF = Proof(crc64nvme=1, verified="own-crc", mtime_ns=2)
CRC = st.integers(0, 2**64 - 1)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ODD = ["\u2028", "\x85", "\x0b\x0c\x1c", "a\r\nb", '"\\', "\uff46\uff55", "a\u0301", "\U0001f9e0"]

proofs = st.builds(Proof, CRC, st.sampled_from(LEVELS), st.integers(-(2**62), 2**63 - 1)) | st.builds(
    Proof,
    CRC,
    st.sampled_from(LEVELS),
    st.integers(0, 2**63 - 1),
    st.integers(1, 2**40),
    st.lists(CRC, min_size=1, max_size=4).map(tuple),
)
proven = st.builds(Entry, KEYS | st.sampled_from(ODD), st.integers(0, 2**50), st.none() | st.text(max_size=5), proofs)
manifests = st.lists(proven, unique_by=lambda entry: entry.key, max_size=8).map(Manifest.of)


def manifest(*keys: str) -> Manifest:
    return Manifest.of(Entry(key, 1, "e") for key in keys)


# order


@given(st.lists(KEYS, unique=True))
def test_entries_are_in_the_order_of_their_bytes(keys: list[str]):
    """Whatever order a source lists in, a manifest is sorted by the UTF-8 bytes of its keys."""
    assert sorted(keys, key=str.encode) == [entry.key for entry in manifest(*keys)]


def test_bytes_and_code_points_sort_alike_beyond_the_basic_plane():
    """Keys beyond U+FFFF come after all others, which UTF-16 order would get wrong."""
    assert ["a", "\uffff", "\U00010000"] == manifest("\U00010000", "\uffff", "a").keys


@given(st.lists(KEYS, min_size=1, unique=True), st.data())
def test_a_key_listed_twice_breaks_the_listing(keys: list[str], data: st.DataObject):
    """A listing that names a key twice contradicts itself, also if both rows are equal."""
    twice = data.draw(st.sampled_from(keys))

    with pytest.raises(ListingBroken, match=re.escape(repr(twice))):
        manifest(*keys, twice)


def test_a_size_that_is_none_breaks_the_listing():
    """An object larger than 64 bits can tell is a listing that contradicts itself, not a crash."""
    with pytest.raises(ListingBroken, match="'huge'"):
        Manifest.of([Entry("huge", 2**63, "e")])


# on disk


@given(manifests)
def test_a_manifest_survives_being_written(made: Manifest):
    """Writing and reading gives the same entries in the same order, and writing again the same bytes."""
    data = to_bytes(made)
    back = from_bytes(data, path="m")

    assert list(made) == list(back)
    assert data == to_bytes(back)
    assert len(made) == data.count(b"\n")


def as_json(entry: Entry) -> bytes:
    """Return a manifest's line as the standard library writes it."""
    proof = entry.proof
    assert proof is not None
    row = {"key": entry.key, "size": entry.size, "etag": entry.etag}
    row |= {"checksum": {"crc64nvme": encode_crc(proof.crc64nvme)}}
    row |= {"verified": proof.verified, "mtime_ns": proof.mtime_ns}
    if proof.part_crcs:
        row["parts"] = {"size": proof.part_size, "crc64nvme": [encode_crc(crc) for crc in proof.part_crcs]}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@given(manifests)
def test_the_bytes_are_those_that_every_version_wrote(made: Manifest):
    """A seal's digest is over the bytes, so they are what the standard library makes of each entry, for ever."""
    assert b"".join(map(as_json, made)) == to_bytes(made)


@given(st.lists(proven, max_size=12), st.lists(proven, max_size=12))
def test_of_several_entries_with_one_key_the_last_counts(first: list[Entry], second: list[Entry]):
    """Manifests put together hold each key once, as the last of them has it, parts and all."""
    drafts = Draft(), Draft()
    for draft, entries in zip(drafts, (first, second), strict=True):
        for entry in entries:
            draft.add(entry)
    expected = {entry.key: entry for entry in (*first, *second)}

    made = Manifest.merged(*(draft.latest() for draft in drafts))
    assert sorted(expected.values(), key=lambda entry: entry.key.encode()) == list(made)
    assert expected == {key: made[key] for key in expected}


@given(manifests, manifests, st.text(max_size=3))
def test_keys_are_found_where_they_are(one: Manifest, other: Manifest, key: str):
    """A manifest knows which keys it has, where they are, and where another one has them."""
    where = {key: row for row, key in enumerate(other.keys)}

    assert [where.get(key, -1) for key in one.keys] == list(one.rows_in(other))
    assert (key in where, where.get(key)) == (key in other, other.row(key))
    assert all(other.at(row) == other[key] == other.get(key) for key, row in where.items())


def test_a_line_has_the_form_of_the_contract():
    """A line is the JSON object that others rely on, with parts only where the file has some."""
    entry = Entry("train/ä.npz", 20, "e", Proof(0xAE8B14860A799888, "source-crc", 99))
    expected = {
        "key": "train/ä.npz",
        "size": 20,
        "etag": "e",
        "checksum": {"crc64nvme": "rosUhgp5mIg="},
        "verified": "source-crc",
        "mtime_ns": 99,
    }
    assert expected == json.loads(to_bytes(Manifest.of([entry])))

    assert entry.proof is not None
    in_parts = replace(entry, proof=replace(entry.proof, part_size=16, part_crcs=(0, 1)))
    parts = {"size": 16, "crc64nvme": ["AAAAAAAAAAA=", "AAAAAAAAAAE="]}
    assert expected | {"parts": parts} == json.loads(to_bytes(Manifest.of([in_parts])))


def test_fields_of_a_later_version_are_passed_over():
    """A line with more fields than this version knows is read all the same."""
    made = Manifest.of([Entry("a", 1, None, PROOF)])
    row = json.loads(to_bytes(made)) | {"novelty": [1]}

    assert made == from_bytes(json.dumps(row).encode(), path="m")


LINES = to_bytes(Manifest.of(Entry(f"k{i}", i, "e", PROOF) for i in range(4))).splitlines(keepends=True)
ROW = json.loads(LINES[2])


@pytest.mark.parametrize(
    "bad",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"5\n",
        b'"text"\n',
        b"\xff\xfe\n",
        LINES[2][:-5] + b"\n",
        json.dumps(ROW | {"verified": "hearsay"}).encode() + b"\n",
        json.dumps(ROW | {"verified": []}).encode() + b"\n",
        json.dumps(ROW | {"size": "x"}).encode() + b"\n",
        json.dumps(ROW | {"size": None}).encode() + b"\n",
        json.dumps(ROW | {"checksum": {}}).encode() + b"\n",
        json.dumps(ROW | {"checksum": "x"}).encode() + b"\n",
        json.dumps(ROW | {"checksum": {"crc64nvme": "AAAA"}}).encode() + b"\n",
        json.dumps(ROW | {"checksum": {"crc64nvme": 5}}).encode() + b"\n",
        json.dumps(ROW | {"mtime_ns": []}).encode() + b"\n",
        json.dumps(ROW | {"parts": []}).encode() + b"\n",
        json.dumps(ROW | {"parts": {"size": 1, "crc64nvme": ["x"]}}).encode() + b"\n",
        json.dumps({name: value for name, value in ROW.items() if name != "etag"}).encode() + b"\n",
        LINES[2].replace(b'"size":2', b'"size":2e999'),  # infinite
        LINES[2].replace(b'"size":2', b'"size":2.0'),
        LINES[2].replace(b'"size":2', b'"size":9223372036854775808'),  # 64 bits are not enough
        LINES[2].replace(b'"size":2', b'"size":' + b"9" * 400),
        LINES[2].replace(b'"mtime_ns":2', b'"mtime_ns":18446744073709551616'),
        LINES[2].replace(b'"etag":"e"', b'"etag":5'),
        LINES[2].replace(b'"k2"', b"7"),
        LINES[2].replace(b'"k2"', b'"\\ud800"'),  # half of a surrogate pair
        LINES[2].replace(b'"k2"', b'"\xed\xa0\x80"'),  # likewise, as bytes
        b"[" * 100_000 + b"\n",
        json.dumps(ROW | {"parts": {"size": 2**64, "crc64nvme": []}}).encode() + b"\n",
        json.dumps(ROW | {"parts": {"size": 1.5, "crc64nvme": ["AAAAAAAAAAA="]}}).encode() + b"\n",
        LINES[1],  # a key that came before
        LINES[0],
    ],
)
def test_damage_is_named_with_its_line(bad: bytes):
    """Reading a manifest with one line that is none raises Damaged and names file and line."""
    with pytest.raises(Damaged, match="the/manifest line 3 "):
        from_bytes(b"".join([*LINES[:2], bad, LINES[3]]), path="the/manifest")


def test_entries_may_lie_in_any_order():
    """A manifest whose lines are not sorted is read all the same, and is sorted then."""
    assert from_bytes(b"".join(LINES), path="m") == from_bytes(b"".join(reversed(LINES)), path="m")


@given(st.data())
def test_no_flipped_byte_is_a_bug(data: st.DataObject):
    """Whatever one wrong byte does to a manifest, it is read or called damaged, nothing else."""
    whole = bytearray(b"".join(LINES))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        from_bytes(bytes(whole), path="m")
    except Damaged as error:
        assert "m line " in str(error)


def test_every_changed_digit_is_read_or_called_damaged():
    """Each byte of a manifest replaced by any printable one is read or called damaged, nothing else."""
    whole = to_bytes(Manifest.of([Entry("k0", 123456, "e", PROOF), Entry("k1", 1, "e", PROOF)]))

    for at in range(len(whole)):
        for byte in b'09eE-."{}[],:x\n\\':
            with contextlib.suppress(Damaged):
                from_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :], path="m")


def test_the_digest_is_sha256():
    """The digest that binds a seal to a manifest is the SHA-256 of its bytes."""
    assert hashlib.sha256(b"x").hexdigest() == digest(b"x")


# counting


def test_splits_are_first_folders():
    """Files count to their first folder, files at the root to "."; NPZ files are counted apart."""
    made = Manifest.of(
        [
            Entry("train/a.npz", 5, "e"),
            Entry("train/deep/b.npz", 7, "e"),
            Entry("train/manifest.json", 1, "e"),
            Entry("dev/a.npz", 2, "e"),
            Entry("index.json", 3, "e"),
        ]
    )

    assert {"train": SplitCount(3, 2, 13), "dev": SplitCount(1, 1, 2), ".": SplitCount(1, 0, 3)} == made.splits()
    assert (5, 18) == (len(made), made.bytes)


@given(manifests)
def test_splits_add_up(made: Manifest):
    """Files and bytes of all splits together are those of the manifest."""
    counts = made.splits().values()

    assert (len(made), made.bytes) == (sum(c.files for c in counts), sum(c.bytes for c in counts))


# keys


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("../x", "leave"),
        ("a/../../x", "leave"),
        ("a/..", "leave"),
        ("a//b", "empty"),
        ("a/", "empty"),
        ("", "empty"),
        ("a/./b", "empty or '.'"),
        (".", "empty or '.'"),
        ("a\0b", "NUL"),
        ("x" * 256, "255 bytes"),
        ("train/" + "ä" * 128, "255 bytes"),
        ("a\ud800b", "Unicode"),
    ],
)
def test_a_key_that_is_no_file_below_the_root_is_refused(key: str, reason: str):
    """A key that would lie elsewhere, nowhere, or under another name is refused, named, with the reason."""
    with pytest.raises(UnsafeKey, match=re.escape(reason)) as caught:
        check_keys(manifest("ok", key))

    assert repr(key) in str(caught.value)
    assert (5, True) == (caught.value.exit_code, "--exclude" in caught.value.hint)


@pytest.mark.parametrize(
    "keys",
    [
        ("train", "train/a"),
        ("a/b", "a/b/c/d"),
        ("a", "a/b/c"),
        ("a-", "a", "a/b"),  # "-" sorts between a name and what lies below it
    ],
)
@pytest.mark.parametrize("folds_case", [False, True])
def test_a_key_cannot_be_file_and_directory(keys: tuple[str, ...], folds_case: bool):
    """Keys of which one is a folder of another are refused, both named."""
    with pytest.raises(UnsafeKey, match="is also a directory"):
        check_keys(manifest(*keys), folds_case=folds_case)


@pytest.mark.parametrize("keys", [("a", "A"), ("train/ä", "train/Ä"), ("ß", "SS"), ("A/b", "a/B"), ("A", "a/b")])
def test_keys_that_fold_into_one_are_refused_where_case_is_ignored(keys: tuple[str, ...]):
    """On a target that ignores case, keys that would be one file, or file and directory, are refused."""
    with pytest.raises(UnsafeKey):
        check_keys(manifest(*keys), folds_case=True)

    check_keys(manifest(*keys), folds_case=False)


@pytest.mark.parametrize("folds_case", [False, True])
def test_ordinary_keys_are_accepted(folds_case: bool):
    """Keys that can lie beside each other pass, odd as they may look."""
    good = ["a", "a.b", "ab", "b/c", "b/c.d", "b-c", "...", "..a", "a..", ".hidden", "x" * 255, " ", "-rf", "~", "*"]
    good += ["new\nline", "\x7f", "é", "e\u0301", "back\\slash", "d/" * 100 + "deep", "C:", "con", "%2e%2e"]

    check_keys(manifest(*good), folds_case=folds_case)


@given(st.lists(st.text("ab./\0", min_size=1, max_size=6), unique=True, max_size=4))
def test_accepted_keys_are_distinct_paths_below_the_root(keys: list[str]):
    """What passes the check can be created as files, each with its own path below the root."""
    try:
        check_keys(manifest(*keys))
    except UnsafeKey:
        return
    paths = {tuple(key.split("/")) for key in keys}
    assert len(keys) == len(paths)
    assert not any(part in {"", ".", ".."} or "\0" in part for path in paths for part in path)
    assert not any(path[:cut] in paths for path in paths for cut in range(1, len(path)))


@given(
    st.text("ab./\0\ud800\U0001f9e0", max_size=6) | st.sampled_from("aä\U0001f9e0").map(lambda char: f"d/{char * 64}")
)
def test_a_quick_look_at_a_key_is_as_strict_as_a_close_one(key: str):
    """A listing of one key is refused exactly if the key is."""
    outcomes = []
    for check in (lambda: check_key(key), lambda: check_keys(Manifest.of([Entry(key, 1, "e")]))):
        try:
            outcomes.append(check())
        except UnsafeKey as error:
            outcomes.append(str(error))

    assert outcomes[0] == outcomes[1]


def test_a_hundred_thousand_entries_are_no_burden():
    """A manifest of 100,000 entries is made, checked, written and read back whole."""
    made = Manifest.of(Entry(f"train/{i % 97:02d}/{i:06d}.npz", i, "e", PROOF) for i in reversed(range(100_000)))
    check_keys(made, folds_case=True)

    assert made == from_bytes(to_bytes(made), path="m")
    assert 100_000 == made.splits()["train"].npz
