"""Samplers: which rows of the window manifest make up a batch. They give DataLoader its batches, and hold a position.

The batches of all ranks together are slices of one order, so neither workers nor the number of ranks changes them.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
from torch.utils.data import Sampler

from tusz_cache import UsageError, WindowManifest
from tusz_train.data.draw import Shares, new_draw, reference_draw
from tusz_train.data.order import Rows, identity, order, order_digest
from tusz_train.errors import OrderChanged

STATE_VERSION = 1

Draw = Literal["fixed", "redraw"]
Last = Literal["drop", "wrap"]


class TrainingSampler(Sampler[list[int]]):
    """Batches of one rank, epoch after epoch, with a position that can be saved.

    `epoch` is the one that the next batch belongs to; `consumed` counts its batches that the training loop took, which
    whoever hands them over says by `take` (see CudaFeed): what is read ahead does not count.
    """

    def __init__(
        self,
        manifest: WindowManifest,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        last: Last = "drop",
    ) -> None:
        """batch_size: of all ranks together. last: drop the windows behind the last whole batch, or fill it up with
        the first ones of the order. Raises UsageError.
        """
        _check_ranks(rank, world_size)
        if batch_size < 1 or batch_size % world_size:
            raise UsageError(
                f"a batch of {batch_size} windows cannot be split evenly over {world_size} ranks",
                hint="give a batch size, of all ranks together, that their number divides",
            )
        if last not in get_args(Last):
            raise UsageError(f"last={last!r} does not exist", hint="use drop or wrap")
        self.manifest, self.batch_size, self.seed = manifest, batch_size, seed
        self.rank, self.world_size, self.last = rank, world_size, last
        self.store_id = identity(manifest.files, manifest.file_numbers, manifest.windows, manifest.categories)
        self.epoch = self.consumed = 0
        self._order: tuple[int, Rows] | None = None  # of the epoch that was asked for last

    @abstractmethod
    def rows(self, epoch: int) -> Rows:
        """Return the rows of an epoch, in order."""

    def order(self, epoch: int | None = None) -> Rows:
        """Return the rows of an epoch, by default this one, whole batches or not. Raises UsageError for no batch."""
        epoch = self.epoch if epoch is None else epoch
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self.rows(epoch)
        rows = self._order[1]
        if not len(rows) or (self.last == "drop" and len(rows) < self.batch_size):
            raise UsageError(
                f"{len(rows)} windows make no batch of {self.batch_size}",
                hint="give a smaller data.batch_size, or more files; in Python, last='wrap' makes one",
            )
        return rows

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        whole, rest = divmod(len(self.order()), self.batch_size)
        return whole + (rest > 0 and self.last == "wrap")

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's part of each batch of the epoch that was not yet taken."""
        rows, share = self.order(), self.batch_size // self.world_size
        for batch in range(self.consumed, len(self)):
            first = batch * self.batch_size + self.rank * share
            yield rows[np.arange(first, first + share) % len(rows)].tolist()

    def take(self) -> None:
        """Note that the training loop took a batch."""
        self.consumed += 1

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; stay where we are if it is this one."""
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position: a small value that JSON can hold, valid for any number of ranks."""
        return self._state(self.epoch, self.consumed)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position. Raises OrderChanged if the windows or their order are no longer the same."""
        epoch, consumed = state.get("epoch"), state.get("consumed")
        if type(epoch) is not int or type(consumed) is not int or epoch < 0 or consumed < 0:
            raise _nowhere(epoch, consumed)
        now = self._state(epoch, consumed)
        for name, advice in _ADVICE.items():
            if state.get(name) != now[name]:
                raise OrderChanged(
                    f"the saved position has {name} {state.get(name)!r}, this run has {now[name]!r}",
                    hint=f"{advice}, or begin anew",
                )
        if consumed > len(self):
            raise _nowhere(epoch, consumed)
        self.epoch, self.consumed = epoch, consumed

    def _state(self, epoch: int, consumed: int) -> dict[str, Any]:
        return {
            "v": STATE_VERSION,
            "store_id": self.store_id,
            "seed": self.seed,
            "epoch": epoch,
            "consumed": consumed,
            "batch_size": self.batch_size,
            "digest": order_digest(self.order(epoch)),
        }


_ADVICE = {  # field of the state -> what to do where it differs, the plainest reason first
    "v": "go on with the version of this software that saved it",
    "batch_size": "go on with the same batch size",
    "seed": "go on with the same seed",
    "store_id": "go on with the same cache and file limit",
    "digest": f"go on with the same draw and shares, and the numpy that saved it (this is {np.__version__})",
}


class BalancedBatchSampler(TrainingSampler):
    """All windows that show a seizure in part, with shares of those that show one in full, or none.

    draw="fixed": the users' draw, its first epoch in the users' order. draw="redraw": full seizures and background are
    drawn anew each epoch.
    """

    def __init__(
        self,
        manifest: WindowManifest,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        draw: Draw = "fixed",
        full_share: float = 0.3,
        none_share: float = 2.5,
        last: Last = "drop",
    ) -> None:
        """full_share, none_share: windows for each that shows a seizure in part. The rest: as TrainingSampler's."""
        super().__init__(manifest, batch_size, seed=seed, rank=rank, world_size=world_size, last=last)
        if draw not in get_args(Draw):
            raise UsageError(f"draw={draw!r} does not exist", hint="use fixed or redraw")
        self.draw, self.shares = draw, Shares(full_share, none_share)

    def rows(self, epoch: int) -> Rows:
        """See TrainingSampler."""
        if self.draw == "redraw":
            return new_draw(self.manifest, self.store_id, self.seed, epoch, self.shares)
        drawn = reference_draw(self.manifest, self.seed, self.shares)
        return drawn if epoch == 0 else drawn[order(self.store_id, self.seed, epoch, len(drawn))]


class UnbalancedBatchSampler(TrainingSampler):
    """All windows, as often as the patients have them."""

    def rows(self, epoch: int) -> Rows:
        """See TrainingSampler."""
        return order(self.store_id, self.seed, epoch, len(self.manifest))


class EvaluationSampler(Sampler[list[int]]):
    """Each window once, recording after recording and in time; recordings are split over ranks, none is cut.

    Of a recording, every `stride`-th window and the last, so that its tail is covered.
    """

    def __init__(
        self, manifest: WindowManifest, batch_size: int, *, stride: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        """batch_size: of this rank; the last batch may be smaller. Raises UsageError."""
        _check_ranks(rank, world_size)
        if batch_size < 1 or stride < 1:
            raise UsageError(f"batch size {batch_size} or stride {stride} makes no sense", hint="give 1 or more")
        self.batch_size = batch_size
        rows = np.lexsort((manifest.windows, manifest.file_numbers)).astype(np.int64)
        files, windows = manifest.file_numbers[rows], manifest.windows[rows]
        starts_F = np.searchsorted(files, np.arange(len(manifest.files)))
        rank_F = starts_F * world_size // max(len(rows), 1)  # neighbours stay together, ranks have about as many
        is_last = np.append(files[1:] != files[:-1], True)[: len(rows)]
        self.rows: Rows = rows[((windows % stride == 0) | is_last) & (rank_F[files] == rank)]

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return (
            self.rows[first : first + self.batch_size].tolist() for first in range(0, len(self.rows), self.batch_size)
        )


def _check_ranks(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise UsageError(f"rank {rank} of {world_size} does not exist", hint="ranks count from 0")


def _nowhere(epoch: object, consumed: object) -> OrderChanged:
    return OrderChanged(f"batch {consumed} of epoch {epoch} does not exist", hint="take another checkpoint")
