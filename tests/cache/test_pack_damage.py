"""What a damaged store must do: say which recording and file, and never give wrong bytes once it was verified."""

import contextlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.caches import seal_cache
from tests.support.recordings import Window, as_numpy_has_it, name_of, recording, same_bits, write_split
from tests.support.running import run
from tusz_cache import WindowStore, open_store, pack_cache
from tusz_cache.errors import Damaged, UsageError
from tusz_cache.packing import splitting
from tusz_cache.packing.index import from_bytes, stamped, to_bytes

OWN = name_of(2)  # its labels are no whole numbers: they have a file of their own


@pytest.fixture(scope="module")
def workspace(ground: Path) -> Path:
    """Return a place with a cache and its store in several shards."""
    root = ground / "damage"
    made = {name_of(number): recording(number % 3 + 1, seed=number) for number in range(5)}
    made |= {name_of(number): recording(3, seed=number) for number in (6, 7)}  # at least two shards of one size
    made[OWN]["labels"] = made[OWN]["labels"] * np.float32(0.5)
    del made[name_of(3)]["labels"]
    made[name_of(5)] = recording(0)
    write_split(root / "cache", "train", made)
    seal_cache(root / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "SHARD_BYTES", 1_000_000)
        pack_cache(root / "cache", root / "store")
    return root


@pytest.fixture(scope="module")
def truth(workspace: Path) -> list[Window]:
    return as_numpy_has_it(workspace / "cache", "train")


@pytest.fixture
def store(workspace: Path, room: Path) -> Path:
    """Return a store that may be damaged."""
    return Path(shutil.copytree(workspace / "store", room / "store"))


def files(store: Path) -> list[Path]:
    return sorted((store / "train").glob("*.npy"))


def read_all(opened: WindowStore, truth: list[Window]) -> list[str]:
    """Return the files of windows that came out wrong. Raises what reading raises."""
    found = zip(truth, opened, strict=True)
    return [
        window.cache_file
        for window, (x_CT, y_T) in found
        if not (same_bits(window.window, x_CT) and same_bits(window.labels, y_T))
    ]


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_a_flipped_byte_is_found_by_verify(store: Path, truth: list[Window], backend: Any):
    """Wherever a bit of a shard or of labels is flipped, `verify` names its recording, or says which file is wrong."""
    chance = random.Random(5)
    for path in files(store):
        good = path.read_bytes()
        for _ in range(6):
            bad = bytearray(good)
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            path.write_bytes(bad)
            opened = open_store(store, "train", backend=backend)
            try:
                named = opened.verify()
            except Damaged as error:
                assert path.name in str(error)
                assert error.hint
            else:
                assert 1 == len(named) or is_filler(path, good, bad)
                assert set(read_all(opened, truth)) <= set(named)
        path.write_bytes(good)
    assert () == open_store(store, "train", backend=backend).verify()


def is_filler(path: Path, good: bytes, bad: bytes) -> bool:
    """Whether the flipped byte stands for labels that are not there."""
    at = next(number for number, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other)
    return path.name.startswith("labels-") and good[at] == splitting.NO_LABEL


@pytest.mark.parametrize("backend", ["mmap", "pread"])
@pytest.mark.parametrize("how", ["cut", "longer", "gone", "empty", "folder"])
def test_a_file_of_another_size_is_named(store: Path, truth: list[Window], how: str, backend: Any):
    """A shard or label file that was cut, grew, or is not there: reading its recordings is Damaged, naming both."""
    for path in files(store):
        good = path.read_bytes()
        path.unlink()
        if how in {"cut", "longer", "empty"}:
            path.write_bytes({"cut": good[:-1], "longer": good + b"\0", "empty": b""}[how])
        elif how == "folder":
            path.mkdir()
        opened = open_store(store, "train", backend=backend)
        with pytest.raises(Damaged, match=r"recording \w+\.npz of train") as raised:
            read_all(opened, truth)
        assert path.name in str(raised.value)
        assert raised.value.hint
        with pytest.raises(Damaged, match=path.name):
            opened.verify()
        if how == "folder":
            path.rmdir()
        path.write_bytes(good)


def test_a_file_that_shrinks_while_it_is_read_is_named(store: Path):
    """With pread a shard that becomes shorter under an open store is Damaged, not a crash."""
    opened = open_store(store, "train", backend="pread")
    _ = opened[0]
    for path in files(store):
        path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(Damaged, match="ends early"):
        for i in range(len(opened)):
            _ = opened[i]


