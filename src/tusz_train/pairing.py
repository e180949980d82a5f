"""Which annotation file belongs to which, in two folders."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tusz_cache.errors import UsageError
from tusz_train.errors import BadAnnotations
from tusz_train.event_files import FORMS, read_events, recording_of
from tusz_train.events import RecordingEvents

_SHOWN = 10  # files named in a hint


def pair_files(references: Path, hypotheses: Path) -> dict[str, tuple[Path, Path]]:
    """Return (reference, hypothesis) by recording, in the order of names. Folders below are searched as well.

    The references' form decides which files are looked at, so that a folder may hold the same hypotheses in both forms.
    Raises UsageError for a folder without files, mixed forms, two files of one recording, a file without its partner.
    """
    form, ours = _one_form(references)
    theirs = _files(hypotheses, form)
    if not theirs and (other := [files for one in FORMS if (files := _files(hypotheses, one))]):
        raise UsageError(
            f"references are *{form} files, hypotheses are not",
            hint=f"give both in one form; there are e.g. {_named([str(next(iter(other[0].values())))])}",
        )
    alone = [f"{name} (no hypothesis)" for name in sorted(ours.keys() - theirs.keys())]
    alone += [f"{name} (no reference)" for name in sorted(theirs.keys() - ours.keys())]
    if alone:
        raise UsageError(
            f"{len(alone)} of {len(ours.keys() | theirs.keys())} recordings have no partner",
            hint=f"a recording without seizures needs its file too; alone are {_named(alone)}",
        )
    return {name: (ours[name], theirs[name]) for name in sorted(ours)}


def read_references(folder: Path) -> dict[str, RecordingEvents]:
    """Return the references of a folder, of one form, by recording. Raises UsageError and BadAnnotations."""
    files = [*_one_form(folder)[1].values()]
    return {one.recording: one for one in map(read_events, files)}


def read_pairs(
    pairs: Mapping[str, tuple[Path, Path]], *, tolerance_s: float
) -> Iterator[tuple[RecordingEvents, RecordingEvents]]:
    """Read pair after pair. A hypothesis gets its reference's duration: cut there, or background up to there.

    Raises BadAnnotations where durations differ by more than `tolerance_s`.
    """
    if not tolerance_s >= 0:
        raise UsageError(f"a tolerance of {tolerance_s} s makes no sense", hint="give seconds, 0 or more")
    for ours, theirs in pairs.values():
        reference = read_events(ours)
        hypothesis = read_events(theirs, duration=reference.duration)
        if abs(hypothesis.duration - reference.duration) > tolerance_s:
            raise BadAnnotations(
                f"{theirs}: lasts {hypothesis.duration:g} s, and its reference {reference.duration:g} s",
                hint="state the recording's own duration, not that of its windows, or allow for it by --tolerance",
            )
        yield reference, RecordingEvents(hypothesis.recording, reference.duration, hypothesis.events)


def _one_form(references: Path) -> tuple[str, dict[str, Path]]:
    """Return the form of a folder's references, and their files by recording."""
    found = {form: _files(references, form) for form in FORMS}
    forms = [form for form, files in found.items() if files]
    if len(forms) > 1:
        firsts = [str(next(iter(found[form].values()))) for form in forms]
        raise UsageError(
            f"{references} holds both {' and '.join('*' + form for form in forms)} files",
            hint=f"put references of one form into one folder; there are e.g. {_named(firsts)}",
        )
    if not forms:
        raise UsageError(
            f"{references} holds no *.csv_bi and no *_events.tsv files",
            hint="give the folder with the corpus' .csv_bi files; its per-channel .csv files are not read",
        )
    return forms[0], found[forms[0]]


def _files(folder: Path, form: str) -> dict[str, Path]:
    """Return the files of a form below a folder by recording."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="give the folder that holds the annotation files")
    found = defaultdict(list)
    for path in sorted(folder.rglob(f"*{form}")):
        found[recording_of(path)].append(path)
    if twice := [str(path) for paths in found.values() if len(paths) > 1 for path in paths]:
        raise UsageError(
            f"{folder} holds several files of one recording", hint=f"leave one of each; there are {_named(twice)}"
        )
    return {name: paths[0] for name, paths in found.items()}


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
