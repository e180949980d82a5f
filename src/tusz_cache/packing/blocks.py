"""How windows lie in a store, as blocks. Pure.

A window is 60 s cut every 10 s, so neighbours share five sixths of their samples. A store keeps each recording once, as
blocks of 10 s: window i is the WINDOW_BLOCKS blocks from i * step on, one contiguous run.

Axes: N = windows, C = 19 channels, T = 15,360 samples at 256 Hz, K = blocks, S = 2,560 samples in a block.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tusz_cache.checksum import crc64nvme

Float32Array = npt.NDArray[np.float32]

CHANNELS = 19
BLOCK = 2560  # samples: 10 s
WINDOW_BLOCKS = 6
WINDOW = WINDOW_BLOCKS * BLOCK  # samples
STEPS = range(1, WINDOW_BLOCKS + 1)  # blocks between two windows; the last means that windows share nothing
FULL_SCALE = 10.0  # of int16: the users' preprocessing clips to +-10
SCALE = FULL_SCALE / 32767  # of one step of int16
ALIGNMENT = 64  # bytes: a line of a CPU's cache, and what torch gives


def blocks_in(windows: int, step: int) -> int:
    """Return K, the blocks that `windows` windows lie in."""
    return (windows - 1) * step + WINDOW_BLOCKS if windows else 0


def as_blocks(x_CT: Float32Array) -> Float32Array:
    """Return a window, or its labels of shape (T,), as a view of shape (WINDOW_BLOCKS, C, S) or (WINDOW_BLOCKS, S)."""
    blocks = x_CT.reshape(*x_CT.shape[:-1], -1, BLOCK)
    return blocks.transpose(1, 0, 2) if x_CT.ndim == 2 else blocks


def same_bits(a: Float32Array, b: Float32Array) -> bool:
    """Whether two arrays hold the same bits: -0.0 is not 0.0, and a NaN is itself."""
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


def quantised(x: Float32Array) -> npt.NDArray[np.int16]:
    """Return `x`, finite and within +-FULL_SCALE, as int16 at SCALE; the error is at most SCALE / 2 and rounding."""
    return np.rint(x.astype(np.float64) / SCALE).astype(np.int16)


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an uninitialised array that begins at a multiple of ALIGNMENT bytes.

    numpy's own large arrays begin 16 bytes behind a page, behind malloc's header. On some CPUs copying there from pages
    of a file takes up to 1.5 times as long (docs/measurements.md).
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def crc_of(array: npt.NDArray[Any], before: int = 0) -> int:
    """Return the CRC64NVME of the bytes of a C-contiguous array, continuing from `before`."""
    return crc64nvme(array.reshape(-1).view(np.uint8).data, before)
