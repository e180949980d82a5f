"""Is it the cache that was sealed, and the one that is expected? Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from shlex import quote

from tusz_cache.entry import META
from tusz_cache.guarding.mountinfo import absolute, within
from tusz_cache.guarding.values import DeclaredMount, Evidence, Ruling, Says, Verdict
from tusz_cache.manifest import Manifest
from tusz_cache.seal import Seal
from tusz_cache.sealed import SEAL


def with_evidence(verdict: Verdict, says: Says, detail: str) -> Verdict:
    """Return `verdict` with what the seal tells."""
    place = f"{verdict.real_path}/{META}/{SEAL}"
    return replace(verdict, evidence=(*verdict.evidence, Evidence("seal", place, says, detail)))


def no_seal(verdict: Verdict) -> Verdict:
    """Return the refusal of a directory without a seal."""
    reason = f"{verdict.path} has no seal: it was never completed, or a sync is under way or was interrupted"
    return replace(
        with_evidence(verdict, "refuse", "there is none"),
        ruling=Ruling.REFUSE_NO_SEAL,
        reason=reason,
        hint=f"python -m tusz_cache.sync SOURCE {quote(verdict.path)} completes and seals it; a cache that was copied "
        f"otherwise is adopted by python -m tusz_cache.verify {quote(verdict.path)} --level full --against SOURCE",
    )


def mismatch(verdict: Verdict, detail: str) -> Verdict:
    """Return the refusal of a cache that is not the one that was sealed, or not the one that is expected."""
    return replace(
        with_evidence(verdict, "refuse", detail),
        ruling=Ruling.REFUSE_SEAL_MISMATCH,
        reason=f"{verdict.path} is not the cache that was sealed and is expected: {detail}",
        hint=f"python -m tusz_cache.sync SOURCE {quote(verdict.path)} repairs it and seals it anew",
    )


def store_refused(verdict: Verdict) -> Verdict:
    """Return the refusal of a packed store: packing lays anew what no source has."""
    return replace(
        verdict,
        hint=f"python -m tusz_cache.pack CACHE {quote(verdict.path)} makes what is missing or damaged anew; "
        "counts of npz files are expected of the cache, not of its store",
    )


def judge_seal(verdict: Verdict, seal: Seal, manifest: Manifest, volume: str) -> Verdict:
    """Return `verdict` with what the seal, which fits the manifest, says; a refusal if it is of another volume.

    volume: object id of the volume that the cache is declared to lie on; "" if none is.
    """
    detail = f"{len(manifest)} files, {manifest.bytes} bytes, sealed {seal.created}; the manifest's digest fits"
    verdict = with_evidence(verdict, "accept", detail)
    if not seal.complete:
        verdict = with_evidence(verdict, "note", f"filters left files of {seal.source} out: {dict(seal.filters)}")
    sealed_on = (seal.volume or {}).get("object_id", "")
    if volume and sealed_on and volume != sealed_on:
        return mismatch(verdict, f"it was sealed on volume {sealed_on}, and this is declared to be {volume}")
    if volume and not sealed_on:
        return with_evidence(verdict, "note", f"the seal names no volume; this is declared to be {volume}")
    if sealed_on and not volume:
        return with_evidence(verdict, "note", f"it was sealed on volume {sealed_on}; no volume is declared here")
    return verdict


def judge_counts(verdict: Verdict, manifest: Manifest, expect: Mapping[str, int]) -> Verdict:
    """Return `verdict`, a refusal if a split has not as many npz files as expected."""
    have = manifest.splits()
    there = {split: have[split].npz if split in have else 0 for split in expect}
    off = [
        f"{split} has {there[split]} npz files, {want} expected"
        for split, want in expect.items()
        if want != there[split]
    ]
    if off:
        return mismatch(verdict, "; ".join(off))
    counts = ", ".join(f"{split} {count}" for split, count in there.items())
    return with_evidence(verdict, "accept", f"npz files as expected: {counts}")


def declared_volume(mounts: Sequence[DeclaredMount], *paths: str) -> str:
    """Return the object id of the volume whose declared path is the longest above one of `paths`, "" if none is."""
    nearest = nearest_mount(mounts, *paths)
    return nearest.object_id if nearest and nearest.kind == "volume" else ""


def nearest_mount(mounts: Sequence[DeclaredMount], *paths: str) -> DeclaredMount | None:
    """Return the mount whose declared path is the longest above one of `paths`."""
    above = [mount for mount in mounts if any(within(path, absolute(mount.path)) for path in paths)]
    return max(above, key=lambda mount: len(absolute(mount.path)), default=None)
