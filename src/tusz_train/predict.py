"""Inference: from windows to the probabilities of whole recordings, one recording in memory at a time.

Axes: B = windows of a batch, C = channels, T = 15,360 samples of a window, L = predictions kept of a window,
N = samples of a recording.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tusz_cache.errors import Damaged, UsageError
from tusz_train.curves import Predicted
from tusz_train.events import Detection, Event, RecordingEvents, find_events
from tusz_train.montage import SAMPLING_RATE, WINDOW
from tusz_train.ranking import Bools, Float32s
from tusz_train.schedule import STEP_S, WINDOW_S, Schedule, Scheduled
from tusz_train.stitch import hann, stitch

Model = Callable[[Tensor], Tensor]  # windows (B, C, T) -> logits (B, T)
Pair = tuple[Tensor, Tensor]  # windows (B, C, T), labels (B, T)
Precision = Literal["auto", "off", "bf16"]

_AHEAD = 2  # batches that are read while the model computes
_AS_LABELLED = Detection(threshold=0.5, release=1.0, min_duration_s=0.0)


class Windows(Protocol):
    """What windows are read from, such as a `tusz_cache.WindowStore`."""

    def read_batch(self, indices: list[int]) -> tuple[Any, Any]:
        """Return windows (B, C, T) and labels (B, T), float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """How a model is run."""

    batch_size: int = 64
    device: str = "cpu"
    amp: Precision = "auto"  # of the forward pass: auto is bf16 on a GPU that has it, else float32
    rate: int = 16  # probabilities a second that are kept; scorers round events to 0.1 s and more

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"a batch of {self.batch_size} windows makes no sense", hint="give 1 or more")
        if self.rate < 1 or SAMPLING_RATE % self.rate:
            raise UsageError(
                f"{self.rate} probabilities a second do not divide {SAMPLING_RATE} Hz", hint="give 1, 2, 4, 8, … or 256"
            )

    @property
    def bf16(self) -> bool:
        """Whether the forward pass is computed in bf16."""
        on_gpu = torch.device(self.device).type == "cuda" and torch.cuda.is_bf16_supported()
        return self.amp == "bf16" or (self.amp == "auto" and on_gpu)


def read_batches(windows: Windows, schedule: Schedule, batch_size: int) -> Iterator[Pair]:
    """Yield the scheduled windows in batches, which may hold the end of a recording and the beginning of the next.

    A thread reads ahead.
    """
    rows = schedule.rows()
    waiting: deque[Future[tuple[Any, Any]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="windows") as pool:
        try:
            while (batch := list(islice(rows, batch_size))) or waiting:
                if batch:
                    waiting.append(pool.submit(windows.read_batch, batch))
                if len(waiting) > _AHEAD or not batch:
                    x_BCT, y_BT = waiting.popleft().result()
                    yield torch.from_numpy(x_BCT), torch.from_numpy(y_BT)
        finally:
            pool.shutdown(cancel_futures=True)


def predict(model: Model, batches: Iterable[Pair], schedule: Schedule, inference: Inference) -> Iterator[Predicted]:
    """Yield recording after recording of the schedule, each with probabilities for the whole of its duration.

    `batches` hold the scheduled windows, in order. Overlapping windows are averaged by Hann weights; what no window
    covers is 0. Reference events are those of the schedule, else where labels exceed 0.5.
    Raises UsageError for predictions that are not finite, and Damaged for labels that are missing or contradict
    each other.
    """
    with _evaluating(model):
        windows = _each_window(model, batches, inference)
        for one in schedule.recordings:
            yield _recording(one, islice(windows, len(one.windows)), inference.rate)
        if next(windows, None) is not None:
            raise UsageError("there are more windows than were scheduled", hint="read the windows of schedule.rows()")


def _recording(one: Scheduled, windows: Iterator[tuple[Float32s, Float32s]], rate: int) -> Predicted:
    labels = None if one.reference else _Labels(one)

    def noted() -> Iterator[tuple[int, Float32s]]:
        for number in one.windows:
            try:
                p_L, y_T = next(windows)
            except StopIteration:
                raise UsageError(
                    f"{one.recording} has fewer windows than were scheduled", hint="read the windows of schedule.rows()"
                ) from None
            if labels:
                labels.note(number, y_T)
            yield number * STEP_S * rate, p_L

    n_predictions = round(one.duration * rate)
    p_N = stitch(noted(), n_predictions, hann(WINDOW_S * rate))
    reference = one.reference or RecordingEvents(one.recording, one.duration, labels.events() if labels else ())
    return Predicted(reference, np.clip(p_N, 0, 1), rate)


class _Labels:
    """The labels of one recording, from those of its windows."""

    def __init__(self, one: Scheduled) -> None:
        self.recording = one.recording
        self.is_ictal_N: Bools = np.zeros(one.windowed_s * SAMPLING_RATE, np.bool_)
        self.seen = 0  # samples that windows told so far

    def note(self, number: int, y_T: Float32s) -> None:
        """Add the labels of a window. Raises Damaged where they are missing, or differ from an earlier window's."""
        if np.isnan(y_T).any():
            raise Damaged(f"window {number} of {self.recording} has no labels", hint="check how the cache was made")
        start, is_ictal_T = number * STEP_S * SAMPLING_RATE, y_T > 0.5
        known = self.is_ictal_N[start : max(start, self.seen)]
        if not np.array_equal(known, is_ictal_T[: len(known)]):
            raise Damaged(
                f"window {number} of {self.recording} and the one before disagree on their labels",
                hint=f"windows must begin every {STEP_S} s: check how the cache was made",
            )
        self.is_ictal_N[start : start + WINDOW] = is_ictal_T
        self.seen = start + WINDOW

    def events(self) -> tuple[Event, ...]:
        """Return the runs of ictal samples."""
        return find_events(self.is_ictal_N.astype(np.float32), SAMPLING_RATE, _AS_LABELLED)


def _each_window(model: Model, batches: Iterable[Pair], inference: Inference) -> Iterator[tuple[Float32s, Float32s]]:
    """Yield (probabilities (L,), labels (T,)) of each window."""
    for x_BCT, y_BT in batches:
        p_BL = _probabilities(model, x_BCT, inference)
        yield from zip(p_BL.cpu().numpy(), y_BT.cpu().numpy(), strict=True)


@torch.inference_mode()
def _probabilities(model: Model, x_BCT: Tensor, inference: Inference) -> Tensor:
    """Return (B, L) float32: the sigmoid is taken at full precision and rate, then averaged."""
    device = torch.device(inference.device)
    with torch.autocast(device.type, torch.bfloat16, enabled=inference.bf16):
        logits_BT = model(x_BCT.to(device, non_blocking=True))
    if logits_BT.shape != (len(x_BCT), WINDOW):
        raise UsageError(
            f"the model gives {tuple(logits_BT.shape)} for {len(x_BCT)} windows",
            hint=f"it must return logits of shape (windows, {WINDOW})",
        )
    p_BT = torch.sigmoid(logits_BT.float())
    return p_BT.reshape(len(p_BT), -1, SAMPLING_RATE // inference.rate).mean(-1)


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Have a module evaluate, not train, and leave it as it was."""
    if not isinstance(model, nn.Module):
        yield
        return
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
