"""Is it learnt, and was it worth learning? `python -m bench.learn`: SzCORE event F1 on dev of the synthetic corpus.

Line length above a threshold is tuned on train. The untrained model gets the threshold that is best for it on dev,
which is more than it is due. A trained model's events are read from `--events`, one .csv_bi file a recording of dev.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from bench import line_length
from bench.line_length import Recording
from tusz_cache.packing.npz import read_windows
from tusz_cache.synth import SIZES, write_cache
from tusz_cache.tusz import STRIDE, WINDOW
from tusz_train import szcore
from tusz_train.curves import Predicted, score_predictions
from tusz_train.event_files import read_events
from tusz_train.events import Detection, Event, RecordingEvents, find_events
from tusz_train.model.architecture import PRESETS
from tusz_train.model.seizure_transformer import SeizureTransformer
from tusz_train.montage import SAMPLING_RATE
from tusz_train.stitch import hann, stitch
from tusz_train.szcore import Counts, shown

_AS_LABELLED = Detection(threshold=1.0, min_duration_s=0.0)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="the corpus, made if it is not there (default: made and removed)")
    parser.add_argument("--events", type=Path, help="a trained model's events on dev, NAME.csv_bi")
    options = parser.parse_args()
    torch.set_num_threads(2)
    with corpus(options.cache) as root:
        train, dev = (list(recordings(root / split)) for split in ("train", "dev"))
    ictal = sum(event.stop - event.start for _, one in train + dev for event in one.events)
    seconds = sum(one.duration for _, one in train + dev)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} cores")
    print(f"{len(train)} recordings of train, {len(dev)} of dev, {seconds / 3600:.1f} h, {ictal / seconds:.1%} ictal\n")
    detector, on_train = line_length.tune(train)
    print("| detector | event F1 on dev | sensitivity | precision | found | false |\n|---|---|---|---|---|---|")
    show("everything is a seizure", everything(dev))
    show("line length", line_length.evaluate(detector, dev))
    show("untrained `small` model", untrained(dev))
    if options.events:
        show("trained model", trained(dev, options.events))
    print(f"\nline length reaches {shown(on_train.f1)} on train, with {detector}")


@contextmanager
def corpus(root: Path | None) -> Iterator[Path]:
    """Give the place of the corpus, after making it if need be."""
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) if root is None else root
        if not (made / "dev" / "manifest.json").exists():
            write_cache(made, SIZES["learn"], workers=2)
        yield made


def recordings(split: Path) -> Iterator[Recording]:
    """Yield the recordings of a split, put together again from their windows; those of 0 windows are left out."""
    for path in sorted(split.glob("*.npz")):
        windows_NCT, labels_NT = read_windows(path)
        if labels_NT is None or not len(windows_NCT):
            continue
        y_T = joined(labels_NT)
        name, duration = path.name.removesuffix("_windows.npz"), len(y_T) / SAMPLING_RATE
        yield joined(windows_NCT), RecordingEvents(name, duration, find_events(y_T, SAMPLING_RATE, _AS_LABELLED))


def joined(windows: np.ndarray) -> np.ndarray:
    """Return (..., T) of windows (N, ..., 15360) that begin every 2560 samples."""
    return np.concatenate([windows[0], *(window[..., -STRIDE:] for window in windows[1:])], axis=-1)


def everything(dev: Sequence[Recording]) -> Counts:
    """Count what one event over each whole recording reaches: whoever finds nothing out can have as much."""
    whole = ((one, RecordingEvents(one.recording, one.duration, (Event(0, one.duration),))) for _, one in dev)
    return sum((szcore.count_events(*pair) for pair in whole), Counts())


def untrained(dev: Sequence[Recording]) -> Counts:
    """Count what fresh weights reach at the threshold of which they make most."""
    torch.manual_seed(0)
    model = SeizureTransformer(PRESETS["small"]).eval()
    predicted = [Predicted(one, probabilities(model, x_CT), SAMPLING_RATE) for x_CT, one in dev]
    values = np.concatenate([one.probabilities for one in predicted])
    thresholds = sorted(set(np.quantile(values, np.linspace(0.01, 0.999, 50)).tolist()))  # they are close together
    return score_predictions(predicted, thresholds=thresholds).best_szcore_event_f1.szcore_event


def probabilities(model: torch.nn.Module, x_CT: np.ndarray) -> np.ndarray:
    """Return (T,) of a recording, stitched from windows every 10 s."""
    starts = range(0, x_CT.shape[1] - WINDOW + 1, STRIDE)
    with torch.inference_mode():
        windows = torch.from_numpy(np.stack([x_CT[:, start : start + WINDOW] for start in starts]))
        p_NT = torch.cat([model(part).sigmoid() for part in windows.split(8)]).numpy()
    return stitch(zip(starts, p_NT, strict=True), x_CT.shape[1], hann(WINDOW))


def trained(dev: Sequence[Recording], folder: Path) -> Counts:
    """Count the events that a run has written."""
    total = Counts()
    for _, reference in dev:
        events = read_events(folder / f"{reference.recording}.csv_bi").events
        total += szcore.count_events(reference, RecordingEvents(reference.recording, reference.duration, events))
    return total


def show(name: str, counts: Counts) -> None:
    """Print a row."""
    ratios = f"{shown(counts.f1)} | {shown(counts.sensitivity)} | {shown(counts.precision)}"
    print(f"| {name} | {ratios} | {counts.tp} of {counts.ref} | {counts.fp} |", flush=True)


if __name__ == "__main__":
    main()
