"""The report of a run: one HTML file that needs nothing else, and its figures as PNG beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tusz_train import report_page as html
from tusz_train.curves import FALSE_ALARMS_PER_DAY, CurveReport
from tusz_train.evaluating import Evaluation
from tusz_train.figures import Drawing
from tusz_train.files import publish
from tusz_train.history import panels
from tusz_train.montage import SAMPLING_RATE
from tusz_train.origin import WARNING
from tusz_train.report_plots import draw_calibration, draw_history, draw_sensitivity, draw_strip
from tusz_train.scoring import Scored
from tusz_train.strips import Strip
from tusz_train.szcore import Counts, mean_of

FIGURES = "figures"  # folder of the PNGs
_FOLDED = "configuration"  # the part of run.json that is too long to be read at once
_NOT_GIVEN = "-"


def write_report(
    path: Path, evaluation: Evaluation, *, run: Mapping[str, Any], history: Sequence[dict[str, Any]] = ()
) -> None:
    """Write the report to `path`, and its figures to `figures/` beside it.

    `run` is the content of `run.json`, `history` that of `metrics.jsonl` (see history.read_history); either may be
    empty. Raises MissingPackage without matplotlib.
    """
    drawings: list[Drawing] = []

    def shown(drawing: Drawing, caption: str) -> str:
        drawings.append(drawing)
        return html.figure(drawing, caption)

    name = str(run.get("name", "Evaluation"))
    sections = [
        _head(name, evaluation),
        _provenance(run, evaluation),
        _training(history, shown),
        _sensitivity(evaluation, shown),
        _calibration(evaluation, shown),
        _patients(evaluation),
        _recordings(evaluation, shown),
    ]
    publish(path, html.page(f"{name}: seizure detection on {evaluation.split}", sections))
    for drawing in drawings:
        publish(path.parent / FIGURES / f"{drawing.name}.png", drawing.png)


def _head(name: str, evaluation: Evaluation) -> str:
    pooled, coverage = evaluation.scores.pooled, evaluation.coverage
    event, ovlp = pooled.szcore.event, pooled.nedc_ovlp
    of_events = f"{event.tp} of {event.ref} events"
    cards = [
        (_ratio(event.f1), "SzCORE event F1", "pooled"),
        (_ratio(event.sensitivity), "SzCORE event sensitivity", of_events),
        (_ratio(event.fp_per_day, 1), "SzCORE FP/day", f"false detections: {event.fp}"),
        (_ratio(ovlp.sensitivity), "NEDC OVLP sensitivity", f"{ovlp.hits} of {ovlp.hits + ovlp.misses} events"),
        (_ratio(ovlp.fa_per_24h, 1), "NEDC OVLP FA/24h", f"false alarms: {ovlp.false_alarms}"),
        (_ratio(evaluation.curves.pooled.auroc_1hz), "AUROC at 1 Hz", "pooled seconds"),
        (_ratio(evaluation.calibration.ece), "ECE at 1 Hz", "calibration error"),
    ]
    subjects = len(evaluation.scores.per_subject)
    lead = f"Seizure detection on {evaluation.split}: {coverage.scored} recordings of {subjects} patients, "
    return "\n".join(
        [
            f"<header>\n<h1>{html.escaped(name)}</h1>",
            html.paragraph(f"{lead}{coverage.seconds / 3600:.1f} h."),
            html.cards(cards),
            *(html.paragraph(sentence, "note") for sentence in coverage.sentences()[1:]),
            *_of_data(evaluation),
            html.paragraph(f"{_described(evaluation)} Numbers of different scorers must not be compared.", "note"),
            "</header>",
        ]
    )


def _of_data(evaluation: Evaluation) -> Iterator[str]:
    for sentence in evaluation.origin.sentences() if evaluation.origin else ():
        yield html.paragraph(sentence, "warning" if sentence.startswith(WARNING) else "")


def _described(evaluation: Evaluation) -> str:
    used, settings = evaluation.detection, evaluation.settings
    gaps = f"gaps under {used.close_gap_s:g} s are closed" if used.close_gap_s else "gaps stay open"
    return (
        f"A detection begins at probability {used.threshold:.4f} ({evaluation.threshold_from}) and ends below "
        f"{used.threshold * used.release:.4f}; {gaps}, detections under "
        f"{used.min_duration_s:g} s are dropped. Windows every {settings.stride_s} s; durations are those of "
        f"the {evaluation.coverage.duration_from}."
    )


def _training(history: Sequence[dict[str, Any]], shown: Any) -> str:
    found = panels(history)
    if not found:
        return html.section("training", "Training", html.paragraph("No training was logged for this report.", "note"))
    last = max(step for points in found.values() for step, _ in points)
    caption = f"What training logged, by optimiser step, up to step {last:g}."
    return html.section("training", "Training", shown(draw_history(found), caption))


def _sensitivity(evaluation: Evaluation, shown: Any) -> str:
    curves = evaluation.curves
    head = ("scorer", *(f"≤ {limit:g} per 24 h" for limit in FALSE_ALARMS_PER_DAY))
    rows = [
        (name, *(_reached(curves, scorer, limit) for limit in FALSE_ALARMS_PER_DAY))
        for name, scorer in (("NEDC OVLP, FA/24h", "nedc_ovlp"), ("SzCORE event, FP/day", "szcore_event"))
    ]
    caption = (
        f"Left: all {len(curves.points)} thresholds; the dots are the threshold used, "
        f"{evaluation.detection.threshold:.4f}; the axis is linear up to 1, logarithmic above. Right: SzCORE event "
        "scores."
    )
    return html.section(
        "sensitivity",
        "Sensitivity against false alarms",
        shown(draw_sensitivity(curves, evaluation.detection.threshold), caption),
        html.paragraph(
            "Highest sensitivity within a limit of false alarms, pooled, and the threshold that reaches it:"
        ),
        html.table(head, rows),
    )


def _reached(curves: CurveReport, scorer: str, limit: float) -> str:
    found = curves.sensitivity_at(scorer, limit)
    at = "" if found["threshold"] is None else f" (at {found['threshold']:.4f})"
    return f"{_ratio(found['sensitivity'])}{at}"


def _calibration(evaluation: Evaluation, shown: Any) -> str:
    measured = evaluation.calibration
    caption = (
        f"Left: points on the dotted line are calibrated; expected calibration error {_ratio(measured.ece, 4)}, "
        f"Brier score {_ratio(measured.brier, 4)}. Right: how much time stands behind each point."
    )
    drawn = shown(draw_calibration(measured), caption)
    why = "Where windows were balanced in training, probabilities come out too high; the threshold makes up for it."
    return html.section("calibration", "Calibration", drawn, html.paragraph(why, "note"))


_PATIENT_HEAD = (
    *("patient", "recordings", "hours", "AUROC at 1 Hz"),
    *("SzCORE events", "found", "false", "sensitivity", "precision", "F1", "FP/day"),
    *("OVLP hits", "misses", "FA/24h"),
)


def _patients(evaluation: Evaluation) -> str:
    subjects = evaluation.scores.per_subject
    ordered = sorted(subjects.items(), key=lambda item: (_defined(item[1].szcore.event.f1), item[0]))
    rankings = evaluation.curves.per_subject
    rows = [_patient_row(name, one, rankings[name].auroc_1hz) for name, one in ordered]
    macro = mean_of(one.szcore.event for one in subjects.values())
    average = "Mean over patients for whom it is defined (SzCORE's leaderboard): " + ", ".join(
        f"{name} {_ratio(macro[key], digits)}"
        for name, key, digits in (
            ("F1", "f1", 3),
            ("sensitivity", "sensitivity", 3),
            ("precision", "precision", 3),
            ("FP/day", "fp_per_day", 1),
        )
    )
    note = f'Lowest F1 first. "{_NOT_GIVEN}" is undefined: sensitivity without seizures, precision without detections.'
    return html.section(
        "patients",
        "Patients",
        html.paragraph(average + "."),
        html.paragraph(note, "note"),
        html.table(
            _PATIENT_HEAD, rows, _patient_row("all", evaluation.scores.pooled, evaluation.curves.pooled.auroc_1hz)
        ),
    )


def _patient_row(name: str, one: Scored, auroc: float | None) -> Sequence[str]:
    event: Counts = one.szcore.event
    ovlp = one.nedc_ovlp
    return (
        *(name, str(one.recordings), f"{ovlp.seconds / 3600:.2f}", _ratio(auroc)),
        *(str(event.ref), str(event.tp), str(event.fp), _ratio(event.sensitivity), _ratio(event.precision)),
        *(_ratio(event.f1), _ratio(event.fp_per_day, 1), str(ovlp.hits), str(ovlp.misses), _ratio(ovlp.fa_per_24h, 1)),
    )


def _recordings(evaluation: Evaluation, shown: Any) -> str:
    if not evaluation.strips:
        nothing = "No recording holds a seizure or a detection."
        return html.section("recordings", "Best and worst recording", html.paragraph(nothing, "note"))
    how = "By SzCORE sample F1, of recordings with a seizure or a detection."
    parts = ["\n".join(_strip(strip, shown)) for strip in evaluation.strips]
    return html.section("recordings", "Best and worst recording", html.paragraph(how, "note"), *parts)


def _strip(strip: Strip, shown: Any) -> Iterator[str]:
    scored = strip.scored
    sample, ovlp = scored.szcore.sample, scored.nedc_ovlp
    yield f"<article>\n<h3>{strip.kind.capitalize()}: {html.escaped(scored.name)}</h3>"
    yield html.paragraph(
        f"SzCORE sample F1 {_ratio(sample.f1)}: {sample.tp} of {sample.ref} ictal seconds found, {sample.fp} false. "
        f"NEDC OVLP: {ovlp.hits} of {ovlp.hits + ovlp.misses} seizures hit, {ovlp.false_alarms} false alarms."
    )
    stop = strip.start + strip.eeg.shape[1] / SAMPLING_RATE
    yield shown(
        draw_strip(strip),
        f"Above: the whole recording. Below: {strip.start:g} to {stop:g} s of it, chosen for a {strip.shows}; "
        f"{len(strip.eeg)} channels, standardised; between two of them lie 6 standard deviations, where lines are cut "
        "off. Reference seizures are shaded.",
    )
    yield "</article>"


def _provenance(run: Mapping[str, Any], evaluation: Evaluation) -> str:
    rows = list(_flat({name: value for name, value in run.items() if name != _FOLDED}))
    told = html.facts(rows) if rows else html.paragraph("No run.json was given.", "note")
    folds = [html.folded("Configuration", run[_FOLDED])] if _FOLDED in run else []
    how = {key: value for key, value in evaluation.as_dict().items() if key in {"inference", "detection", "coverage"}}
    trained = html.section("provenance", "Training run", told, *folds, html.folded("Evaluation settings", how))
    if evaluation.origin is None:
        return trained
    return html.section("data", "Evaluated data", html.facts(_flat(evaluation.origin.as_dict()))) + "\n" + trained


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, one in value.items():
        label = f"{above}{name.replace('_', ' ')}"
        if isinstance(one, Mapping):
            yield from _flat(one, f"{label}: ")
        elif isinstance(one, list) and one and all(isinstance(row, Mapping) for row in one):
            yield from ((label, ", ".join(map(str, row.values()))) for row in one)
        elif isinstance(one, list):
            yield label, ", ".join(map(str, one)) or "none"
        else:
            yield label, _NOT_GIVEN if one is None else str(one)


def _ratio(value: float | None, digits: int = 3) -> str:
    return _NOT_GIVEN if value is None else f"{value:.{digits}f}"


def _defined(value: float | None) -> float:
    return 2.0 if value is None else value
