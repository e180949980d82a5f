"""Running the commands as a user does: in a process of their own, with a clean environment."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

META = ".tusz_cache"
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",  # no look-up of credentials on the network
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its one JSON object."""
        return json.loads(self.out)


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return an environment without the caller's AWS settings. A value of None removes a name."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | KEYS
    clean |= {"PYTHONWARNINGS": "error::RuntimeWarning"}
    for name, value in (changes or {}).items():
        clean.pop(name, None)
        if value is not None:
            clean[name] = value
    return clean


def start(verb: str, *arguments: object, env: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
    """Start `python -m tusz_cache.VERB` without waiting for it."""
    command = [sys.executable, "-m", f"tusz_cache.{verb}", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(verb: str, *arguments: object, env: Mapping[str, str | None] | None = None, timeout: float = 120) -> Ran:
    """Run `python -m tusz_cache.VERB` to its end."""
    process = start(verb, *arguments, env=env)
    out, err = process.communicate(timeout=timeout)
    return Ran(process.returncode, out, err)


# A process begins with the peak of the one that started it, and the test process may be heavy: one in between is not.
_SCALES = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def weighed(verb: str, *arguments: object) -> tuple[int, int]:
    """Run `python -m tusz_cache.VERB`. Return its exit status, and the peak memory of its largest process in kB."""
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _SCALES,
        sys.executable,
        "-m",
        f"tusz_cache.{verb}",
        *map(str, arguments),
    ]
    answer = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, timeout=240, check=True)
    code, memory = map(int, answer.stdout.split())
    return code, memory


def run_train(verb: str, *arguments: object, timeout: float = 120) -> Ran:
    """Run `python -m tusz_train VERB` to its end."""
    command = [sys.executable, "-m", "tusz_train", verb, *map(str, arguments)]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=timeout, check=False)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below `root` but our own, by key."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and META not in path.relative_to(root).parts
    }


def state(root: Path) -> dict[str, tuple[int, int]]:
    """Return (size, mtime_ns) of everything below `root` but the lock: equal states mean that nothing was touched."""
    paths = [path for path in sorted(root.rglob("*")) if path.name != "lock"]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}
