"""Kill packs with SIGKILL at random moments and go on until done: `python -m tests.support.killpack --runs 50`.

After each run the store must be, byte for byte, the one of a run that nothing interrupted, whatever the number of
workers; before its seal nobody may be admitted to it.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.caches import seal_cache
from tests.support.recordings import Arrays, name_of, recording, write_split
from tests.support.running import META, environment, run, tree
from tusz_cache import CacheGuard
from tusz_cache.sealed import read_sealed

SHARD = 5_000_000  # bytes: four recordings or so
RECORDINGS = 60
MOST_KILLS = 4  # of one run; then it may finish
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """One pack, killed and resumed until done."""

    kills: int
    amid: int  # kills after the first file of the store was begun, and before the seal
    kept: int  # recordings that the last run found there


def make_source(root: Path) -> Path:
    """Write and seal a cache of many small recordings, among them odd ones. Returns `root`."""
    found: dict[str, Arrays] = {}
    for number in range(RECORDINGS):
        arrays = recording(number % 4, 1 + number % 3, seed=number)
        if number % 5 == 1:
            del arrays["labels"]
        if number % 7 == 1 and "labels" in arrays:
            arrays["labels"] *= np.float32(0.5)
        found[name_of(number)] = arrays
    write_split(root, "train", found)
    write_split(root, "dev", {name_of(RECORDINGS): recording(2, seed=1000)})
    return seal_cache(root)


def contents(store: Path) -> tuple[dict[str, bytes], list[tuple[str, int, int]]]:
    """Return every file of a sealed store, and its manifest without times."""
    _, manifest = read_sealed(store)
    return tree(store), [(entry.key, entry.size, entry.proof.crc64nvme) for entry in manifest if entry.proof]


def start_pack(cache: Path, store: Path, *options: object) -> subprocess.Popen[str]:
    """Start packing into small shards."""
    command = [sys.executable, "-m", "tests.support.smallshards", str(SHARD), str(cache), str(store)]
    return subprocess.Popen(
        [*command, *map(str, options), "--json", "--quiet"],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_runs(count: int, seed: int, workspace: Path) -> Iterator[Run]:
    """Yield `count` runs. Raises AssertionError at the first that is not as it must be."""
    chance = random.Random(seed)
    cache = make_source(workspace / "cache")
    wanted, seconds = {}, 0.0
    for dtype in ("float32", "int16"):
        began = time.monotonic()
        process = start_pack(cache, workspace / dtype, "--dtype", dtype)
        assert process.communicate()[1] == ""
        assert process.returncode == 0
        seconds = time.monotonic() - began
        wanted[dtype] = contents(workspace / dtype)
    for number in range(count):
        dtype, store = chance.choice(sorted(wanted)), workspace / f"store-{number}"
        kills = amid = 0
        while True:
            process = start_pack(cache, store, "--dtype", dtype, "--workers", chance.choice([1, 2, 5]))
            if kills < MOST_KILLS:
                time.sleep(chance.uniform(0.1, 0.9) * seconds)
                process.kill()
            out, err = process.communicate()
            sealed = (store / META / "seal.json").exists()
            if process.returncode != -9:
                assert (0, True) == (process.returncode, sealed), err
                break
            kills += 1
            amid += any(store.rglob("*.npy")) and not sealed
            assert not sealed or contents(store) == wanted[dtype], "a seal over a store that is not whole"
            assert sealed == (store.exists() and CacheGuard().check(store).admitted)
        assert contents(store) == wanted[dtype]
        assert {path.name for path in store.iterdir()} == {META, "train", "dev"}
        assert run("verify", store, "--level", "full", "--strict", "--quiet").code == 0
        yield Run(kills, amid, RECORDINGS + 1 - json.loads(out)["packed"])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workspace:
        runs = []
        for made in killed_runs(options.runs, options.seed, Path(workspace)):
            runs.append(made)
            print(f"run {len(runs)}: {made.kills} kills, {made.amid} amid, {made.kept} recordings kept", flush=True)
    kills, amid = sum(made.kills for made in runs), sum(made.amid for made in runs)
    print(json.dumps({"runs": len(runs), "kills": kills, "amid": amid}))


if __name__ == "__main__":
    main()
