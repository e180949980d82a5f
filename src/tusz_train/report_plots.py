"""What a report draws: training curves, sensitivity against false alarms, calibration, recordings.

Axes: C = channels, T = samples, K = columns of a drawing.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tusz_train.calibration import Calibration
from tusz_train.curves import FALSE_ALARMS_PER_DAY, CurveReport
from tusz_train.events import RecordingEvents
from tusz_train.figures import Colours, Drawing, draw
from tusz_train.montage import CHANNELS, SAMPLING_RATE
from tusz_train.ranking import Float32s
from tusz_train.strips import Strip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]

_WIDE = 9.6  # inches, across the page
_MOST_COLUMNS = 1100  # of a line; more cannot be seen
_APART = 6.0  # standard deviations between two channels


def draw_history(panels: Mapping[str, Points]) -> Drawing:
    """Draw what was logged, a panel each: (step, value) by name."""
    across = min(3, len(panels))
    down = -(-len(panels) // across)

    def drawing(figure: "Figure", colours: Colours) -> None:
        axes = list(figure.subplots(down, across, squeeze=False, sharex=True).flat)
        for ax, (name, points) in zip(axes, panels.items(), strict=False):
            steps, values = zip(*points, strict=True)
            few = {"marker": "o", "markersize": 3.5} if len(points) < 40 else {}
            ax.plot(steps, values, color=colours["one"], **few)
            ax.set_title(name)
            ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=False)
        for ax in axes[len(panels) :]:
            ax.remove()
        figure.supxlabel("optimiser step", fontsize=9)

    return draw("training", (_WIDE, 2.1 * down + 0.3), drawing)


def draw_sensitivity(curves: CurveReport, threshold: float) -> Drawing:
    """Draw sensitivity against false alarms per 24 h over all thresholds, pooled, for each scorer."""
    scorers = (
        ("NEDC OVLP (FA/24h)", "nedc_ovlp", "fa_per_24h", "one"),
        ("SzCORE event (FP/day)", "szcore_event", "fp_per_day", "two"),
    )
    at = min(curves.points, key=lambda point: abs(point.threshold - threshold))

    def drawing(figure: "Figure", colours: Colours) -> None:
        left, right = figure.subplots(1, 2)
        left.set_xscale("symlog", linthresh=1, linscale=0.6)
        for label, scorer, rate, colour in scorers:
            counts = [getattr(point, scorer) for point in curves.points]
            xs, ys = [getattr(one, rate) for one in counts], [one.sensitivity or 0.0 for one in counts]
            left.plot(xs, ys, color=colours[colour], label=label)
            here = getattr(at, scorer)
            left.plot(getattr(here, rate), here.sensitivity or 0.0, "o", color=colours[colour], markersize=7)
        highest = max(getattr(getattr(point, s), r) for point in curves.points for _, s, r, _ in scorers)
        ticks = [0, *sorted(FALSE_ALARMS_PER_DAY), *(t for t in (100, 1000, 10000) if t < highest * 2)]
        left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        left.minorticks_off()
        left.set(xlim=(0, max(12.0, highest * 1.2)), ylim=(-0.02, 1.02))
        left.set(xlabel="false alarms per 24 h", ylabel="sensitivity", title="Sensitivity against false alarms, pooled")
        left.legend(loc="lower right")
        for label, name, colour in (
            ("F1", "f1", "two"),
            ("sensitivity", "sensitivity", "one"),
            ("precision", "precision", "three"),
        ):
            known = [(p.threshold, v) for p in curves.points if (v := getattr(p.szcore_event, name)) is not None]
            right.plot([x for x, _ in known], [y for _, y in known], color=colours[colour], label=label)
        right.axvline(threshold, color=colours["muted"], linestyle=":", label="threshold used")
        right.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="threshold", title="SzCORE event scores by threshold, pooled")
        right.legend(loc="lower center", ncols=2)

    return draw("sensitivity", (_WIDE, 3.8), drawing)


def draw_calibration(calibration: Calibration) -> Drawing:
    """Draw the reliability diagram at 1 Hz, and how many seconds stand behind each of its points."""
    bins = calibration.bins

    def drawing(figure: "Figure", colours: Colours) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        left.plot([0, 1], [0, 1], color=colours["muted"], linestyle=":", label="perfectly calibrated")
        ps, shares = [p for p, _, _ in bins], [share for _, share, _ in bins]
        left.plot(ps, shares, color=colours["one"], marker="o", markersize=5, label="model")
        left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean predicted probability")
        left.set(ylabel="share of ictal seconds", title="Reliability at 1 Hz")
        left.legend(loc="upper left")
        n_bins = len(calibration.seconds)
        edges = np.arange(n_bins) / n_bins
        hours = np.array([calibration.seconds, calibration.ictal]) / 3600
        for values, label, colour in ((hours[0], "all", "one"), (hours[1], "ictal", "two")):
            right.bar(edges, values, 0.85 / n_bins, align="edge", color=colours[colour], label=label)
        right.set_yscale("log")
        right.yaxis.set_major_formatter(lambda hours, _place: f"{hours:g}")
        right.set(
            xlim=(0, 1), xlabel="predicted probability", ylabel="hours (logarithmic)", title="Time by probability"
        )
        right.legend(loc="upper right")

    return draw("calibration", (_WIDE, 3.6), drawing)


def draw_strip(strip: Strip) -> Drawing:
    """Draw a recording: its probabilities and events as a whole, and all channels of one window."""

    def drawing(figure: "Figure", colours: Colours) -> None:
        whole, around, eeg = figure.subplots(3, 1, height_ratios=(1.1, 0.9, 5.2))
        _draw_whole(whole, strip, colours)
        _draw_window(around, eeg, strip, colours)

    return draw(f"{strip.kind}-recording", (_WIDE, 8.6), drawing)


def _draw_whole(ax: "Axes", strip: Strip, colours: Colours) -> None:
    duration = strip.scored.reference.duration
    xs, ys = _highest(strip.probabilities, strip.rate)
    _bars(ax, strip.scored.reference, strip.scored.hypothesis, colours, unit=60)
    ax.plot(xs / 60, ys, color=colours["one"], linewidth=1)
    span = (strip.start / 60, (strip.start + strip.eeg.shape[1] / SAMPLING_RATE) / 60)
    ax.axvspan(*span, color=colours["muted"], alpha=0.18, linewidth=0, zorder=0.5)
    ax.set(xlim=(0, duration / 60), xlabel="minutes from the recording's beginning", title="Whole recording")
    ax.legend(*_legend(colours), loc="lower right", bbox_to_anchor=(1, 1.0), ncols=4, borderaxespad=0.2)


def _draw_window(around: "Axes", eeg: "Axes", strip: Strip, colours: Colours) -> None:
    stop = strip.start + strip.eeg.shape[1] / SAMPLING_RATE
    own = slice(round(strip.start * strip.rate), round(stop * strip.rate))
    p_T = strip.probabilities[own]
    around.plot(strip.start + (np.arange(len(p_T)) + 0.5) / strip.rate, p_T, color=colours["one"], linewidth=1)
    _bars(around, strip.scored.reference, strip.scored.hypothesis, colours, unit=1)
    around.set(xlim=(strip.start, stop), title=f"{strip.start:g} to {stop:g} s: {strip.shows}")
    around.tick_params(labelbottom=False)
    for number, x_T in enumerate(strip.eeg):
        xs, ys = _extremes(np.clip(np.nan_to_num(x_T), -_APART, _APART))
        eeg.plot(strip.start + xs / SAMPLING_RATE, ys - number * _APART, color=colours["ink"], linewidth=0.45)
    _spans(eeg, strip.scored.reference, colours["reference"])
    n_channels = len(strip.eeg)
    names = CHANNELS if n_channels == len(CHANNELS) else [str(number + 1) for number in range(n_channels)]
    eeg.set_yticks([-number * _APART for number in range(n_channels)], names)
    eeg.set(xlim=(strip.start, stop), ylim=(-(n_channels - 0.2) * _APART, 0.9 * _APART))
    eeg.set(xlabel="seconds from the recording's beginning")
    eeg.grid(axis="y", visible=False)
    eeg.tick_params(axis="y", length=0)


def _bars(
    ax: "Axes", reference: RecordingEvents, hypothesis: RecordingEvents, colours: Colours, *, unit: float
) -> None:
    """Draw events above the probabilities: the reference's upper, what was detected lower."""
    for events, y, colour in ((reference, 1.34, "reference"), (hypothesis, 1.1, "detected")):
        spans = [(event.start / unit, (event.stop - event.start) / unit) for event in events.events]
        ax.broken_barh(spans, (y, 0.18), color=colours[colour], linewidth=0.8)
    ax.set(ylim=(-0.03, 1.6), ylabel="probability")
    ax.set_yticks([0, 0.5, 1])


