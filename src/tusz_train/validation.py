"""How good the model is on dev: whole recordings, each stitched from its windows, events scored at every threshold."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from tusz_train.config import Config
from tusz_train.curves import CurveReport, Predicted, tally
from tusz_train.data.dataset import WindowDataset
from tusz_train.distributed import World
from tusz_train.events import Detection
from tusz_train.predict import Inference, predict, read_batches
from tusz_train.schedule import Schedule, Scheduled, make_schedule


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the model reaches on dev, and where."""

    f1: float  # SzCORE event F1 at the threshold, pooled
    threshold: float
    curves: CurveReport

    def as_line(self) -> dict[str, Any]:
        """Return the numbers that are logged, by name."""
        point = next(point for point in self.curves.points if point.threshold == self.threshold)
        event = point.szcore_event
        return {
            "dev_szcore_event_f1": self.f1,
            "dev_szcore_event_sensitivity": event.sensitivity,
            "dev_szcore_event_precision": event.precision,
            "dev_szcore_event_fp_per_day": event.fp_per_day,
            "dev_threshold": self.threshold,
            "dev_auroc_1hz": self.curves.pooled.auroc_1hz,
            "dev_average_precision_1hz": self.curves.pooled.average_precision_1hz,
        }


def judge(
    model: nn.Module,
    dev: WindowDataset,
    config: Config,
    *,
    world: World,
    stops: Callable[[], bool],
    said: Callable[[int, int], None] = lambda _, __: None,
) -> Judgement | None:
    """Return what the model reaches on dev's recordings, which are shared out over processes.

    None if any process is to stop meanwhile: what was computed is dropped. said: is told how many of this process's
    recordings are done.
    """
    asked = config.postprocessing
    thresholds = config.validation.thresholds if asked.threshold is None else (asked.threshold,)
    detection = Detection(release=asked.release, min_duration_s=asked.min_duration_s, close_gap_s=asked.close_gap_s)
    schedule = shared_out(schedule_of(dev, config), world)
    inference = Inference(
        batch_size=max(1, config.data.batch_size // world.size), device=str(world.device), amp=config.loop.amp
    )
    batches = read_batches(dev.store, schedule, inference.batch_size)
    stopped = False

    def until_stopped(predictions: Iterable[Predicted]) -> Iterator[Predicted]:
        nonlocal stopped
        for done, one in enumerate(predictions, 1):
            yield one
            said(done, len(schedule.recordings))
            if stopped := stops():
                return

    counted = tally(until_stopped(predict(model, batches, schedule, inference)), detection, thresholds=thresholds)
    shares = world.gather(None if stopped else counted)
    if any(share is None for share in shares):
        return None
    curves = sum(shares[1:], shares[0]).report()
    top = curves.best_szcore_event_f1
    return Judgement(top.szcore_event.f1 or 0.0, top.threshold, curves)


def schedule_of(dev: WindowDataset, config: Config) -> Schedule:
    """Return the recordings of dev that are judged: those of the file limit, if there is one."""
    whole = make_schedule(dev.store.recordings, stride_s=round(config.validation.stride_s))
    taken = {name.removesuffix("_windows.npz") for name in dev.manifest.files}
    return replace(whole, recordings=tuple(one for one in whole.recordings if one.recording in taken))


def shared_out(schedule: Schedule, world: World) -> Schedule:
    """Return this process's recordings: neighbours, about as many windows as the others' have. None is cut."""
    return replace(schedule, recordings=tuple(_part(schedule.recordings, world.rank, world.size)))


def _part(recordings: Sequence[Scheduled], rank: int, size: int) -> Iterator[Scheduled]:
    total = max(sum(len(one.windows) for one in recordings), 1)
    before = 0
    for one in recordings:
        if before * size // total == rank:
            yield one
        before += len(one.windows)
