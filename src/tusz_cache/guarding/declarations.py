"""What the wrapper declared and what the platform's table says. Under gVisor nothing else tells mounts apart."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tusz_cache.guarding.findings import Finding, found, noted
from tusz_cache.guarding.mountinfo import absolute, within
from tusz_cache.guarding.values import DeclaredMount, Layer, MountKind, PlatformMount, Ruling, Seen

_PLATFORM = "/__modal"  # what Modal mounts for itself
_VOLUMES = "/__modal/volumes"  # where its volumes really lie; a volume's path is a symlink there
_ARGUMENTS = "container arguments"
_DECLARATION = "declaration"
_REMOTE: dict[MountKind, tuple[Ruling, str]] = {
    "bucket": (Ruling.REFUSE_OBJECT_STORE, "an object store mount (bucket {}), which is read over the network"),
    "nfs": (Ruling.REFUSE_NETWORK, "a network file system ({})"),
}

AnyMount = DeclaredMount | PlatformMount


class Declared(NamedTuple):
    """What the tables come to."""

    findings: tuple[Finding, ...]
    vouched: MountKind | None = None  # of a declaration that holds: "volume" or "ephemeral"


def judge_declarations(seen: Seen) -> Declared:
    """Compare what was declared with the platform's table and with where the path leads."""
    places = _names(seen)
    findings = [
        *_against(seen.path, places, "declared", _DECLARATION, seen.declared or ()),
        *_against(seen.path, places, "platform", _ARGUMENTS, seen.platform or ()),
    ]
    declared = _longest(seen.declared or (), places)
    if declared is None or declared.kind not in {"volume", "ephemeral"}:
        return Declared(tuple(findings))
    own = list(_volume(seen, declared) if declared.kind == "volume" else _ephemeral(seen, places, declared))
    holds = not any(finding.refuses for finding in own)
    return Declared((*findings, *own), declared.kind if holds else None)


def suggested(seen: Seen, *, own_disk: bool) -> DeclaredMount:
    """Return the declaration that may help, as far as the platform's table knows it."""
    if theirs := _longest(seen.platform or (), _names(seen)):
        return DeclaredMount(theirs.path, theirs.kind, theirs.name, theirs.object_id)
    if seen.platform is not None or own_disk:
        return DeclaredMount("/", "ephemeral")
    return DeclaredMount(absolute(seen.path), "volume", "NAME", "vo-...")


def _names(seen: Seen) -> list[str]:
    """Return the names that a directory goes by: as asked for, as it is, and below the volume that it lies in."""
    names = [absolute(seen.path), seen.real_path]
    tables: list[AnyMount] = [*(seen.declared or ()), *(seen.platform or ())]
    for mount in tables:
        home = f"{_VOLUMES}/{mount.object_id}"
        if mount.object_id and within(seen.real_path, home):
            names.append(absolute(mount.path + seen.real_path.removeprefix(home)))
    return list(dict.fromkeys(names))


def _longest(mounts: Iterable[AnyMount], places: Sequence[str]) -> AnyMount | None:
    covering = [mount for mount in mounts if any(within(place, absolute(mount.path)) for place in places)]
    return max(covering, key=lambda mount: (len(absolute(mount.path)), mount.kind in _REMOTE), default=None)


def _against(
    path: str, places: Sequence[str], layer: Layer, source: str, mounts: Sequence[AnyMount]
) -> Iterator[Finding]:
    """Yield what is remote at or below any of the names. Nothing that is declared elsewhere makes up for it."""
    for mount in dict.fromkeys(_longest(mounts, [place]) for place in places):
        if mount is not None and mount.kind in _REMOTE:
            ruling, what = _REMOTE[mount.kind]
            reason = f"{path} is {what.format(mount.name or mount.path)}"
            yield found(ruling, layer, source, reason, f"{mount.kind} {mount.name} at {mount.path}")
    for mount in mounts:
        below = any(within(absolute(mount.path), place) and absolute(mount.path) != place for place in places)
        if below and mount.kind in _REMOTE:
            reason = f"{path} has {_REMOTE[mount.kind][1].format(mount.name or mount.path)} below it, at {mount.path}"
            yield found(Ruling.REFUSE_MIXED, layer, source, reason, f"{mount.kind} {mount.name} at {mount.path}")


def _volume(seen: Seen, declared: AnyMount) -> Iterator[Finding]:
    """A volume is what was declared if the platform mounts it there and the path leads into it."""
    path = absolute(declared.path)
    theirs = next((one for one in seen.platform or () if one.kind == "volume" and absolute(one.path) == path), None)
    known = declared.object_id or (theirs.object_id if theirs else "")
    name = " ".join(filter(None, ("volume", declared.name, known and f"({known})")))
    if seen.platform is None:
        yield noted("platform", _ARGUMENTS, "no table of the platform to compare the declaration with")
    elif theirs is None:
        yield _contradicted(seen, name, f"the platform mounts no volume at {declared.path}", "platform")
        return
    elif theirs.object_id != known:
        yield _contradicted(seen, name, f"the platform mounts {theirs.object_id or 'another'} there", "platform")
        return
    else:
        yield noted("platform", _ARGUMENTS, f"volume {known} at {theirs.path}", "accept")
    if not known:
        hint = f"declare its object_id too: {declared!r}"
        yield _contradicted(seen, name, "its object id is not known, so nothing can be compared")._replace(hint=hint)
    elif not within(seen.real_path, f"{_VOLUMES}/{known}"):
        yield _contradicted(seen, name, f"it leads to {seen.real_path}, not into {_VOLUMES}/{known}")
    else:
        reason = f"{seen.path} is on {name}, as declared, and leads there"
        yield found(Ruling.ACCEPT_DECLARED, "declared", _DECLARATION, reason)


def _ephemeral(seen: Seen, places: Sequence[str], declared: AnyMount) -> Iterator[Finding]:
    """The container's own disk is what the platform mounts nothing on."""
    name = "the container's own disk"
    if theirs := _longest(seen.platform or (), places):
        yield _contradicted(seen, name, f"the platform mounts a {theirs.kind} at {theirs.path}", "platform")
    elif within(seen.real_path, _PLATFORM):
        yield _contradicted(seen, name, f"it leads to {seen.real_path}, which the platform mounts")
    else:
        yield noted("declared", _DECLARATION, f"the container's own disk at {declared.path}", "accept")


def _contradicted(seen: Seen, name: str, but: str, layer: Layer = "declared") -> Finding:
    return found(
        Ruling.REFUSE_UNKNOWN,
        layer,
        _ARGUMENTS if layer == "platform" else _DECLARATION,
        f"{seen.path} is declared as {name}, but {but}",
        hint="declare each mount from the same table that mounts it, and read the cache where the volume is mounted",
    )
