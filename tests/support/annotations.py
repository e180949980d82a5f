"""Annotation files as other tools write them, independent of the package's own writer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tusz_train.events import Event, RecordingEvents

Spans = Sequence[tuple[float, float]]

HOUR = 3600.0


def write_csv_bi(path: Path, spans: Spans, duration: float = HOUR) -> None:
    """Write seizures as the corpus does in a reference: rows for them only."""
    name = path.name.removesuffix(".csv_bi")
    head = f"# version = csv_v1.0.0\n# bname = {name}\n# duration = {duration:.4f} secs\n# montage_file = x.txt\n#\n"
    rows = "".join(f"TERM,{start:.4f},{stop:.4f},seiz,1.0000\n" for start, stop in spans)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}channel,start_time,stop_time,label,confidence\n{rows}")


def write_tsv(path: Path, spans: Spans, duration: float = HOUR) -> None:
    """Write seizures as SzCORE has them."""
    rows = [(start, stop - start, "sz_foc_ia") for start, stop in spans] or [(0, duration, "bckg")]
    lines = ["onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration"]
    lines += [f"{on:.2f}\t{span:.2f}\t{kind}\tn/a\tn/a\t2020-01-01 00:00:00\t{duration:.2f}" for on, span, kind in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


WRITERS = {".csv_bi": write_csv_bi, "_events.tsv": write_tsv}


def recording(name: str, spans: Spans, duration: float = HOUR) -> RecordingEvents:
    """Return the value that such a file holds."""
    return RecordingEvents(name, duration, tuple(Event(start, stop) for start, stop in spans))


@st.composite
def spans(draw: st.DrawFn, most: int = 12, rate: int = 20) -> list[tuple[float, float]]:
    """Draw seizures of an hour that lie apart, on a grid of 1 / rate seconds."""
    count = draw(st.integers(0, most))
    steps = st.integers(0, int(HOUR * rate))
    bounds = sorted(draw(st.lists(steps, min_size=2 * count, max_size=2 * count, unique=True)))
    return [(start / rate, stop / rate) for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]


def random_spans(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draw what `spans` draws, from a generator, where thousands are needed."""
    count = int(rng.integers(0, 12))
    bounds = np.sort(rng.choice(int(HOUR * 20), 2 * count, replace=False)) / 20
    return [(float(start), float(stop)) for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]