def test_swapped_shards_are_found(workspace: Path, store: Path, truth: list[Window]):
    """Two shards of equal size in each other's place are found by `verify`, recording by recording."""
    rows = open_store(store, "train").index.shards
    sized: dict[int, list[str]] = {}
    for shard in rows:
        sized.setdefault(shard.blocks, []).append(shard.file)
    one, other = next((names[0], names[1]) for names in sized.values() if len(names) > 1)
    train = store / "train"
    (train / one).rename(train / "aside")
    (train / other).rename(train / one)
    (train / "aside").rename(train / other)
    opened = open_store(store, "train")

    named = opened.verify()
    assert set(read_all(opened, truth)) == set(named) != set()


def test_an_index_is_read_as_it_was_written(store: Path):
    """Reading `index.json` and writing it again gives the same bytes."""
    data = (store / "train" / "index.json").read_bytes()

    assert data == to_bytes(from_bytes(data, path="index.json"))


def paths_in(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value of a JSON document."""
    yield before
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths_in(value[key], (*before, key))


odd_values = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 6, 7, 1 << 31, 1 << 63, -(1 << 63), 10**18, 0.5, 1e308, [], {}]),
    st.sampled_from(["", "uint8", "int16", "float32", "../../etc/passwd", "/etc/passwd", "a\0b", "AAAAAAAAAAA="]),
    st.integers(-10, 50),
    st.text(max_size=5),
)


def edit(document: Any, data: st.DataObject) -> None:
    """Change or remove a value or two of a JSON document."""
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([path for path in paths_in(document) if path]))
        holder = document
        for key in way:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[last] = data.draw(odd_values)
        else:
            del holder[last]


@contextlib.contextmanager
def with_index(ground: Path, workspace: Path, index: bytes) -> Iterator[Path]:
    """Yield the store with another index, its shards linked."""
    with tempfile.TemporaryDirectory(dir=ground) as directory:
        root = Path(directory)
        (root / "train").mkdir()
        for path in files(workspace / "store"):
            (root / "train" / path.name).symlink_to(path)
        (root / "train" / "index.json").write_bytes(index)
        yield root


def index_of(workspace: Path) -> bytes:
    return (workspace / "store" / "train" / "index.json").read_bytes()


@settings(max_examples=100)
@given(data=st.data())
def test_an_index_that_was_edited_is_said_to_be(ground: Path, workspace: Path, data: st.DataObject):
    """Any value of index.json that was changed or removed makes opening the store fail, naming the file."""
    document = json.loads(index_of(workspace))
    edit(document, data)
    text = json.dumps(document, ensure_ascii=False).encode()
    assume(json.loads(text) != json.loads(index_of(workspace)))
    with with_index(ground, workspace, text) as root, pytest.raises(Damaged, match=r"index\.json") as raised:
        open_store(root, "train")
    assert "pack the cache again" in raised.value.hint


@settings(max_examples=150)
@given(data=st.data())
def test_an_index_of_changed_bytes_is_said_to_be(
    ground: Path, workspace: Path, truth: list[Window], data: st.DataObject
):
    """Likewise with bytes of index.json changed, or its end cut off; where only the layout changed, all is right."""
    text = bytearray(index_of(workspace))
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(text), len(text), data.draw(st.integers(0, len(text)))]))
    with with_index(ground, workspace, bytes(text[:cut])) as root:
        try:
            opened = open_store(root, "train")
        except Damaged as error:
            assert "index.json" in str(error)
        else:
            assert [] == read_all(opened, truth)


@settings(max_examples=250)
@given(data=st.data())
def test_an_index_that_makes_no_sense_crashes_nothing(ground: Path, workspace: Path, data: st.DataObject):
    """An index whose checksum fits, but whose values are anything, is read or refused as damaged."""
    document = json.loads(index_of(workspace))
    del document["crc64nvme"]
    edit(document, data)
    try:
        text = stamped(document)
    except TypeError:  # no JSON of ours has such a number
        assume(False)
    with with_index(ground, workspace, text) as root:
        try:
            opened = open_store(root, "train", backend="pread")
            opened.verify()
            for i in range(len(opened)):
                _ = opened[i]
        except (Damaged, UsageError) as error:
            assert error.hint


@pytest.mark.parametrize("name", ["shard-00000.npy", "labels-00000.npy", "index.json"])
def test_packing_again_mends_what_lies_under_old_times(room: Path, name: str):
    """A byte that flipped under an old time is found by packing again, made anew, and nothing is called read before."""
    cache, store = room / "cache", room / "store"
    write_split(cache, "train", {name_of(0): recording(2, seed=0)})
    seal_cache(cache)
    pack_cache(cache, store)
    path = store / "train" / name
    times, data = path.stat(), bytearray(path.read_bytes())
    whole = bytes(data)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert 7 == run("verify", store, "--level", "full").code
    assert pack_cache(cache, store).packed
    assert whole == path.read_bytes()
    assert 0 == run("verify", store, "--level", "full").code
