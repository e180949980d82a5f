"""run.json: what a run is, each of its starts, and how the last one ended."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tusz_cache import Durability, ssd
from tusz_cache.disk_errors import translated


def read(path: Path) -> dict[str, Any]:
    """Return what is written there; nothing if nothing is, or no record. Raises TargetError if it cannot be read."""
    with translated(path):
        try:
            told = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
    return told if isinstance(told, dict) and isinstance(told.get("starts"), list) else {}


def write(path: Path, told: Mapping[str, Any], durability: Durability) -> None:
    """Publish it, so that it survives. Its folder is made. Raises TargetError, NoSpace."""
    with translated(path):
        ssd.make_directories([path.parent])
    ssd.write_file(ssd.Target(path.parent, durability), path, json.dumps(dict(told), indent=1).encode() + b"\n")
    if durability.commit is not None:
        durability.commit()


def now() -> str:
    """Return the time of day, UTC, as it is recorded."""
    return datetime.now(UTC).isoformat()
