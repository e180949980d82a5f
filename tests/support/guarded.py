"""Small sealed caches, and what the guard says of them."""

from pathlib import Path
from typing import Any

from tests.support.running import Ran, run

FILE = "train/aaaaaaac_s001_t000_windows.npz"


def make_source(root: Path) -> Path:
    """Fill a folder with what a cache is made of."""
    for key in (FILE, "train/aaaaaaac_s002_t000_windows.npz", "dev/aaaaaaad_s001_t000_windows.npz"):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(key.encode() * 200)
    return root


def filled(target: Path, source: Path) -> Path:
    """Make `target` a sealed cache, by a sync."""
    done = run("sync", source, target, "--quiet")
    assert 0 == done.code, done.err
    return target


def refused(done: Ran, *verdicts: str) -> dict[str, Any]:
    """Check that the guard refused with one of these verdicts, and in a way that helps. Returns its JSON."""
    assert 5 == done.code, done.out + done.err
    said = done.json
    assert said["verdict"] in verdicts, done.out
    assert said["admitted"] is False
    assert said["reason"]
    assert said["hint"]
    assert "Traceback" not in done.err
    return said


def accepted(done: Ran, verdict: str) -> dict[str, Any]:
    """Check that the guard accepted with this verdict. Returns its JSON."""
    assert 0 == done.code, done.out + done.err
    said = done.json
    assert (verdict, True) == (said["verdict"], said["admitted"]), done.out
    return said
