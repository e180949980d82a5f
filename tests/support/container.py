"""`python -m tests.support.container SPEC`: become a process that sees what a container of Modal's sees.

In a mount namespace of its own, with a new root: memory, with this machine's directories bound into it, and over them
/root with the image's local files, /tmp empty, each volume below /__modal/volumes and a symlink from its path, each
bucket at its path. Then the SDK's own entrypoint takes over.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
OURS = {"root", "tmp", "results", "data", "s3_cache", "__modal"}  # not this machine's

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: Path, fstype: str, flags: int) -> None:
    _checked(_libc.mount(source.encode(), bytes(target), fstype.encode(), flags, None), f"mount {source} at {target}")


def _bind(source: str, target: Path) -> None:
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(source, target, "", MS_BIND | MS_REC)


def main(spec_path: str) -> None:
    """Make the namespace, enter it, and become the SDK's entrypoint."""
    spec = json.loads(Path(spec_path).read_text())
    packages = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    python = os.path.realpath(sys.executable)
    _checked(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", Path("/"), "", MS_REC | MS_PRIVATE)
    new = Path(spec_path).parent / "rootfs"
    new.mkdir()
    _mount("tmpfs", new, "tmpfs", 0)
    for entry in Path("/").iterdir():
        if entry.is_symlink():
            (new / entry.name).symlink_to(entry.readlink())
        elif entry.name not in OURS and entry.is_dir():
            _bind(str(entry), new / entry.name)
    (new / "tmp").mkdir()
    for entry in Path(spec["root"]).iterdir():
        _bind(str(entry), new / "root" / entry.name)
    for needed in [sys.base_prefix, *packages]:
        if Path(needed).parts[1] in OURS:
            _bind(needed, new / needed[1:])
    _bind(spec["arguments"], new / "__modal" / "arguments")
    for volume, home in spec["homes"].items():
        _bind(home, new / "__modal" / "volumes" / volume)
    for path, volume in spec["volumes"].items():
        (new / path[1:]).symlink_to(f"/__modal/volumes/{volume}")
    for path, home in spec["buckets"].items():
        top, _, rest = path[1:].partition("/")
        volume = spec["volumes"].get(f"/{top}")
        _bind(home, new / "__modal" / "volumes" / volume / rest if volume else new / path[1:])
    os.chroot(new)
    os.chdir("/root")
    usual = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    usual |= {"PYTHONPATH": os.pathsep.join(["/root", *packages]), "PYTHONDONTWRITEBYTECODE": "1"}
    os.execve(python, [python, "-m", "modal._container_entrypoint"], usual | spec["environment"])


if __name__ == "__main__":
    main(sys.argv[1])
