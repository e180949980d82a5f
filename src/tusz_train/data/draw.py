"""Which windows an epoch of balanced training shows: all partial seizures, and some of the others. Pure.

Shares are relative to the number P of windows that show a seizure in part, as Wu et al. balance them.
"""

from dataclasses import dataclass

import numpy as np

from tusz_cache import Category, UsageError, WindowManifest
from tusz_train.data.order import Rows, order, permutation


@dataclass(frozen=True, slots=True)
class Shares:
    """How many windows are drawn for each that shows a seizure in part."""

    full: float = 0.3  # that show one in full
    none: float = 2.5  # that show none

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if not (self.full >= 0 and self.none >= 0):
            raise UsageError(f"shares of {self.full} and {self.none} cannot be drawn", hint="give 0 or more")


def sizes(manifest: WindowManifest, shares: Shares) -> dict[Category, int]:
    """Return how many windows of each category are drawn. Raises UsageError if no window shows a seizure in part."""
    counts = manifest.counts()
    partial = counts[Category.PARTIAL]
    if not partial:
        raise UsageError(
            f"none of the {len(manifest)} windows shows a seizure in part, so there is nothing to balance against",
            hint="check the labels of the cache, or take more files",
        )
    return {
        Category.PARTIAL: partial,
        Category.FULL: min(int(shares.full * partial), counts[Category.FULL]),
        Category.NONE: min(int(shares.none * partial), counts[Category.NONE]),
    }


def reference_draw(manifest: WindowManifest, seed: int, shares: Shares) -> Rows:
    """Return the rows that the users' tool draws and the order it shows them in first, to the row.

    It is numpy's stream, which another version of numpy may change: whoever saves a position keeps the order's digest.
    """
    wanted = sizes(manifest, shares)
    rng = np.random.default_rng(seed)
    drawn = [_rows(manifest, Category.PARTIAL)]
    for category in (Category.FULL, Category.NONE):
        rows = _rows(manifest, category)
        if len(rows):
            drawn.append(rows[rng.choice(len(rows), size=wanted[category], replace=False)])
    rows_R1 = np.concatenate(drawn)[:, np.newaxis]  # two axes, as the tool's array has
    rng.shuffle(rows_R1)
    return rows_R1[:, 0]


def new_draw(manifest: WindowManifest, store_id: str, seed: int, epoch: int, shares: Shares) -> Rows:
    """Return the rows that this epoch alone shows, in order. Full seizures and background change with each epoch."""
    drawn = []
    for category, count in sizes(manifest, shares).items():
        rows = _rows(manifest, category)
        drawn.append(rows[permutation(len(rows), category.name, store_id, seed, epoch)[:count]])
    rows = np.concatenate(drawn)
    return rows[order(store_id, seed, epoch, len(rows))]


def _rows(manifest: WindowManifest, category: Category) -> Rows:
    found = manifest.rows(category)
    return np.arange(found.start, found.stop, dtype=np.int64)
