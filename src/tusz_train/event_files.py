"""Annotation files: TUSZ `NAME.csv_bi` and SzCORE `NAME_events.tsv`, read strictly and written whole.

A `.csv_bi` file:

    # version = csv_v1.0.0
    # bname = aaaaaaac_s001_t000
    # duration = 1289.0000 secs
    # montage_file = nedc_eas_default_montage.txt
    #
    channel,start_time,stop_time,label,confidence
    TERM,100.0000,160.0000,seiz,1.0000

A `_events.tsv` file has the columns onset, duration, eventType, confidence, channels, dateTime, recordingDuration.
Both may leave the background out, and list seizures in any order. Confidences, channels and dates are not used.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tusz_train.errors import BadAnnotations
from tusz_train.events import Event, RecordingEvents
from tusz_train.files import publish

CSV_BI, TSV = ".csv_bi", "_events.tsv"
FORMS = (CSV_BI, TSV)  # how a file's name ends

_CSV_COLUMNS = ("channel", "start_time", "stop_time", "label", "confidence")
_TSV_COLUMNS = ("onset", "duration", "eventType", "confidence", "channels", "dateTime", "recordingDuration")
_TSV_NEEDED = ("onset", "duration", "eventType", "recordingDuration")
_HEADER = re.compile(r"#\s*(\w+)\s*=\s*(.*?)\s*")
_SECONDS = re.compile(r"(\S+)\s*secs?")
_SAME_S = 0.011  # durations rounded to hundredths of a second may differ by so much
_UNDATED = "1900-01-01 00:00:00"  # SzCORE's reader demands a date; before 1925 it says "anonymised", as in BIDS


def recording_of(path: Path) -> str:
    """Return the recording that an annotation file's name tells. Raises BadAnnotations for other names."""
    for form in FORMS:
        if path.name.endswith(form) and path.name != form:
            return path.name.removesuffix(form)
    raise BadAnnotations(f"{path}: neither a *.csv_bi nor an *_events.tsv file", hint="rename it, or give another file")


