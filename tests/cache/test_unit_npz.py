"""What reading NPZ files must be: numpy.load's values for good files, else a clear error within bounded memory."""

import io
import os
import struct
import subprocess
import sys
import textwrap
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.running import environment
from tusz_cache import read_windows
from tusz_cache.errors import BadRecording, TargetError, UsageError
from tusz_cache.packing.npz import check_windows, open_npz
from tusz_cache.packing.zipped import Source, pieces, read_directory
from tusz_cache.synth import SIZES, write_cache, write_npz

N = 2
RNG = np.random.default_rng(0)
WINDOWS = RNG.standard_normal((N, 19, 15360)).astype(np.float32)
LABELS = (RNG.random((N, 15360)) > 0.5).astype(np.float32)
SMALL = np.arange(60, dtype=np.float32).reshape(3, 20)


def npy(array: np.ndarray, *, header: bytes | None = None, version: tuple[int, int] | None = None) -> bytes:
    """Return an array as a `.npy` file, with another header or header version if given."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, that only new versions read it
        np.lib.format.write_array(out, array, version=version, allow_pickle=True)
    if header is None:
        return out.getvalue()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.tobytes()


def header_of(shape: object = (3, 20), descr: object = "<f4", fortran: object = False) -> bytes:
    return repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode() + b"\n"


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    """Return a ZIP file of members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return bytearray(out.getvalue())


def one(data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    return zipped({"a.npy": data}, method)


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def all_of(path: Path) -> dict[str, np.ndarray]:
    with open_npz(path) as npz:
        return {name: npz.read(member) for name, member in npz.members.items()}


def same(expected: np.ndarray, actual: np.ndarray) -> bool:
    """Whether two arrays have the same type, shape and bytes in the machine's order."""
    native = expected.dtype.newbyteorder("=")
    alike = (expected.shape, native) == (actual.shape, actual.dtype)
    return alike and expected.astype(native).tobytes() == actual.tobytes()


def as_numpy(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def agrees(path: Path) -> bool:
    """Whether all arrays are as numpy has them."""
    expected, actual = as_numpy(path), all_of(path)
    return expected.keys() == actual.keys() and all(same(expected[name], actual[name]) for name in expected)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("npz") / "aaaaaaac_s001_t000_windows.npz"
    np.savez_compressed(path, windows=WINDOWS, labels=LABELS)
    return path


# good files


def test_a_synthetic_cache_reads_as_numpy_reads_it(tmp_path: Path):
    """Every kind of recording, without windows or labels too, has numpy.load's values bit for bit."""
    write_cache(tmp_path, SIZES["tiny"])
    kinds = set()

    for path in sorted(tmp_path.rglob("*.npz")):
        expected = as_numpy(path)
        windows, labels = read_windows(path)
        assert same(expected["windows"], windows)
        assert (labels is None) == ("labels" not in expected)
        assert labels is None or same(expected["labels"], labels)
        kinds.add((len(windows) > 0, labels is not None))

    assert {(True, True), (False, True), (True, False)} == kinds


@pytest.mark.parametrize("level", [0, 1, 6])
def test_stored_and_deflated_members_read_the_same(tmp_path: Path, level: int):
    """The method and level of compression change nothing."""
    write_npz(tmp_path / "a.npz", WINDOWS, LABELS, level=level)
    windows, labels = read_windows(tmp_path / "a.npz")

    assert same(WINDOWS, windows)
    assert labels is not None
    assert same(LABELS, labels)


@settings(max_examples=60)
@given(
    array=st.one_of(
        [
            hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=8))
            for dtype in ("<f4", ">f4", "<f8", ">f2", "|b1", "<i2", ">u8", "|i1")
        ]
    ),
    fortran=st.booleans(),
    compressed=st.booleans(),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_any_plain_array_reads_as_numpy_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray,
    fortran: bool,
    compressed: bool,
    version: tuple[int, int],
):
    """Number types, byte orders, Fortran order, header versions, empty axes and scalars: values are numpy's."""
    data = npy(np.asfortranarray(array) if fortran else array, version=version)
    path = saved(
        tmp_path_factory.getbasetemp() / "any.npz",
        one(data, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED),
    )

    assert agrees(path)


