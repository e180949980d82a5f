"""gVisor, the sandbox that Modal runs containers in: this Python, with all that it imports, in one of our own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.mounting import needs
from tests.support.running import Ran

PATIENCE = 240  # seconds; system calls are slow where every one is traced


def sandboxed(
    bundle: Path, arguments: list[str], binds: Mapping[str, Path], links: Mapping[str, str], env: Mapping[str, str]
) -> Ran:
    """Run Python in a sandbox to its end. It is given all that this Python imports, read-only.

    bundle: a directory that is not there yet; binds: from a path inside to a directory outside; links: symlinks inside.
    """
    needs("runsc")
    rootfs, state = bundle / "rootfs", bundle / "state"
    packages = [path for path in sys.path if os.path.isdir(path)]
    shown = {os.path.realpath(path) for path in [*packages, sys.base_prefix, "/usr"]}
    topmost = {path: Path(path) for path in sorted(shown) if not any(path.startswith(f"{one}/") for one in shown)}
    topmost.update(binds)
    for path in [*topmost, "/tmp", "/proc"]:
        (rootfs / path[1:]).mkdir(parents=True, exist_ok=True)
    usual = {path: os.readlink(path) for path in ("/bin", "/lib", "/lib64") if os.path.islink(path)}
    for path, leads in (usual | dict(links)).items():
        (rootfs / path[1:]).symlink_to(leads)
    kinds = [{"destination": f"/{kind}", "type": kind, "source": kind} for kind in ("proc",)]
    kinds += [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]
    python = os.path.realpath(sys.executable)  # one by a symlink does not start
    inside = {"PATH": "/usr/bin", "PYTHONPATH": os.pathsep.join(packages), "PYTHONDONTWRITEBYTECODE": "1", **env}
    config = {
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "args": [python, *arguments],
            "cwd": "/",
            "env": [f"{name}={value}" for name, value in inside.items()],
            "user": {"uid": 0, "gid": 0},
        },
        "mounts": kinds
        + [
            {"destination": path, "type": "bind", "source": str(leads), "options": ["rbind", "ro"]}
            for path, leads in topmost.items()
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }
    (bundle / "config.json").write_text(json.dumps(config))
    command = ["runsc", "--root", str(state), "--network=none", "--platform=ptrace", "--ignore-cgroups"]
    command += ["run", "-bundle", str(bundle), f"tusz-{os.getpid()}"]
    bound = ["setpriv", "--pdeathsig", "KILL"]
    done = subprocess.run(
        [*bound, *command], check=False, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    return Ran(done.returncode, done.stdout, done.stderr)