def _spans(ax: "Axes", events: RecordingEvents, colour: str) -> None:
    for event in events.events:
        ax.axvspan(event.start, event.stop, color=colour, alpha=0.12, linewidth=0)


def _legend(colours: Colours) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - see figures
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [
        Patch(color=colours["reference"]),
        Patch(color=colours["detected"]),
        Line2D([], [], color=colours["one"]),
        Patch(color=colours["muted"], alpha=0.25),
    ]
    return handles, ["reference", "detected", "probability", "shown below"]


def _highest(p_T: Float32s, rate: float) -> tuple[Any, Any]:
    """Return (seconds, probabilities) (K,) of a long trace, the highest of each column, so that no peak is lost."""
    each = max(1, -(-len(p_T) // _MOST_COLUMNS))
    ys = np.maximum.reduceat(p_T, np.arange(0, len(p_T), each))
    return (np.arange(len(ys)) + 0.5) * each / rate, ys


def _extremes(x_T: Float32s) -> tuple[Any, Any]:
    """Return (samples, values) (2K,) of a long trace: lowest and highest of each column, as an oscilloscope has it."""
    each = max(1, -(-len(x_T) // _MOST_COLUMNS))
    columns = np.arange(0, len(x_T), each)
    ys = np.stack([np.minimum.reduceat(x_T, columns), np.maximum.reduceat(x_T, columns)], 1).ravel()
    return np.repeat(columns + each / 2, 2), ys
