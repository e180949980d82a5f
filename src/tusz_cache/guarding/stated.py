"""What users state in files: mounts that they declare, and what they allow. Read strictly."""

import dataclasses
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from tusz_cache.errors import UsageError
from tusz_cache.guarding.values import Allow, DeclaredMount

T = TypeVar("T", DeclaredMount, Allow)


def read_stated(path: str | PathLike[str], kind: type[T]) -> tuple[T, ...]:
    """Return the records of a JSON file, a list of objects with the fields of `kind`. Raises UsageError."""
    try:
        rows = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="check the path and its permissions") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}", hint=_form(kind)) from error
    if not isinstance(rows, list):
        raise UsageError(f"{path} holds no list", hint=_form(kind))
    made = []
    for number, row in enumerate(rows, start=1):
        if problem := _problem(row, kind):
            raise UsageError(f"{path}, item {number}: {problem}", hint=_form(kind))
        made.append(kind(**row))
    return tuple(made)


def _fields(kind: type[Any]) -> Mapping[str, bool]:
    """Return the fields of a record, and whether each must be there."""
    return {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}


def _form(kind: type[Any]) -> str:
    return "write a list like " + json.dumps([dict.fromkeys(_fields(kind), "...")])


def _problem(row: object, kind: type[Any]) -> str | None:
    if not isinstance(row, dict):
        return "it is no object"
    fields = _fields(kind)
    if unknown := sorted(row.keys() - fields.keys()):
        return f"unknown field {unknown[0]!r}"
    for name, needed in fields.items():
        if name not in row and not needed:
            continue
        value = row.get(name)
        if not isinstance(value, str) or (needed and not value):
            return f"{name!r} must be a text" + (" that is not empty" if needed else "")
        choices = get_args(get_type_hints(kind)[name])
        if choices and value not in choices:
            return f"{name!r} is {value!r}, not one of {', '.join(choices)}"
    if not row["path"].startswith("/"):
        return f"the path {row['path']!r} is not absolute"
    return None