@settings(max_examples=200)
@given(
    parts=st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.integers(1, 300)), max_size=5),
    level=st.sampled_from([0, 1, 6, 9]),
    at_once=st.integers(1, 5000),
)
def test_any_member_in_any_pieces_is_whole(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, int]], level: int, at_once: int
):
    """However few bytes are read and inflated at once, together they are the member."""
    data = b"".join(part * times for part, times in parts)
    path = tmp_path_factory.getbasetemp() / "pieces.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("a", data)
    with io.FileIO(path) as file:
        source = Source(file, path.stat().st_size, "a.npz")
        found = list(pieces(source, read_directory(source)["a"], at_once=at_once))

    assert data == b"".join(found)
    assert set() == {size for size in map(len, found) if not 0 < size <= at_once}


def test_a_descriptor_and_an_opener_will_do(recording: Path):
    """No path is needed; a descriptor stays open at its position, and what an opener gave is closed."""
    opened = []

    def opener() -> int:
        opened.append(os.open(recording, os.O_RDONLY))
        return opened[-1]

    descriptor = opener()
    assert same(WINDOWS, read_windows(descriptor)[0])
    assert same(WINDOWS, read_windows(opener)[0])

    assert 0 == os.lseek(descriptor, 0, os.SEEK_CUR)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[1])


def test_headers_tell_what_is_there_without_the_data(recording: Path):
    """Names, shapes and sizes are known from a file whose data is gone, all but the first bytes."""
    data = bytearray(recording.read_bytes())
    data[100_000:1_000_000] = bytes(900_000)
    with open_npz(recording) as whole, open_npz(saved(recording.with_name("holed.npz"), data)) as holed:
        windows, labels = check_windows(holed)

        assert dict(whole.members) == dict(holed.members)
        assert labels is not None
        assert (WINDOWS.shape, WINDOWS.nbytes, False) == (windows.shape, windows.size, windows.stored)
        assert (LABELS.shape, np.dtype(np.float32)) == (labels.shape, labels.dtype)


def test_an_array_is_read_into_the_one_given(recording: Path):
    """With `out` nothing else is made."""
    out = np.empty((N, 19, 15360), np.float32)
    with open_npz(recording) as npz:
        assert npz.read(npz.members["windows"], out) is out

    assert same(WINDOWS, out)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((N, 19, 15361), np.float32),
        np.empty((N, 19, 15360), np.float64),
        np.empty((N, 19, 15360), np.float32, order="F"),
        np.broadcast_to(np.float32(0), (N, 19, 15360)),
    ],
)
def test_an_array_that_does_not_fit_is_refused(recording: Path, out: np.ndarray):
    """Another shape, type or order, or a read-only array, is never written to."""
    with open_npz(recording) as npz, pytest.raises(UsageError):
        npz.read(npz.members["windows"], out)


@pytest.mark.parametrize("array", [SMALL, np.asfortranarray(SMALL), SMALL.astype(">f4"), SMALL[:0]])
def test_a_stored_array_can_be_mapped(tmp_path: Path, array: np.ndarray):
    """A mapped array has the file's values, cannot be written, and outlives the NPZ."""
    with open_npz(
        saved(tmp_path / "a.npz", zipped({"x": b"odd", "a.npy": npy(array)}, zipfile.ZIP_STORED)), wanted=["a"]
    ) as npz:
        mapped = npz.map(npz.members["a"])

    assert np.array_equal(array, mapped)
    assert not mapped.flags.writeable


def test_an_array_that_went_away_cannot_be_mapped(tmp_path: Path):
    """A file that has become shorter is refused where that is seen."""
    with open_npz(saved(tmp_path / "a.npz", one(npy(WINDOWS), zipfile.ZIP_STORED))) as npz:
        os.truncate(tmp_path / "a.npz", 100_000)
        with pytest.raises(BadRecording, match="ends"):
            npz.map(npz.members["a"])


