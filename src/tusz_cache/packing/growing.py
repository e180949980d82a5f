"""Arrays that grow: rows one behind the other in a partial file, read back before it gets its name."""

import os
from typing import Any

import numpy as np

from tusz_cache import ssd
from tusz_cache.checksum import combine_crc64nvme, crc64nvme
from tusz_cache.errors import Damaged
from tusz_cache.packing.blocks import crc_of
from tusz_cache.packing.rows import HEADER, Array, header
from tusz_cache.ssd import Target

CHECKED = 1024**2  # bytes that are read back at once: they stay in the CPU's cache


class GrowingArray:
    """An array in a `.npy` file that gets rows at its end, and a name once it is whole."""

    def __init__(self, place: Target, key: str, row_shape: tuple[int, ...], dtype: "np.dtype[Any]") -> None:
        """key: the file under the place's root. A partial file that is there stays; `keep` says how far."""
        self.key, self.rows = key, 0
        self.path = place.partial / key.replace("/", ".")
        self._row_shape, self._dtype = row_shape, dtype
        self._row_bytes = int(np.prod(row_shape)) * dtype.itemsize
        self._pieces: list[tuple[int, int]] = []  # (crc64nvme, bytes) of what was added, in order
        there = self.path.stat().st_size if self.path.exists() else 0
        self._descriptor = ssd.open_partial(self.path, max(there, HEADER), preallocate=False)

    @property
    def size(self) -> int:
        """Bytes of the file by now."""
        return HEADER + self.rows * self._row_bytes

    def holds(self, rows: int, crc: int) -> bool:
        """Whether an earlier run left `rows` more rows there with this checksum."""
        return self._read_back(self.size, rows * self._row_bytes) == crc

    def keep(self, rows: int, crc: int) -> None:
        """Go on behind `rows` more rows, which `holds` has found."""
        self.rows += rows
        self._pieces.append((crc, rows * self._row_bytes))

    def add(self, rows: Array) -> int:
        """Append `rows`; returns their CRC64NVME. Raises NoSpace, TargetError."""
        crc = crc_of(rows)
        ssd.write_at(self._descriptor, rows.reshape(-1).view(np.uint8).data, self.size, self.path)
        self.keep(len(rows), crc)
        return crc

    def complete(self) -> int:
        """Write the header, read everything back, and close. Returns the file's CRC64NVME. Raises Damaged, NoSpace."""
        top = header((self.rows, *self._row_shape), self._dtype)
        ssd.write_at(self._descriptor, memoryview(top), 0, self.path)
        self.close()
        self._descriptor = ssd.open_partial(self.path, self.size, preallocate=False)  # cuts what a killed run left
        offset = HEADER
        for crc, length in self._pieces:
            if self._read_back(offset, length) != crc:
                raise Damaged(
                    f"{self.path} does not give back what was written at byte {offset}",
                    hint="the disk is failing, or something else writes there: look at the kernel log, run again",
                )
            offset += length
        self.close()
        return combine_crc64nvme([(crc_of(np.frombuffer(top, np.uint8)), HEADER), *self._pieces])

    def close(self) -> None:
        """Close the file; what was added stays for the next run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_back(self, offset: int, length: int) -> int | None:
        """Return the CRC64NVME of `length` bytes at `offset`; None if the file ends before."""
        crc, buffer = 0, memoryview(bytearray(min(length, CHECKED)))
        while length:
            count = os.preadv(self._descriptor, [buffer[:length]], offset)
            if not count:
                return None
            crc, length, offset = crc64nvme(buffer[:count], crc), length - count, offset + count
        return crc
