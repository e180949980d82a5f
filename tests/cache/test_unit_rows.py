"""Rows of arrays in `.npy` files: both ways to read give the same bits, wherever they go, told of before or not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_cache.packing.rows import FLOAT, Backend, Directory, Rows, header, open_rows

SHAPE = (9, 3, 40)  # blocks, channels, samples
ARRAY = np.arange(np.prod(SHAPE), dtype=FLOAT).reshape(SHAPE)

both = pytest.mark.parametrize("backend", ["mmap", "pread"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the array."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "a.npy").write_bytes(header(SHAPE, FLOAT) + ARRAY.tobytes())
    return folder


def opened(place: Path, backend: Backend) -> Rows:
    return open_rows(Directory(place), "a.npy", SHAPE, FLOAT, backend)


@both
@given(axes=st.permutations([0, 1]), first=st.integers(0, 8), data=st.data())
def test_rows_go_where_they_are_wanted(
    place: Path, backend: Backend, axes: list[int], first: int, data: st.DataObject
) -> None:
    """Rows are copied bit for bit into any array whose last axis is contiguous."""
    count = data.draw(st.integers(1, SHAPE[0] - first))
    memory = np.full([(count, *SHAPE[1:])[axis] for axis in (*axes, 2)], np.nan, FLOAT)
    opened(place, backend).read(first, memory.transpose(*np.argsort(axes), 2))
    assert np.array_equal(ARRAY[first : first + count].transpose(*axes, 2), memory)


@both
def test_what_is_advised_reads_the_same(place: Path, backend: Backend) -> None:
    """Telling the kernel of rows, also of some behind the end, changes nothing that is read."""
    rows = opened(place, backend)
    rows.advise(2, 5)
    rows.advise(8, 5)
    assert np.array_equal(ARRAY, rows.get(0, SHAPE[0]))
