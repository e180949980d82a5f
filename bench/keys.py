"""Keys of a cache of TUSZ shape, as many as are asked for, in the order that S3 lists them."""

import itertools
import string
from collections.abc import Iterator

from tusz_cache.entry import Entry

SPLITS = (("dev", 2), ("eval", 1), ("train", 7))  # tenths of the files
PER_PATIENT = 20
_ODD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # multiples of it look like MD5s and never repeat
_SUFFIXES = [f"_s{number // 4 + 1:03d}_t{number % 4:03d}_windows.npz" for number in range(PER_PATIENT)]


def keys(count: int) -> Iterator[str]:
    """Yield `count` keys like "train/aaaaaaac_s001_t000_windows.npz"."""
    for split, tenths in SPLITS:
        patients = ("".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=8))
        share = count - count // 10 * 3 if split == "train" else count // 10 * tenths
        names = (f"{split}/{patient}" for patient in patients)
        yield from itertools.islice((name + suffix for name in names for suffix in _SUFFIXES), share)


def entries(count: int) -> Iterator[Entry]:
    """Yield `count` entries as S3 would list them: some 70 MB each, ETags of 32 hex digits."""
    for number, key in enumerate(keys(count)):
        yield Entry(key, 70_000_000 + number, f"{(number + 1) * _ODD % 2**128:032x}")