def read_events(path: Path, *, duration: float | None = None) -> RecordingEvents:
    """Return the seizures that a file names.

    `duration` is that of the recording, for a `_events.tsv` file without rows, which cannot tell it.
    Raises BadAnnotations, naming file and line.
    """
    recording = recording_of(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadAnnotations(f"{path}: cannot be read: {error}", hint="look at the file and its permissions") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.name.endswith(CSV_BI):
        return _parse_csv_bi(lines, str(path), recording)
    return _parse_tsv(lines, str(path), recording, duration)


def write_events(path: Path, recording: RecordingEvents) -> None:
    """Write the file in the form that its name tells, whole or not at all."""
    if recording_of(path) != recording.recording:
        raise BadAnnotations(
            f"{path}: would hold the events of {recording.recording}", hint="name the file after its recording"
        )
    text = _as_csv_bi(recording) if path.name.endswith(CSV_BI) else _as_tsv(recording)
    publish(path, text)


# .csv_bi


def _parse_csv_bi(lines: Sequence[tuple[int, str]], name: str, recording: str) -> RecordingEvents:
    comments = [line for _, line in lines if line.startswith("#")]
    header = {match[1]: match[2] for line in comments if (match := _HEADER.fullmatch(line.rstrip()))}
    stated = _SECONDS.fullmatch(header.get("duration", ""))
    if not stated:
        raise BadAnnotations(f"{name}: no duration is stated", hint="a .csv_bi file has '# duration = 1289.0000 secs'")
    duration = _number(stated[1], f"{name}: # duration")
    events = []
    for where, row in _rows([pair for pair in lines if not pair[1].startswith("#")], name, ",", _CSV_COLUMNS):
        if row["channel"] != "TERM":
            raise BadAnnotations(
                f"{where}: the channel is {row['channel']!r}, and TERM in every row of a .csv_bi file",
                hint="per-channel rows are those of the .csv file: give the .csv_bi file of the corpus",
            )
        if row["label"] not in {"seiz", "bckg"}:
            raise BadAnnotations(
                f"{where}: the label is {row['label']!r}", hint="a .csv_bi file knows the labels seiz and bckg only"
            )
        event = _event(_number(row["start_time"], where), _number(row["stop_time"], where), where)
        if row["label"] == "seiz":
            events.append(event)
    return _recording(recording, duration, events, name)


def _as_csv_bi(recording: RecordingEvents) -> str:
    lines = [
        "# version = csv_v1.0.0",
        f"# bname = {recording.recording}",
        f"# duration = {recording.duration:.4f} secs",
        "# montage_file = nedc_eas_default_montage.txt",
        "#",
        ",".join(_CSV_COLUMNS),
    ]
    at = 0.0
    for event in recording.events:
        lines += [_csv_row(at, event.start, "bckg")] if event.start > at else []
        lines.append(_csv_row(event.start, event.stop, "seiz"))
        at = event.stop
    lines += [_csv_row(at, recording.duration, "bckg")] if recording.duration > at else []
    return "\n".join(lines) + "\n"


def _csv_row(start: float, stop: float, label: str) -> str:
    return f"TERM,{start:.4f},{stop:.4f},{label},1.0000"


# _events.tsv


def _parse_tsv(lines: Sequence[tuple[int, str]], name: str, recording: str, duration: float | None) -> RecordingEvents:
    stated, events = None, []
    for where, row in _rows(lines, name, "\t", _TSV_NEEDED):
        here = _number(row["recordingDuration"], where)
        if stated is not None and abs(here - stated) > _SAME_S:
            raise BadAnnotations(
                f"{where}: recordingDuration is {here}, and {stated} in the row before",
                hint="a file is about one recording: state its duration in every row",
            )
        stated = here
        onset = _number(row["onset"], where)
        event = _event(onset, onset + _number(row["duration"], where), where)
        if _is_seizure(row["eventType"], where):
            events.append(event)
    lasts = duration if stated is None else stated
    if lasts is None:
        raise BadAnnotations(
            f"{name}: no row states the recording's duration",
            hint="write one row of the type bckg that lasts as long as the recording",
        )
    return _recording(recording, lasts, events, name)


def _is_seizure(kind: str, where: str) -> bool:
    """Whether an eventType is a kind of seizure: sz, sz_foc_ia, … Raises BadAnnotations for an unknown one."""
    if kind != "bckg" and re.fullmatch(r"sz([_-][\w-]+:?)?", kind) is None:
        raise BadAnnotations(
            f"{where}: the eventType is {kind!r}", hint="it is bckg, or begins with sz, as SzCORE says"
        )
    return kind != "bckg"


def _as_tsv(recording: RecordingEvents) -> str:
    rows = [(event.start, event.stop - event.start, "sz") for event in recording.events]
    lines = ["\t".join(_TSV_COLUMNS)]
    for onset, lasts, kind in rows or [(0.0, recording.duration, "bckg")]:
        values = f"{onset:.4f}", f"{lasts:.4f}", kind, "n/a", "n/a", _UNDATED, f"{recording.duration:.4f}"
        lines.append("\t".join(values))
    return "\n".join(lines) + "\n"


# both


def _rows(
    lines: Sequence[tuple[int, str]], name: str, delimiter: str, needed: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (file and line, row) below the line of columns, which must hold those that are needed."""
    columns = [column.strip() for column in lines[0][1].split(delimiter)] if lines else []
    if not set(needed) <= set(columns) or len(set(columns)) < len(columns):
        raise BadAnnotations(
            f"{name}: the columns are {columns}", hint=f"there must be a line of columns with {', '.join(needed)}"
        )
    for number, line in lines[1:]:
        values = [value.strip() for value in line.split(delimiter)]
        if len(values) != len(columns):
            raise BadAnnotations(
                f"{name}, line {number}: {len(values)} values for {len(columns)} columns",
                hint="the file may have been cut short: make or copy it again",
            )
        yield f"{name}, line {number}", dict(zip(columns, values, strict=True))


def _number(text: str, where: str) -> float:
    """Return the seconds that `text` says."""
    try:
        value = float(text.replace("_", "?"))  # Python would read 1_000
    except ValueError as error:
        raise BadAnnotations(f"{where}: {text!r} is no number", hint="times are seconds, as 100.0000") from error
    if not math.isfinite(value) or value < 0:
        raise BadAnnotations(f"{where}: {text} is no time", hint="times are seconds from 0 on")
    return value


def _event(start: float, stop: float, where: str) -> Event:
    try:
        return Event(start, stop)
    except BadAnnotations as error:
        raise BadAnnotations(f"{where}: {error}", hint=error.hint) from error


def _recording(recording: str, duration: float, events: Sequence[Event], name: str) -> RecordingEvents:
    try:
        return RecordingEvents(recording, duration, tuple(events))
    except BadAnnotations as error:
        raise BadAnnotations(f"{name}: {error}", hint=error.hint) from error
