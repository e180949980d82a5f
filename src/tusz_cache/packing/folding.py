"""Folding: a recording's overlapping windows become its blocks, proven on the way to be there bit for bit.

Axes as in blocks: N = windows, C = 19, T = 15,360 samples, K = blocks, S = 2,560 samples.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tusz_cache.packing.blocks import (
    BLOCK,
    CHANNELS,
    STEPS,
    WINDOW_BLOCKS,
    Float32Array,
    as_blocks,
    blocks_in,
    same_bits,
)

Uint8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Folded:
    """A recording as blocks: window i is the six blocks from i * step on."""

    windows: int
    step: int
    blocks_KCS: Float32Array
    labels_KS: Uint8Array | Float32Array | None  # uint8 where that says the same bits; None: it has none


def fold(windows: Callable[[], Iterable[Float32Array]], count: int, labels_NT: Float32Array | None) -> Folded:
    """Return the recording of `count` windows, by the smallest step at which all neighbours share what they overlap in.

    windows: yields every window (C, T) in order, anew at each call; it may reuse the memory of the one before.
    Where neighbours differ, as in windows that were normalised one by one, the step is 6 and nothing is shared.
    """
    for step in STEPS:
        labels_KS = np.empty((blocks_in(count, step), BLOCK), np.float32)
        if labels_NT is None or _laid(labels_NT, step, labels_KS):
            blocks_KCS = np.empty((blocks_in(count, step), CHANNELS, BLOCK), np.float32)
            if _laid(windows(), step, blocks_KCS):
                return Folded(count, step, blocks_KCS, None if labels_NT is None else _small(labels_KS))
    raise AssertionError("windows that share nothing fit any data")


def _laid(windows: Iterable[Float32Array], step: int, out: Float32Array) -> bool:
    """Lay windows, or labels of windows, into `out`. False at the first that differs from what its neighbour left."""
    for i, window in enumerate(windows):
        blocks, there = as_blocks(window), out[i * step : i * step + WINDOW_BLOCKS]
        shared = WINDOW_BLOCKS - step if i else 0
        if not same_bits(blocks[:shared], there[:shared]):
            return False
        there[shared:] = blocks[shared:]
    return True


def _small(labels_KS: Float32Array) -> Uint8Array | Float32Array:
    """Return labels as bytes, if they are whole numbers from 0 to 255 as they should be; else as they are."""
    with np.errstate(invalid="ignore"):  # NaN has no byte, and is found out below
        small = labels_KS.astype(np.uint8)
    return small if same_bits(small.astype(np.float32), labels_KS) else labels_KS
