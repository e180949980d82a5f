"""Orders that depend on a key alone: not on versions, workers or devices. Pure.

numpy's Generator may draw otherwise in a later version, and a saved position would then point elsewhere. So the
numbers are SplitMix64, written out here: number i is a bijective mix of key + i * GOLDEN, so that sorting them permutes
without ties.
"""

import hashlib
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]  # of a window manifest
Key = str | int | float

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def numbers(count: int, *key: Key) -> npt.NDArray[np.uint64]:
    """Return `count` random numbers of 64 bits, (count,)."""
    start = np.frombuffer(_hash(json.dumps(key).encode(), 8), "<u8")
    z: npt.NDArray[np.uint64] = start + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    for shift, factor in MIX:
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(31))


def uniform(shape: tuple[int, ...], *key: Key) -> npt.NDArray[np.float64]:
    """Return random numbers from 0 to below 1."""
    return (numbers(math.prod(shape), *key) >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53


def permutation(count: int, *key: Key) -> Rows:
    """Return the whole numbers below `count` in random order, (count,)."""
    return np.argsort(numbers(count, *key), kind="stable").astype(np.int64)


def order(store_id: str, seed: int, epoch: int, count: int) -> Rows:
    """Return the order in which an epoch goes through `count` windows, (count,)."""
    return permutation(count, "order", store_id, seed, epoch)


def order_digest(rows: Rows) -> str:
    """Return what tells one order from another, 32 hex digits."""
    return _hash(rows.astype("<i8").tobytes(), 16).hex()


def identity(files: tuple[str, ...], *columns: npt.NDArray[Any]) -> str:
    """Return what tells windows from others, 32 hex digits: the same however they are stored."""
    shown = hashlib.blake2b(json.dumps(files).encode(), digest_size=16)
    for column in columns:
        shown.update(column.astype("<i8").tobytes())
    return shown.hexdigest()


def _hash(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()
