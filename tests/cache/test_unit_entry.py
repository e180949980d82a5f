"""What keys must be: ours or the source's, a file or a folder drawn by a console, and safe below any root."""

from dataclasses import FrozenInstanceError
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.entry import LEVELS, META, Entry, check_key, is_directory_marker, is_ours, parents
from tusz_cache.errors import UnsafeKey
from tusz_cache.tusz import Recording, parse_name, split_of


@pytest.mark.parametrize(
    ("key", "size", "marker"),
    [
        ("train/", 0, True),
        ("a/b/", 0, True),
        ("", 0, True),  # the folder that is the prefix itself
        ("train/", 1, False),  # has content, so it is no folder: it is refused as a key
        ("train", 0, False),
        ("train/empty.npz", 0, False),
    ],
)
def test_folders_drawn_by_a_console_are_told_from_files(key: str, size: int, marker: bool):
    """A directory marker is an empty object whose key ends in a slash, or is empty; an empty file is a file."""
    assert marker == is_directory_marker(key, size)


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        (META, True),
        (f"{META}/seal.json", True),
        (f"{META}/partial/x", True),
        (f"{META}2", False),
        (f"{META}.bak/x", False),
        (f"train/{META}/x", False),  # not at the root, so it is a file like any other
        ("tusz_cache/x", False),
    ],
)
def test_only_our_own_directory_is_ours(key: str, ours: bool):
    """Keys in our own directory at the root are ours, all others are the source's."""
    assert ours == is_ours(key)


@pytest.mark.parametrize("length", [254, 255])
def test_a_name_may_be_as_long_as_a_file_system_takes(length: int):
    """A component of up to 255 bytes passes."""
    check_key("x" * length)
    check_key("/".join(["x" * length] * 3))


@pytest.mark.parametrize("name", ["x" * 256, "ä" * 128, "\U0001f9e0" * 64])
def test_a_name_is_measured_in_bytes(name: str):
    """A component of more than 255 bytes in UTF-8 is refused wherever it stands."""
    for key in (name, f"a/{name}", f"{name}/a"):
        with pytest.raises(UnsafeKey, match="longer than 255 bytes"):
            check_key(key)


@given(st.text(st.sampled_from("a./\0ä\ud800"), max_size=8))
def test_a_key_is_either_safe_or_refused(key: str):
    """A key passes exactly if each of its components is a name, and anything else raises UnsafeKey."""
    components = key.split("/")
    safe = not {"", ".", ".."} & set(components) and "\0" not in key and "\ud800" not in key
    try:
        check_key(key)
    except UnsafeKey:
        assert not safe
    else:
        assert safe


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5))
def test_parents_are_nearest_first(components: list[str]):
    """The directories above a key are named from the nearest to the topmost, without the root."""
    expected = ["/".join(components[:cut]) for cut in range(len(components) - 1, 0, -1)]

    assert tuple(expected) == parents("/".join(components))
    assert all(PurePosixPath("/".join(components)).is_relative_to(parent) for parent in expected)


def test_an_entry_is_a_value():
    """Entries with equal fields are equal, and cannot be changed."""
    entry = Entry("a", 1, "e")

    assert Entry("a", 1, "e") == entry
    assert Entry("a", 1, "f") != entry
    with pytest.raises(FrozenInstanceError):
        entry.size = 2


def test_levels_are_named_best_first():
    """The levels of verification are those of the contract, in its order."""
    assert ("source-crc", "etag-md5", "etag-parts", "own-crc") == LEVELS


# the corpus


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("aaaaaaac_s001_t000_windows.npz", Recording("aaaaaaac", "s001", "t000")),
        ("00000258_s12_t3_windows.npz", Recording("00000258", "s12", "t3")),
        ("aaaaaaac_s001_t000_windows.npz.tmp", None),
        ("aaaaaaac_s001_t000.npz", None),
        ("a_b_s001_t000_windows.npz", None),
        ("train/aaaaaaac_s001_t000_windows.npz", None),
        ("aaaaaaac_s_t000_windows.npz", None),
        ("ääääääää_s001_t000_windows.npz", None),
        ("aaaaaaac_s001_t000_windows.npz\n", None),
    ],
)
def test_a_file_name_tells_its_recording(name: str, recording: Recording | None):
    """A cache file's name gives patient, session and token; any other name gives nothing."""
    assert recording == parse_name(name)
    if recording:
        assert name == recording.cache_file


@pytest.mark.parametrize(("key", "split"), [("train/a", "train"), ("train/b/c", "train"), ("a", "."), ("dev/", "dev")])
def test_the_split_is_the_first_folder(key: str, split: str):
    """A key belongs to the split that its first folder names, at the root to "."."""
    assert split == split_of(key)
