"""Are the files on an overlay those in its layers? It names them by paths of when it was mounted."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tusz_cache.guarding.mountinfo import MountTable, layers, parse
from tusz_cache.guarding.reaching import Looked, Reach
from tusz_cache.guarding.values import Evidence, Ruling, Seen, Verdict

Marks = Mapping[str, tuple[int, int]]  # key -> bytes, and change time in ns: an overlay shows those of the layer's file


def marks(keys: Sequence[str], looked: Looked) -> Marks:
    """Return what tells files from copies of them. Keys without a file are left out."""
    rows = zip(keys, looked.sizes, looked.changed, strict=True)
    return {key: (size, changed) for key, size, changed in rows if size >= 0}


def judge_layers(verdict: Verdict, seen: Seen, there: Marks, deadline: float) -> Verdict:
    """Return `verdict`, a refusal if it is for the layers of an overlay, and something else lies there by now.

    there: the files, as the overlay shows them. Raises Unresponsive.
    """
    if verdict.ruling not in {Ruling.ACCEPT_LOCAL_BLOCK, Ruling.ACCEPT_MEMORY}:
        return verdict
    stray = _Layers(seen, parse(seen.mountinfo), deadline).stray(seen.real_path, there, seen.mount_id)
    if not stray:
        return verdict
    detail = f"files that no layer has: {len(stray)}, e.g. {min(stray)}"
    return replace(
        verdict,
        ruling=Ruling.REFUSE_UNKNOWN,
        reason=f"{verdict.path} is on an overlay, whose layers are no longer where it says: not all files are there",
        hint="mount the overlay anew, or copy the cache to local disk",
        evidence=(*verdict.evidence, Evidence("containment", "layers of the overlay", "refuse", detail)),
    )


@dataclass(frozen=True, slots=True)
class _Layers:
    """Where files of overlays are to be looked for."""

    seen: Seen
    table: MountTable
    deadline: float

    def stray(self, path: str, wanted: Marks, mount_id: int | None = None) -> set[str]:
        """Return the keys of those files below `path` that no layer has."""
        mount = self.table.find(path, mount_id)
        if mount is None or mount.fstype != "overlay":
            return set()
        inside = posixpath.join(mount.root, posixpath.relpath(path, mount.point)).lstrip("/")
        left = set(wanted)
        for layer in layers(mount):
            if layer is not None and (real := self.seen.real_paths.get(layer)) is not None:
                place = posixpath.normpath(posixpath.join(real, inside))
                there = self._there(place, wanted)
                left -= there.keys() - self.stray(place, there)
        return left

    def _there(self, place: str, wanted: Marks) -> Marks:
        """Return those files that `place` has."""
        try:
            with Reach(self.deadline) as reach:
                reach.open(place)
                found = marks(list(wanted), reach.look(list(wanted), None, each=False))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {key: mark for key, mark in found.items() if mark == wanted[key]}
