"""Checkpoints: everything that a run goes on from, in one file, with a record beside it that proves it whole.

checkpoints/<run.name>/step-00001200.pt     torch.save of names, numbers and tensors: no code is read back
checkpoints/<run.name>/step-00001200.json   written after it: its size, its SHA-256, the step, the metric

A file without its record, or unlike it, is torn: it is passed over, and said so. Any other reason for which one cannot
be read is an error: to go on from an earlier one would throw away what was trained since.

A step that is written again gets the other of two names, step-00001200.b.pt, until its record names that one: at any
moment one of them is whole.
"""

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tusz_cache import Durability, ssd
from tusz_cache.disk_errors import translated
from tusz_train.errors import BadCheckpoint, TornCheckpoint

FORMAT = 2  # 2: with the file limit
_OTHER = ".b.pt"  # the other name of a step that is written again
_HINT = "give a file step-*.pt with its step-*.json beside it, or their folder"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Record:
    """What stands beside a checkpoint."""

    file: str
    step: int
    bytes: int
    sha256: str
    metric: float | None  # what its own weights reach on dev; None: they were not judged
    threshold: float | None  # that reaches it
    since: int = 0  # step at which the history began that its metric belongs to; metrics of others do not compare
    format: int = FORMAT


def save(folder: Path, content: Mapping[str, Any], durability: Durability) -> Path:
    """Write a checkpoint whole or not at all, so that it survives as the policy says. Returns its file.

    content: with its step, metric, threshold, and since. Raises NoSpace, TargetError, BadCheckpoint; earlier
    checkpoints stay, one of the same step until this one is whole.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    data = buffer.getvalue()
    path = folder / f"step-{content['step']:08d}.pt"
    before = _named(_record_of(path))
    if before == path.name:
        path = path.with_suffix(_OTHER)
    record = Record(
        file=path.name,
        step=content["step"],
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        metric=content["metric"],
        threshold=content["threshold"],
        since=content.get("since", 0),
    )
    target = ssd.Target(folder, durability)
    with translated(folder):
        ssd.make_directories([folder])
    ssd.write_file(target, path, data)
    ssd.write_file(target, _record_of(path), json.dumps(asdict(record), indent=1).encode() + b"\n")
    if before not in {None, path.name}:
        ssd.remove(target, folder / str(before))
    if durability.commit is not None:
        durability.commit()
    return path


def load(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU. path: a file, or a folder, of which the best one is taken.

    Raises BadCheckpoint if there is none, or it cannot be read; TornCheckpoint if it is torn.
    """
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error
    if is_folder:
        found = records(path)
        if not found:
            raise BadCheckpoint(f"{path} holds no checkpoint", hint=_HINT)
        path = path / (best(found) or found[-1]).file
    elif not is_file and (other := _named(_record_of(path))):
        path = path.with_name(other)  # the step was written again
    elif not is_file:
        raise BadCheckpoint(f"there is no checkpoint at {path}", hint=_HINT)
    return _read(path, _read_record(_record_of(path)))


def newest(folder: Path, say: Say) -> Path | None:
    """Return the whole checkpoint of the highest step; None if no run ever finished one.

    Torn ones are passed over, and `say` says so. Raises BadCheckpoint if all are torn, or one cannot be read.
    """
    for path in _unnamed(folder):
        say(f"warning: {path} is in no record, so it was never finished: passed over")
    for record in reversed(records(folder, say)):
        try:
            _whole(folder / record.file, record)
        except TornCheckpoint as error:
            say(f"warning: {error}: passed over")
        else:
            return folder / record.file
    if _listed(folder, ".json"):  # to begin anew would throw away what they stand for
        raise BadCheckpoint(
            f"{folder} has checkpoints, but none that is whole",
            hint="repair the folder, or begin anew with --resume never (and another --request, if you give one), "
            "which sets it aside",
        )
    return None


def records(folder: Path, say: Say = lambda _: None) -> list[Record]:
    """Return the records of a folder, by step. Torn ones are passed over. Raises BadCheckpoint for any other reason."""
    found = []
    for path in _listed(folder, ".json"):
        try:
            found.append(_read_record(path))
        except TornCheckpoint as error:
            say(f"warning: {error}: passed over")
    return sorted(found, key=lambda record: record.step)


