"""How recordings become blocks, where they lie, and what an index may claim: pure functions and small files."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recordings import BLOCK, CHANNELS, WINDOW, name_of, recording, same_bits, sliced
from tusz_cache.durability import Durability
from tusz_cache.errors import Damaged
from tusz_cache.packing.blocks import SCALE, as_blocks, blocks_in, crc_of, quantised
from tusz_cache.packing.folding import fold
from tusz_cache.packing.growing import GrowingArray
from tusz_cache.packing.index import Index, PackedRecording, Shard, from_bytes, own_labels_file, shard_files, to_bytes
from tusz_cache.packing.rows import BYTE, FLOAT, HEADER, Directory, header, open_rows
from tusz_cache.packing.splitting import in_store_order
from tusz_cache.ssd import Target, prepare

# folding


@given(windows=st.integers(0, 5), step=st.integers(1, 6), seed=st.integers(0, 3))
def test_windows_that_are_slices_fold_to_what_they_were_sliced_from(windows: int, step: int, seed: int):
    """The blocks of windows cut every `step` blocks are the recording itself, in as few blocks as it has."""
    arrays = recording(windows, step, seed=seed)
    folded = fold(lambda: iter(arrays["windows"]), windows, arrays["labels"])

    assert (windows, step if windows > 1 else 1) == (folded.windows, folded.step)
    assert blocks_in(windows, folded.step) == len(folded.blocks_KCS)
    x_CT = folded.blocks_KCS.transpose(1, 0, 2).reshape(CHANNELS, -1)
    assert same_bits(arrays["windows"], sliced(x_CT, windows, folded.step))
    assert folded.labels_KS is not None
    assert np.uint8 == folded.labels_KS.dtype


def test_the_memory_of_a_window_may_be_reused():
    """Folding copies each window before it asks for the next one."""
    arrays = recording(4)
    row = np.empty((CHANNELS, WINDOW), np.float32)

    def rows() -> "object":
        for window in arrays["windows"]:
            row[...] = window
            yield row

    folded = fold(rows, 4, None)
    assert (1, None) == (folded.step, folded.labels_KS)
    assert same_bits(as_blocks(arrays["windows"][3]).copy(), folded.blocks_KCS[3:9])


def test_one_bit_keeps_windows_apart():
    """Neighbours that differ in a single sign of zero do not share their samples."""
    windows = recording(2)["windows"]
    windows[:, :, ::2] = 0
    windows[1, 5, 2] = -0.0

    assert 6 == fold(lambda: iter(windows), 2, None).step


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=50))
def test_int16_errs_by_half_a_step_at_most(values: list[float]):
    """Within +-10 no sample is off by more than half a step and what float32 rounds."""
    x = np.array(values, np.float32)
    restored = quantised(x) * np.float32(SCALE)

    assert np.abs(restored.astype(np.float64) - x).max() <= SCALE / 2 + 1e-6


def test_the_order_of_a_store_mixes_patients():
    """Recordings lie in an order that names, not their order, decide, and neighbours are of other patients."""
    names = [f"aaaaaa{patient:02d}_s{session:03d}_t000_windows.npz" for patient in range(20) for session in range(5)]
    order = in_store_order(names)

    assert in_store_order(reversed(names)) == order
    assert sorted(order) == names
    assert 50 < sum(one[:8] != other[:8] for one, other in itertools.pairwise(order))


# files


@pytest.fixture
def place(tmp_path: Path) -> Target:
    made = Target(tmp_path / "store", Durability("none"))
    prepare(made)
    return made


def test_an_array_that_grew_is_one_that_numpy_reads(place: Target):
    """Rows added one by one, and gone on with after a stop, are a `.npy` file that begins on a page."""
    rows = np.arange(5 * BLOCK, dtype=np.float32).reshape(5, BLOCK)
    first = GrowingArray(place, "train/a.npy", (BLOCK,), FLOAT)
    crcs = [first.add(rows[:2]), first.add(rows[2:3])]
    first.close()
    again = GrowingArray(place, "train/a.npy", (BLOCK,), FLOAT)
    assert again.holds(2, crcs[0])
    again.keep(2, crcs[0])
    assert not again.holds(1, crcs[0])
    again.add(rows[2:])
    crc = again.complete()

    assert crc_of(np.fromfile(again.path, np.uint8)) == crc
    assert same_bits(rows, np.load(again.path))
    assert 0 == HEADER % 4096


def test_what_was_written_is_read_back(place: Target):
    """Bytes that the disk gives back otherwise than they were written never get a name."""
    array = GrowingArray(place, "train/a.npy", (BLOCK,), BYTE)
    array.add(np.zeros((2, BLOCK), np.uint8))
    with array.path.open("r+b") as file:
        file.seek(HEADER + 5)
        file.write(b"x")

    with pytest.raises(Damaged, match="does not give back"):
        array.complete()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda good: good[:-1],
        lambda good: good + b"x",
        lambda good: b"",
        lambda good: header((2, BLOCK), BYTE) + good[HEADER:],
        lambda good: b"\x93NUMPZ" + good[6:],
        lambda good: good[:100] + b"x" + good[101:],
    ],
)
@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_a_file_of_another_form_is_not_opened(tmp_path: Path, wrong: Callable[[bytes], bytes], backend: str):
    """Another length, type, shape or a byte of the header changed: Damaged that names the file."""
    good = header((3, BLOCK), BYTE) + bytes(3 * BLOCK)
    (tmp_path / "a.npy").write_bytes(good)
    assert 3 == len(open_rows(Directory(tmp_path), "a.npy", (3, BLOCK), BYTE, backend).get(0, 3))
    (tmp_path / "a.npy").write_bytes(wrong(good))

    with pytest.raises(Damaged, match=r"a\.npy"):
        open_rows(Directory(tmp_path), "a.npy", (3, BLOCK), BYTE, backend)


# the index

ROW = PackedRecording(name_of(0), 0, 0, 2, 1, "uint8", 1, 2)
INDEX = Index(
    split="train",
    dtype="float32",
    scale=None,
    max_error=0.0,
    cache_manifest_sha256="0" * 64,
    shards=(Shard(*shard_files(0), 7),),
    recordings=(ROW,),
)


def test_a_recording_without_windows_lies_anywhere():
    """Recordings of no blocks, before, behind and where another one begins, are no contradiction."""
    empty = dataclasses.replace(ROW, windows=0, label_crc=0, crc=0)
    rows = (ROW, *(dataclasses.replace(empty, cache_file=name_of(1 + n), first=at) for n, at in enumerate((0, 7, 7))))
    index = dataclasses.replace(INDEX, recordings=rows)

    assert index == from_bytes(to_bytes(index), path="index.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 1},
        {"shard": 1},
        {"windows": 3},
        {"step": 0},
        {"step": 7},
        {"labels": "other.npy"},
        {"cache_file": "../" + name_of(0)},
        {"windows": 1 << 41},
        {"windows": True},
    ],
)
def test_an_index_that_contradicts_itself_is_refused(changes: dict[str, object]):
    """Places, counts and names that do not fit each other are Damaged, also under a right checksum."""
    index = dataclasses.replace(INDEX, recordings=(dataclasses.replace(ROW, **changes),))

    with pytest.raises(Damaged, match=r"index\.json"):
        from_bytes(to_bytes(index), path="index.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "int16"},
        {"scale": 0.5},
        {"max_error": -1.0},
        {"recordings": (ROW, ROW)},
        {"shards": ()},
        {"shards": (Shard("../a.npy", "labels-00000.npy", 7),)},
        {"shards": (Shard(*shard_files(0), 8),)},
        {"split": None},
    ],
)
def test_a_head_that_makes_no_sense_is_refused(changes: dict[str, object]):
    """Likewise for what an index says of the whole."""
    with pytest.raises(Damaged, match=r"index\.json"):
        from_bytes(to_bytes(dataclasses.replace(INDEX, **changes)), path="index.json")


def test_labels_of_their_own_lie_beside_the_shards():
    """The file of labels that are no bytes bears the recording's name, and no other's."""
    assert "ab_s001_t000_windows.labels.npy" == own_labels_file("ab_s001_t000_windows.npz")
