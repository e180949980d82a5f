"""CudaFeed: batches on the device, the next one on its way while a step is computed. On a CPU it passes them on.

Axes: B = windows of a batch, C = 19 channels, T = 15,360 samples at 256 Hz; K = 6 blocks of S = 2,560 samples.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tusz_cache import UsageError
from tusz_train.data.dataset import Pair
from tusz_train.data.loader import Loader
from tusz_train.data.sampler import TrainingSampler


def unfold(blocks_BKCS: Tensor, scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return windows (B, C, T) of int16 blocks (B, K, C, S): what the store's `read_batch` gives, on any device."""
    blocks_BCKS = blocks_BKCS.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return blocks_BCKS.flatten(2).mul_(scale).to(dtype)


class CudaFeed:
    """The batches of a loader on `device`: x (B, C, T) of `dtype`, y (B, T) float32.

    One pass is one epoch, or what is left of it: if the loader's sampler is for training, each batch handed over is
    counted, and behind the last one the sampler stands at the start of the next epoch. `state_dict` may be saved at any
    time; a batch counts as soon as the loop has it.
    """

    def __init__(
        self,
        loader: Loader,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        *,
        scale: float | None = None,
    ) -> None:
        """scale: of the dataset, if it is raw."""
        self.loader, self.device, self.dtype, self.scale = loader, torch.device(device), dtype, scale
        self.batches = 0  # handed over, ever
        self.wait_s = 0.0  # that the last batch was waited for
        self.waited_s = 0.0  # all of them

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Pair]:
        sampler = self.loader.batch_sampler
        counted = sampler if isinstance(sampler, TrainingSampler) else None
        source = self._ahead() if self.device.type == "cuda" else self._passed_on()
        while (batch := self._timed(source)) is not None:
            if counted is not None:
                counted.take()
            yield batch
        if counted is not None:
            counted.set_epoch(counted.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the sampler. Raises UsageError if it has none."""
        return self._sampler().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position. Raises OrderChanged, UsageError."""
        self._sampler().load_state_dict(state)

    def _sampler(self) -> TrainingSampler:
        sampler = self.loader.batch_sampler
        if not isinstance(sampler, TrainingSampler):
            raise UsageError("only a training sampler has a position", hint="evaluate from the start")
        return sampler

    def _timed(self, source: Iterator[Pair]) -> Pair | None:
        start = time.perf_counter()
        batch = next(source, None)
        if batch is not None:
            self.wait_s = time.perf_counter() - start
            self.waited_s += self.wait_s
            self.batches += 1
        return batch

    def _passed_on(self) -> Iterator[Pair]:
        for x, y_BT in self.loader:
            yield self._ready(x), y_BT

    def _ahead(self) -> Iterator[Pair]:
        """Yield batches on the device; each is copied on a stream of its own while the one before is computed with."""
        copying = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call] # torch has no types for it
        before: tuple[Pair, torch.cuda.Event] | None = None
        for x, y_BT in self.loader:
            with torch.cuda.stream(copying):
                pair = (
                    self._ready(x.to(self.device, non_blocking=True)),
                    y_BT.to(self.device, non_blocking=True),
                )
                arrived = copying.record_event()
            if before is not None:
                yield self._arrived(*before)
            before = pair, arrived
        if before is not None:
            yield self._arrived(*before)

    def _arrived(self, pair: Pair, arrived: torch.cuda.Event) -> Pair:
        """Have the computing stream wait for a batch, and the allocator for the computing stream."""
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(arrived)
        for tensor in pair:
            tensor.record_stream(computing)
        return pair

    def _ready(self, x: Tensor) -> Tensor:
        if x.dtype != torch.int16:
            return x.to(self.dtype)
        if self.scale is None:
            raise UsageError("raw windows need their scale", hint="give CudaFeed the dataset's: scale=dataset.scale")
        return unfold(x, self.scale, self.dtype)