def best(found: Sequence[Record]) -> Record | None:
    """Return the record of the highest metric in the last one's history, of equals the first; None if none was judged.

    found: by step.
    """
    judged = [record for record in found if record.metric is not None and record.since == found[-1].since]
    return max(judged, key=lambda record: (record.metric or 0.0, -record.step), default=None)


def to_keep(found: Sequence[Record], last: int) -> set[int]:
    """Return the steps of the `last` checkpoints, and of the best one of each history. Pure."""
    histories = [[one for one in found if one.since == since] for since in {record.since for record in found}]
    tops = [top for history in histories if (top := best(history))]
    return {record.step for record in [*found[-last:], *tops]}


def prune(folder: Path, last: int, durability: Durability) -> None:
    """Remove all but the last checkpoints and the best ones, and what a killed run left."""
    found = records(folder)
    kept = to_keep(found, last)
    remove(folder, [record for record in found if record.step not in kept], durability)
    for left in [*_unnamed(folder), *folder.glob("*.draft")]:
        ssd.remove(ssd.Target(folder, durability), left)


def remove(folder: Path, those: Iterable[Record], durability: Durability) -> None:
    """Remove checkpoints: first the record, so that nobody goes on from one of which half is left."""
    target = ssd.Target(folder, durability)
    for record in those:
        ssd.remove(target, _record_of(folder / record.file))
        ssd.remove(target, folder / record.file)


def move(folder: Path, those: Iterable[Record], to: Path, durability: Durability) -> None:
    """Move checkpoints into the folder `to`, which is made. Those whose file is missing are removed."""
    for record in those:
        path = folder / record.file
        if path.exists():
            moves = [(path, to / path.name), (_record_of(path), to / _record_of(path).name)]
            ssd.publish(ssd.Target(to, durability), moves)
        else:
            remove(folder, [record], durability)


def _record_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(_OTHER).removesuffix(".pt") + ".json")


def _listed(folder: Path, suffix: str) -> list[Path]:
    """Return the files of checkpoints with a suffix; none if there is no folder. Raises BadCheckpoint."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith("step-") and path.suffix == suffix)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


def _named(record: Path) -> str | None:
    """Return the file that a record names; None if it is not there, or torn."""
    try:
        return _read_record(record).file
    except TornCheckpoint:
        return None


def _unnamed(folder: Path) -> list[Path]:
    """Return the files that no record names. Not those whose record is there and torn: somebody may mend it."""
    paths = _listed(folder, ".pt")
    return [
        path for path in paths if not _record_of(path).exists() or _named(_record_of(path)) not in {None, path.name}
    ]


def _read_record(path: Path) -> Record:
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise TornCheckpoint(f"{path} is not there, so its checkpoint is not known to be whole", hint=_HINT) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        told = json.loads(text)
        if told["format"] != FORMAT:
            raise BadCheckpoint(
                f"{path} has format {told['format']}, this version reads {FORMAT}",
                hint="go on with the version of tusz-cache that wrote it, or begin anew with --resume never",
            )
        return Record(**told)
    except (ValueError, TypeError, KeyError) as error:
        raise TornCheckpoint(f"{path} is torn: it is no record of a checkpoint", hint=_HINT) from error


def _unreadable(path: Path, error: OSError) -> BadCheckpoint:
    return BadCheckpoint(
        f"{path} cannot be read: {error.strerror}",
        hint="check its permissions and its disk; an earlier checkpoint is not taken in its place unless it is named "
        "with --resume PATH",
    )


def _whole(path: Path, record: Record) -> bytes:
    """Return a checkpoint's bytes. Raises TornCheckpoint unless they are what its record says."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise TornCheckpoint(f"{path} is not there, and its record is", hint="take an earlier one") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if (len(data), hashlib.sha256(data).hexdigest()) != (record.bytes, record.sha256):
        raise TornCheckpoint(f"{path} is torn: it is not what its record says", hint="take an earlier one")
    return data


def _read(path: Path, record: Record) -> dict[str, Any]:
    data = _whole(path, record)
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadCheckpoint(f"{path} cannot be read: {error}", hint=_HINT) from error
    return content
