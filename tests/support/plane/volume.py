"""A volume as each container has it: what one changes is seen by others once it commits and they reload."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


class View:
    """A volume as one container has it."""

    def __init__(self, whole: Path, own: Path, *, shown: Callable[[int], int] = int) -> None:
        """whole: what is committed; own: what the container sees; shown: what a commit makes of a time, in ns."""
        self.whole, self.own, self.shown = whole, own, shown
        self._theirs: dict[str, Any] = {}
        self._ours: dict[str, Any] = {}
        self.reload()

    def commit(self) -> None:
        """Give what changed here to all."""
        now = _files(self.own)
        changed = _follow(self.own, self.whole, self._ours, now, self.shown)
        self._ours, whole = now, _files(self.whole)
        self._theirs = {name: seen for name, seen in self._theirs.items() if name not in changed}
        self._theirs |= {name: whole[name] for name in changed if name in whole}

    def reload(self) -> None:
        """Take what changed elsewhere."""
        now = _files(self.whole)
        _follow(self.whole, self.own, self._theirs, now)
        self._theirs, self._ours = now, _files(self.own)


def _files(root: Path) -> dict[str, Any]:
    """Return what tells whether a file, or a folder, is another than before, by its path."""
    found: dict[str, Any] = {}
    for folder, _, names in os.walk(root):
        found[os.path.relpath(folder, root)] = None
        for name in names:
            stat = os.lstat(os.path.join(folder, name))
            found[os.path.relpath(os.path.join(folder, name), root)] = stat.st_size, stat.st_mtime_ns, stat.st_ino
    return found


def _follow(
    source: Path, target: Path, before: dict[str, Any], now: dict[str, Any], shown: Callable[[int], int] = int
) -> set[str]:
    """Do to `target` what was done to `source` since `before`. Returns what that was done to."""
    gone = before.keys() - now.keys()
    changed = {name for name in now if name not in before or now[name] != before[name]}
    for name in sorted(gone, reverse=True):
        with suppress(OSError):  # a folder that others use
            (target / name).rmdir() if before[name] is None else (target / name).unlink()
    for name in sorted(changed):
        if now[name] is None:
            made(target / name)
        else:
            draft = target / f"{name}.moving"
            shutil.copy2(source / name, draft, follow_symlinks=False)
            os.utime(draft, ns=(shown(now[name][1]),) * 2, follow_symlinks=False)
            draft.replace(target / name)
    return gone | changed


def made(path: Path) -> Path:
    """Make a directory, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    return path