def test_a_deflated_array_cannot_be_mapped(recording: Path):
    """There is nothing to map."""
    with open_npz(recording) as npz, pytest.raises(UsageError):
        npz.map(npz.members["windows"])


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2", "|u1", "|b1"])
def test_other_number_types_become_float32(tmp_path: Path, dtype: str):
    """Labels of any type that float32 holds exactly are taken."""
    np.savez_compressed(tmp_path / "a.npz", windows=WINDOWS.astype("<f8"), labels=LABELS.astype(dtype))
    windows, labels = read_windows(tmp_path / "a.npz")

    assert same(WINDOWS, windows)
    assert labels is not None
    assert same(LABELS, labels)


def test_other_members_may_be_anything(tmp_path: Path):
    """What nobody asked for, objects too, does not keep windows from being read."""
    np.savez(tmp_path / "a.npz", windows=WINDOWS[:0], labels=LABELS[:0], names=np.array([{}], object))

    assert (0, 19, 15360) == read_windows(tmp_path / "a.npz")[0].shape
    with pytest.raises(BadRecording, match="names"):
        open_npz(tmp_path / "a.npz")


def test_comments_and_zip64_are_read(tmp_path: Path):
    """A comment on the file, and 64-bit fields, are no obstacle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = b"made by hand " * 1000
        with archive.open("a.npy", "w", force_zip64=True) as member:
            member.write(npy(SMALL))

    assert agrees(saved(tmp_path / "a.npz", out.getvalue()))


def test_data_descriptors_are_read(tmp_path: Path):
    """A file that was written to a pipe, with lengths behind the members, is read by its directory."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *where: int) -> int:
            raise io.UnsupportedOperation

        tell = seek

    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(SMALL))
        archive.writestr("b.npy", npy(SMALL + 1))
        assert {8} == {info.flag_bits & 8 for info in archive.infolist()}

    assert agrees(saved(tmp_path / "a.npz", out.getvalue()))


# bad files


def set_field(data: bytearray, name: str, value: int, *, local: bool = True) -> bytearray:
    """Change a field of the first member, in the directory and, unless told otherwise, in its own header."""
    directory, header, form = {
        "flags": (8, 6, "<H"),
        "method": (10, 8, "<H"),
        "crc": (16, 14, "<I"),
        "packed": (20, 18, "<I"),
        "size": (24, 22, "<I"),
        "disk": (34, None, "<H"),
        "offset": (42, None, "<I"),
    }[name]
    struct.pack_into(form, data, data.index(b"PK\x01\x02") + directory, value)
    if local and header is not None:
        struct.pack_into(form, data, header, value)
    return data


def flipped(data: bytearray, at: int) -> bytearray:
    data[at] ^= 1
    return data


def doubled() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a.npy", npy(SMALL))
            archive.writestr("a.npy", npy(SMALL))
    return out.getvalue()


def overlapping() -> bytearray:
    """Return a file whose second member is the first one's bytes."""
    data = zipped({"a.npy": npy(SMALL), "b.npy": npy(SMALL)}, zipfile.ZIP_STORED)
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 42, 0)
    return data


def deflated(data: bytes, size: int) -> bytearray:
    """Return a file whose member inflates to `data`, but is said to have `size` bytes."""
    return set_field(one(data), "size", size)


