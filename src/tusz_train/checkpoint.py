"""Checkpoints: everything that a run goes on from, in one file, with a record beside it that proves it whole.

checkpoints/<run.name>/step-00001200.pt     torch.save of names, numbers and tensors: no code is read back
checkpoints/<run.name>/step-00001200.json   written after it: its size, its SHA-256, the step, the metric

A file without its record, or unlike it, is torn: it is passed over, and said so.
"""

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tusz_cache import Durability, ssd
from tusz_train.errors import BadCheckpoint

FORMAT = 1
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
    format: int = FORMAT


def save(folder: Path, content: Mapping[str, Any], durability: Durability) -> Path:
    """Write a checkpoint whole or not at all, so that it survives as the policy says. Returns its file.

    content: with its step, metric and threshold. Raises NoSpace, TargetError; an earlier checkpoint stays.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    data = buffer.getvalue()
    path = folder / f"step-{content['step']:08d}.pt"
    digest = hashlib.sha256(data).hexdigest()
    record = Record(path.name, content["step"], len(data), digest, content["metric"], content["threshold"])
    target = ssd.Target(folder, durability)
    ssd.make_directories([folder])
    ssd.remove(target, _record_of(path))  # if this step was written before, its record is of other bytes
    ssd.write_file(target, path, data)
    ssd.write_file(target, _record_of(path), json.dumps(asdict(record), indent=1).encode() + b"\n")
    if durability.commit is not None:
        durability.commit()
    return path


def load(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU. path: a file, or a folder, of which the best one is taken.

    Raises BadCheckpoint if there is none, or it is torn.
    """
    if path.is_dir():
        found = records(path)
        if not found:
            raise BadCheckpoint(f"{path} holds no checkpoint", hint=_HINT)
        path = path / (best(found) or found[-1]).file
    if not path.is_file():
        raise BadCheckpoint(f"there is no checkpoint at {path}", hint=_HINT)
    return _read(path, _read_record(_record_of(path)))


def newest(folder: Path, say: Say) -> Path | None:
    """Return the whole checkpoint of the highest step; None if no run ever finished one.

    Torn ones are passed over, and `say` says so. Raises BadCheckpoint if all are torn.
    """
    for path in sorted(folder.glob("step-*.pt")):
        if not _record_of(path).exists():
            say(f"warning: {path} has no record, so it was never finished: passed over")
    for record in reversed(records(folder, say)):
        try:
            _whole(folder / record.file, record)
        except BadCheckpoint as error:
            say(f"warning: {error}: passed over")
        else:
            return folder / record.file
    if any(folder.glob("step-*.json")):  # to begin anew would throw away what they stand for
        raise BadCheckpoint(
            f"{folder} has checkpoints, but none that is whole and of this version's form",
            hint="repair the folder, or begin anew with --resume never, which sets it aside",
        )
    return None


def records(folder: Path, say: Say = lambda _: None) -> list[Record]:
    """Return the records of a folder, by step. Those that cannot be read are passed over."""
    found = []
    for path in folder.glob("step-*.json"):
        try:
            found.append(_read_record(path))
        except BadCheckpoint as error:
            say(f"warning: {error}: passed over")
    return sorted(found, key=lambda record: record.step)


def best(found: Sequence[Record]) -> Record | None:
    """Return the record of the highest metric, of equals the first; None if none was judged."""
    judged = [record for record in found if record.metric is not None]
    return max(judged, key=lambda record: (record.metric or 0.0, -record.step), default=None)


def to_keep(found: Sequence[Record], last: int) -> set[int]:
    """Return the steps of the `last` checkpoints, and of the best one. Pure."""
    top = best(found)
    return {record.step for record in found[-last:]} | ({top.step} if top else set())


def prune(folder: Path, last: int, durability: Durability) -> None:
    """Remove all but the last checkpoints and the best one, and drafts that a killed run left."""
    found = records(folder)
    kept = to_keep(found, last)
    for record in found:
        if record.step not in kept:
            withdraw(folder, record, durability)
            ssd.remove(ssd.Target(folder, durability), folder / record.file)
    for draft in folder.glob("*.draft"):
        ssd.remove(ssd.Target(folder, durability), draft)


def withdraw(folder: Path, record: Record, durability: Durability) -> None:
    """Take a checkpoint's record away: nobody goes on from it any more."""
    ssd.remove(ssd.Target(folder, durability), _record_of(folder / record.file))


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_record(path: Path) -> Record:
    try:
        record = Record(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"{path} cannot be read, so its checkpoint is not known to be whole", hint=_HINT) from error
    if record.format != FORMAT:
        raise BadCheckpoint(f"{path} has format {record.format}, this version reads {FORMAT}", hint="update tusz-cache")
    return record


def _whole(path: Path, record: Record) -> bytes:
    """Return a checkpoint's bytes. Raises BadCheckpoint unless they are what its record says."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    if (len(data), hashlib.sha256(data).hexdigest()) != (record.bytes, record.sha256):
        raise BadCheckpoint(f"{path} is torn: it is not what its record says", hint="take an earlier one")
    return data


def _read(path: Path, record: Record) -> dict[str, Any]:
    data = _whole(path, record)
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadCheckpoint(f"{path} cannot be read: {error}", hint=_HINT) from error
    return content
