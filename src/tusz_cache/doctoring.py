"""examine: look at a directory as training would, and say what to do next. Reads only."""

import shlex
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from tusz_cache.checking import check_files
from tusz_cache.doctor_report import DoctorReport, State, is_of_place
from tusz_cache.entry import META
from tusz_cache.errors import Damaged
from tusz_cache.guarding.guard import CacheGuard
from tusz_cache.guarding.identity import nearest_mount
from tusz_cache.guarding.values import DeclaredMount, Ruling, Verdict
from tusz_cache.holdings import Holdings, look
from tusz_cache.manifest import Manifest
from tusz_cache.measuring import measure
from tusz_cache.progress import Progress
from tusz_cache.seal import Seal
from tusz_cache.sealed import SEAL, is_store, read_sealed, read_set_aside
from tusz_cache.ssd import Target, free_bytes


class _Seen(NamedTuple):
    """What lies there."""

    state: State
    holdings: Holdings
    seal: Seal | None = None
    manifest: Manifest | None = None  # that the seal fits


def examine(
    path: str | PathLike[str], *, mounts: Sequence[DeclaredMount] = (), progress: Progress | None = None
) -> DoctorReport:
    """Say where a cache is, whether it is whole, how fast it is, and what to do next.

    mounts: as declared by the one who configured them. Nothing is touched of a place that the guard refuses.
    Raises TargetError if there is no such directory, UsageError, Interrupted.
    """
    with progress or Progress() as watcher:
        watcher.say(f"looking at {path}")
        verdict = CacheGuard(mounts).check(path)
        if is_of_place(verdict):
            return DoctorReport(verdict=verdict, state="unknown", next_step=verdict.hint)
        root = Path(verdict.path)
        seen = _look(root)
        files = seen.holdings.files
        watcher.say("measuring how fast it is read")
        sizes = [(root / key, size) for key, size in zip(files.keys, files.sizes, strict=True)]
        speeds = measure(sizes, lambda: watcher.check_stop("stopped while measuring"))
    replay = seen.holdings.replay
    return DoctorReport(
        verdict=verdict,
        state=seen.state,
        next_step=_next_step(verdict, seen),
        free_bytes=free_bytes(Target(root)),
        free_is_placeholder=_on_volume(verdict, mounts),
        splits=(files if seen.manifest is None else seen.manifest).splits(),
        seal=seen.seal,
        journal=(len(replay.done), len(replay.open)) if seen.holdings.has_journal else None,
        speeds=speeds,
        troubles=seen.holdings.troubles,
    )


def _look(root: Path) -> _Seen:
    """Say what lies below `root`, by records and sizes. Raises TargetError."""
    holdings = look(root)
    try:
        seal, manifest = read_sealed(root)
    except Damaged:
        return _Seen(_state_without_seal(root, holdings), holdings, holdings.seal)
    bad = check_files(root, manifest).bad
    return _Seen("damaged" if bad else "sealed", holdings, seal, manifest)


def _state_without_seal(root: Path, holdings: Holdings) -> State:
    try:
        if read_set_aside(root) is not None:
            return "repairing"
    except Damaged:
        return "broken"
    if (root / META / SEAL).exists():
        return "broken"
    if holdings.replay.good_bytes:
        return "interrupted"
    return "unsealed" if len(holdings.files) else "empty"


def _next_step(verdict: Verdict, seen: _Seen) -> str:
    """Return what the user does now: one command where there is one."""
    cache = shlex.quote(verdict.path)
    source = shlex.quote(seen.seal.source) if seen.seal else "SOURCE"
    match seen.state:
        case "sealed" if not verdict.admitted:  # of another volume
            return verdict.hint
        case "sealed":
            key = "store_dir" if is_store(Path(verdict.path)) else "cache_dir"
            return f"train: python -m tusz_train train --config FILE --set data.{key}={cache}"
        case _ if is_store(Path(verdict.path)):
            return f"python -m tusz_cache.pack CACHE {cache}"
        case "damaged" | "repairing":
            return f"python -m tusz_cache.verify {cache} --repair"
        case "broken" | "unsealed":
            return f"python -m tusz_cache.verify {cache} --level full --against {source}"
        case _:
            return f"python -m tusz_cache.sync {source} {cache}"


def _on_volume(verdict: Verdict, mounts: Sequence[DeclaredMount]) -> bool:
    nearest = nearest_mount(mounts, verdict.path, verdict.real_path)
    return verdict.ruling is Ruling.ACCEPT_DECLARED or (nearest is not None and nearest.kind == "volume")