OBJECTS = npy(np.array([{}], object))
BAD: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no zip": lambda: b"PK\x03\x04" + bytes(1000),
    "npy": lambda: npy(SMALL),
    "truncated": lambda: one(npy(SMALL))[:-30],
    "front cut off": lambda: one(npy(SMALL))[10:],
    "something before it": lambda: b"#!/bin/sh\n" + one(npy(SMALL)),
    "objects": lambda: one(OBJECTS),
    "text": lambda: one(npy(np.array(["a"]))),
    "structure": lambda: one(npy(np.zeros(2, [("a", "<f4")]))),
    "complex": lambda: one(npy(np.zeros(2, "<c8"))),
    "no npy": lambda: one(b"hello"),
    "version 4": lambda: one(b"\x93NUMPY\x04" + npy(SMALL)[7:]),
    "long header": lambda: one(npy(SMALL, header=header_of() + b" " * 20_000)),
    "deep header": lambda: one(npy(SMALL, header=b"(" * 9000)),
    "signs": lambda: one(npy(SMALL, header=b"-" * 900 + b"1")),
    "call": lambda: one(npy(SMALL, header=b"exit(1)")),
    "missing key": lambda: one(npy(SMALL, header=b"{'descr': '<f4', 'shape': (3, 20)}")),
    "more keys": lambda: one(npy(SMALL, header=header_of()[:-2] + b", 'x': 1}")),
    "negative": lambda: one(npy(SMALL, header=header_of((-3, -20)))),
    "fractional": lambda: one(npy(SMALL, header=header_of((3.0, 20)))),
    "axis of bool": lambda: one(npy(SMALL, header=header_of((True, 60)))),
    "number of axes": lambda: one(npy(SMALL, header=header_of((1,) * 40 + (60,)))),
    "overflow": lambda: one(npy(SMALL, header=header_of((2**32, 2**32)))),
    "overflow of nothing": lambda: one(npy(SMALL[:0], header=header_of((0, 2**62, 2**62)))),
    "huge": lambda: one(npy(SMALL, header=header_of((10**6, 19, 15360)))),
    "order": lambda: one(npy(SMALL, header=header_of(fortran=1))),
    "too short": lambda: one(npy(SMALL, header=header_of((3, 21)))),
    "too long": lambda: one(npy(SMALL, header=header_of((3, 19)))),
    "inflates to more": lambda: deflated(npy(SMALL) + bytes(1000), len(npy(SMALL))),
    "inflates to less": lambda: deflated(npy(SMALL)[:-4], len(npy(SMALL))),
    "cannot inflate to so much": lambda: deflated(npy(SMALL), 10**9),
    "twice": doubled,
    "twice by name": lambda: zipped({"a.npy": npy(SMALL), "a": npy(SMALL)}),
    "overlapping": overlapping,
    "encrypted": lambda: set_field(one(npy(SMALL)), "flags", 1),
    "bzip2": lambda: one(npy(SMALL), zipfile.ZIP_BZIP2),
    "method 99": lambda: set_field(one(npy(SMALL)), "method", 99),
    "other method inside": lambda: set_field(one(npy(SMALL)), "method", 0, local=False),
    "second disk": lambda: set_field(one(npy(SMALL)), "disk", 1),
    "outside": lambda: set_field(one(npy(SMALL)), "offset", 10**9),
    "longer than the file": lambda: set_field(one(npy(SMALL)), "packed", 10**9),
    "wrong CRC": lambda: set_field(one(npy(SMALL)), "crc", 7),
    "wrong CRC, stored": lambda: set_field(one(npy(SMALL), 0), "crc", 7),
    "flipped bit": lambda: flipped(one(npy(SMALL), 0), 250),
    "other name inside": lambda: flipped(one(npy(SMALL)), 30),
    "no member there": lambda: flipped(one(npy(SMALL)), 0),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_a_clear_error(tmp_path: Path, kind: str):
    """Whatever is wrong, the error names the file and the next step, and nothing else is raised."""
    path = saved(tmp_path / "bad.npz", BAD[kind]())

    with pytest.raises(BadRecording, match=r"bad\.npz") as caught:
        all_of(path)
    assert caught.value.hint
    with pytest.raises(BadRecording, match=r"bad\.npz"):
        read_windows(path)


@pytest.mark.parametrize("kind", ["objects", "huge", "inflates to more", "encrypted", "wrong CRC", "twice"])
def test_the_member_is_named(tmp_path: Path, kind: str):
    """What is wrong with one member names it."""
    with pytest.raises(BadRecording, match="'a"):
        all_of(saved(tmp_path / "bad.npz", BAD[kind]()))


