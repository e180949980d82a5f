"""`metrics.jsonl` of a run: one JSON object a line, with `step` and whatever numbers were logged at it."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tusz_cache.errors import Damaged

_NOT_SHOWN = {"step", "epoch", "time", "seconds"}  # told by every line, or no news

Points = list[tuple[float, float]]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log. The last one may have been cut off when the run was stopped; it is left out.

    Raises Damaged for any other line that is no JSON object.
    """
    *lines, rest = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found = [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    try:
        return [*found, *([_parse(rest, str(path))] if rest.strip() else [])]
    except Damaged:
        return found


def panels(history: Sequence[dict[str, Any]]) -> dict[str, Points]:
    """Return (step, value) by name for each number that was logged more than once, names in order of appearance.

    A run that went on from a checkpoint may log a step again: what it logged last stands.
    """
    found: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for line in history:
        numbers = {name: value for name, value in line.items() if _is_number(value)}
        for name in [name for name in numbers if "step" in numbers and name not in _NOT_SHOWN]:
            found[name][numbers["step"]] = numbers[name]
    return {name: sorted(points.items()) for name, points in found.items() if len(points) > 1}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse(line: str, where: str) -> dict[str, Any]:
    hint = "it is written by training, a line at a time: move it away to report without it"
    try:
        value = json.loads(line)
    except ValueError as error:
        raise Damaged(f"{where}: no JSON", hint=hint) from error
    if not isinstance(value, dict):
        raise Damaged(f"{where}: no JSON object", hint=hint)
    return value
