"""Rule on what is known only later, or at once: the files of a cache, a URL, a directory that does not answer."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tusz_cache.guarding.capacity import describe, is_synthetic
from tusz_cache.guarding.mountinfo import SOURCE, absolute, parse
from tusz_cache.guarding.redact import redact
from tusz_cache.guarding.values import Evidence, Fault, FileFault, FilesSeen, Ruling, Verdict

_SHOWN = 10  # files named
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)(?:::|:/)", re.IGNORECASE)  # a path object makes one slash of two
_STORES = {
    *("s3", "s3a", "s3n", "gs", "gcs", "az", "abfs", "abfss", "adl", "wasb", "wasbs", "oss", "cos", "cosn", "obs"),
    *("oci", "r2", "b2", "swift", "hf", "minio"),
}
_OUTSIDE: frozenset[Fault] = frozenset({"elsewhere", "no file"})
_SAID: dict[Fault, str] = {
    "missing": "missing",
    "size": "of another size",
    "elsewhere": "elsewhere: a symlink or a mount leads out of the cache",
    "no file": "no regular file",
    "unreadable": "unreadable",
}


def is_url(text: str) -> bool:
    """Return whether `text` names something other than a path; "file://" is a path."""
    match = _URL.match(text)
    return match is not None and match["scheme"].lower() != "file"


def refused_url(url: str) -> Verdict:
    """Refuse a URL: what has one is read over the network."""
    scheme = url.partition(":")[0].lower()
    what = "names an object store" if scheme in _STORES else "is a URL, no directory"
    shown = redact(url)
    return Verdict(
        path=shown,
        real_path="",
        ruling=Ruling.REFUSE_OBJECT_STORE,
        reason=f"{shown} {what}: it would be read over the network",
        hint=f"copy it to local disk once, and train from there: python -m tusz_cache.sync {shown} /local/ssd/tusz",
        evidence=(Evidence("mount record", "the URL", "refuse", f"scheme {scheme}"),),
    )


def unresponsive(path: str, mountinfo: str, seconds: float) -> Verdict:
    """Refuse a directory that did not answer for so many seconds."""
    mount = parse(mountinfo).find(absolute(path))
    where = f" ({mount.label} at {mount.point})" if mount else ""
    evidence = [Evidence("probe", "a look at the directory", "refuse", f"no answer in {seconds:g} s")]
    evidence += [Evidence("mount record", SOURCE, "note", str(mount))] if mount else []
    return Verdict(
        path=path,
        real_path="",
        ruling=Ruling.REFUSE_UNRESPONSIVE,
        reason=f"{path} did not answer in {seconds:g} s{where}",
        hint="see whether its server or daemon is up, mount it anew or unmount it; local disk always answers",
        evidence=tuple(evidence),
    )


def judge_files(verdict: Verdict, files: FilesSeen) -> Verdict:
    """Rule on a directory again, after a look at each of its files. A refusal stays what it is."""
    made_up = [one for one in files.statfs if is_synthetic(one)]
    if verdict.overruled is Ruling.REFUSE_OBJECT_STORE:
        made_up = []  # as expected
    evidence = (*verdict.evidence, *(_told(files)), *(_made_up(describe(one)) for one in made_up))
    outside = [one for one in files.faults if one.fault in _OUTSIDE]
    if not verdict.admitted or not (made_up or files.faults):
        return replace(verdict, evidence=evidence)
    repair = f"python -m tusz_cache.verify {shlex.quote(verdict.path)} --repair --against SOURCE"
    if made_up:
        ruling, hint = Ruling.REFUSE_OBJECT_STORE, "copy the cache to local disk once, and train from there"
        reason = f"{verdict.path} holds files that report the made-up capacity of an object store mount"
    elif outside:
        ruling, hint = Ruling.REFUSE_MIXED, f"put files in place of links and mounts: {repair} fetches them"
        reason = f"{verdict.path} holds {_counted(outside)}"
    else:
        ruling, hint = Ruling.REFUSE_SEAL_MISMATCH, f"{repair} fetches what is missing or damaged"
        reason = f"{verdict.path} is not what was sealed: {_counted(list(files.faults))}"
    return replace(verdict, ruling=ruling, reason=reason, hint=hint, evidence=evidence)


def _made_up(counts: str) -> Evidence:
    return Evidence("statfs", "fstatfs of files", "refuse", counts)


def _counted(faults: list[FileFault]) -> str:
    counts = Counter(one.fault for one in faults)
    parts = [f"{count} file{'s' if count > 1 else ''} {_SAID[fault]}" for fault, count in counts.most_common()]
    return f"{', '.join(parts)}, e.g. {faults[0].key}"


def _told(files: FilesSeen) -> Iterator[Evidence]:
    for one in files.faults[:_SHOWN]:
        says = f"{one.key}: {_SAID[one.fault]}{f' ({one.detail})' if one.detail else ''}"
        yield Evidence("containment" if one.fault in _OUTSIDE else "seal", files.method, "refuse", says)
    if len(files.faults) > _SHOWN:
        yield Evidence("containment", files.method, "note", f"… and {len(files.faults) - _SHOWN} more files")
    yield Evidence("containment", files.method, "note", f"{files.checked} files looked at")