@pytest.mark.parametrize(
    ("windows", "labels", "said"),
    [
        (np.zeros((1, 18, 15360), "<f4"), None, "windows.*18"),
        (np.zeros((1, 19, 15361), "<f4"), None, "windows.*15361"),
        (np.zeros((19, 15360), "<f4"), None, "windows"),
        (np.zeros((), "<f4"), None, "windows"),
        (WINDOWS[:1], LABELS, "labels.*2, 15360"),
        (WINDOWS[:1], LABELS[0], "labels"),
        (WINDOWS[:1].astype("<f8") + 1e-12, None, "windows.*float64"),
        (np.full((1, 19, 15360), 1e300), None, "windows.*float64"),
        (WINDOWS[:1], np.full((1, 15360), 2**24 + 1), "labels.*int64"),
        (WINDOWS[:1], np.full((1, 15360), 2**53 + 1), "labels.*int64"),
        (WINDOWS[:1], np.full((1, 15360), -(2**63)), "labels.*int64"),
        (WINDOWS[:1], np.full((1, 15360), 2**64 - 1, np.uint64), "labels.*uint64"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, windows: np.ndarray, labels: np.ndarray | None, said: str):
    """Channels, samples and numbers of windows are as they must be, and no value is rounded."""
    arrays: dict[str, Any] = {"windows": windows} if labels is None else {"windows": windows, "labels": labels}
    np.savez_compressed(tmp_path / "a.npz", **arrays)

    with pytest.raises(BadRecording, match=said):
        read_windows(tmp_path / "a.npz")


def test_a_file_without_windows_is_refused(tmp_path: Path):
    """Labels alone are no recording."""
    np.savez(tmp_path / "a.npz", labels=LABELS)

    with pytest.raises(BadRecording, match="no member 'windows'"):
        read_windows(tmp_path / "a.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["windows", "labels"])
def test_values_that_are_not_finite_are_found_on_request(tmp_path: Path, name: str, value: float):
    """By default they are read as numpy reads them; with `finite` the window is named."""
    arrays = {"windows": WINDOWS.copy(), "labels": LABELS.copy()}
    arrays[name][1, ..., 77] = value
    write_npz(tmp_path / "a.npz", arrays["windows"], arrays["labels"], level=0)

    assert same(arrays["windows"], read_windows(tmp_path / "a.npz")[0])
    with pytest.raises(BadRecording, match=f"{name}.*window 1"):
        read_windows(tmp_path / "a.npz", finite=True)


def test_what_cannot_be_opened_is_said(tmp_path: Path):
    """A missing file is the system's word; a folder or a pipe is no recording, and nobody waits for it."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TargetError, match="missing"):
        read_windows(tmp_path / "missing.npz")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(BadRecording, match="no regular file"):
            read_windows(path)


def test_no_descriptor_is_left_open(tmp_path: Path):
    """Good or bad, a file that was opened by path is closed."""
    before = os.listdir("/proc/self/fd")
    for kind, make in BAD.items():
        with pytest.raises(BadRecording):
            all_of(saved(tmp_path / f"{kind}.npz", make()))

    assert len(before) == len(os.listdir("/proc/self/fd"))


def deflated_as(packed: bytes, size: int) -> bytearray:
    """Return a file of one member that is `packed`, said to inflate to `size` bytes."""
    data = set_field(one(packed, zipfile.ZIP_STORED), "method", zipfile.ZIP_DEFLATED)
    return set_field(data, "size", size)


def zeros(start: bytes, megabytes: int) -> bytes:
    """Return `start` and zeros, deflated."""
    packer = zlib.compressobj(9, wbits=-15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    one_megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + one_megabyte * megabytes + packer.flush()


def bomb(path: Path, kind: str) -> None:
    """Write a small file, or one that takes little space, that asks for gigabytes."""
    header = header_of((3000, 19, 15360))
    start = npy(SMALL, header=header)[: 10 + len(header)]
    if kind == "inflates to more":
        path.write_bytes(deflated_as(zeros(npy(SMALL), 3000), len(npy(SMALL))))
    elif kind == "inflates to as much":
        path.write_bytes(deflated_as(zeros(start, 3340), len(start) + 3000 * 19 * 15360 * 4))
    elif kind == "long header":
        path.write_bytes(one(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(100)))
    else:  # long directory
        with path.open("wb") as file:
            file.write(b"PK\x03\x04")
            file.truncate(3_000_000_000)
            file.seek(3_000_000_000)
            file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, 3_000_000_000, 0, 0))


@pytest.mark.parametrize("kind", ["inflates to more", "inflates to as much", "long header", "long directory"])
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, kind: str):
    """In a process that may have 512 MiB, files that ask for gigabytes are refused as any other bad file."""
    path = tmp_path / "bomb.npz"
    bomb(path, kind)
    code = f"""
        import resource
        from tusz_cache import CacheError
        from tusz_cache.packing.npz import open_npz
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
        try:
            with open_npz({str(path)!r}, largest=256 << 20) as npz:
                [npz.read(member) for member in npz.members.values()]
        except CacheError as error:
            print(type(error).__name__)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment({"OPENBLAS_NUM_THREADS": "1"}),
    )

    assert (0, "BadRecording\n", "") == (ran.returncode, ran.stdout, ran.stderr)


# any file


GOOD = [
    bytes(zipped({"windows.npy": npy(SMALL), "labels.npy": npy(SMALL.astype(">f8"))})),
    bytes(zipped({"windows.npy": npy(np.asfortranarray(SMALL)), "labels.npy": npy(SMALL[0] > 3)}, zipfile.ZIP_STORED)),
]


def judged(path: Path) -> bool:
    """Whether a file was read; if so, it must be as numpy has it. Only BadRecording may be raised."""
    try:
        all_of(path)
    except BadRecording:
        return False
    assert agrees(path)
    return True


@settings(max_examples=300)
@given(
    good=st.sampled_from(GOOD),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.binary(max_size=4), st.sampled_from([0, 1, 4, 30])), min_size=1, max_size=4
    ),
)
def test_a_changed_file_is_refused_or_reads_as_numpy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, good: bytes, changes: list[tuple[float, bytes, int]]
):
    """Whatever bytes are put in the place of others, there is BadRecording or numpy's values."""
    data = bytearray(good)
    for place, new, dropped in changes:
        at = int(place * len(data))
        data[at : at + dropped] = new

    judged(saved(tmp_path_factory.getbasetemp() / "changed.npz", data))


