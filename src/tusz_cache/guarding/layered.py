"""Are the files on an overlay those in its layers? It names them by paths of when it was mounted."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tusz_cache.guarding.mountinfo import MountTable, layers, parse
from tusz_cache.guarding.reaching import Reach
from tusz_cache.guarding.values import Evidence, Ruling, Seen, Verdict
from tusz_cache.manifest import Manifest


def judge_layers(verdict: Verdict, seen: Seen, manifest: Manifest, deadline: float) -> Verdict:
    """Return `verdict`, a refusal if it is for the layers of an overlay, and something else lies there by now.

    Raises Unresponsive.
    """
    if verdict.ruling not in {Ruling.ACCEPT_LOCAL_BLOCK, Ruling.ACCEPT_MEMORY}:
        return verdict
    sizes = dict(zip(manifest.keys, manifest.sizes, strict=True))
    stray = _Layers(seen, parse(seen.mountinfo), deadline).stray(seen.real_path, sizes, seen.mount_id)
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

    def stray(self, path: str, sizes: Mapping[str, int], mount_id: int | None = None) -> set[str]:
        """Return the keys of those files below `path` that no layer has, of this or that size."""
        mount = self.table.find(path, mount_id)
        if mount is None or mount.fstype != "overlay":
            return set()
        inside = posixpath.join(mount.root, posixpath.relpath(path, mount.point)).lstrip("/")
        left = set(sizes)
        for layer in layers(mount):
            if layer is not None and (real := self.seen.real_paths.get(layer)) is not None:
                place = posixpath.normpath(posixpath.join(real, inside))
                there = self._there(place, sizes)
                left -= there.keys() - self.stray(place, there)
        return left

    def _there(self, place: str, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return those files that `place` has."""
        try:
            with Reach(self.deadline) as reach:
                reach.open(place)
                found = reach.look(list(sizes), None, each=False).sizes
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {key: size for (key, size), is_now in zip(sizes.items(), found, strict=True) if size == is_now}