@settings(max_examples=100)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, inside: bool):
    """Random bytes, as a file or as a deflated member's bytes, are no recording."""
    if inside:
        packed = set_field(one(data or b"x", zipfile.ZIP_STORED), "method", zipfile.ZIP_DEFLATED)
        data = bytes(set_field(packed, "size", 900))

    assert not judged(saved(tmp_path_factory.getbasetemp() / "random.npz", data))


def test_every_single_byte_counts_or_does_not_matter(tmp_path: Path):
    """Each bit of each byte of a small file, changed by itself: refused, or the values are numpy's."""
    good = GOOD[0]
    read = sum(judged(saved(tmp_path / "a.npz", flipped(bytearray(good), at))) for at in range(len(good)))

    assert 0 < read < len(good) / 2  # dates, attributes, versions: a few bytes matter to nobody


def test_a_recording_of_another_length_is_found_in_a_real_file(recording: Path):
    """A file that lost its end while it was copied is refused."""
    data = recording.read_bytes()

    for kept in (len(data) // 2, len(data) - 1):
        with pytest.raises(BadRecording):
            read_windows(saved(recording.with_name("cut.npz"), data[:kept]))


def test_a_file_that_shrinks_while_it_is_read_is_refused(recording: Path):
    """What was there when the directory was read and is not any more is no crash."""
    path = saved(recording.with_name("shrinks.npz"), recording.read_bytes())
    with open_npz(path) as npz:
        os.truncate(path, 200_000)
        with pytest.raises(BadRecording, match="ends early"):
            npz.read(npz.members["windows"])


def test_the_largest_size_is_the_callers(recording: Path):
    """An array above `largest` is refused when the file is opened."""
    with pytest.raises(BadRecording, match="more than"):
        open_npz(recording, largest=WINDOWS.nbytes - 1)
    with open_npz(recording, largest=WINDOWS.nbytes) as npz:
        assert {"windows", "labels"} == set(npz.members)
