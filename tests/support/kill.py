"""Kill syncs with SIGKILL at random moments and go on until they are done: `python -m tests.support.kill --runs 100`.

After each run the bytes must be the source's, the seal must hold, and the server must not have sent more bytes a second
time than one part for each worker and kill.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.running import run, start, tree
from tests.support.s3server import S3Server

PART = 1024**2  # bytes
WORKERS = 6
RATE = 6_000_000  # bytes per second and connection, so that a run lasts about a second and kills hit its middle
MOST_KILLS = 3  # of one run; then it may finish


@dataclass(frozen=True)
class Run:
    """One sync, killed and resumed until done."""

    kills: int
    amid: int  # kills after the first and before the last byte had come
    sent_twice: int  # bytes
    allowed: int  # bytes


def make_source(root: Path, seed: int) -> int:
    """Write a small cache of many sizes. Returns its bytes."""
    chance = random.Random(seed)
    total = 0
    for split in ("train", "dev"):
        (root / "bucket" / "tusz" / split).mkdir(parents=True)
        for number in range(8):
            size = chance.choice([0, 1, 1000, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7, 5 * PART])
            (root / "bucket" / "tusz" / split / f"p{number:03d}_s001_t000_windows.npz").write_bytes(
                chance.randbytes(size)
            )
            total += size
    return total


def killed_runs(count: int, seed: int, workspace: Path) -> Iterator[Run]:
    """Yield `count` runs. Raises AssertionError at the first that is not as it must be."""
    chance = random.Random(seed)
    source = workspace / "source"
    total = make_source(source, seed)
    wanted = tree(source / "bucket" / "tusz")
    for number in range(count):
        checksum, etag = chance.choice([("crc64nvme", "opaque"), ("crc32c", "md5"), (None, "md5"), (None, "opaque")])
        with S3Server(source, checksum=checksum, etag=etag, bytes_per_second=RATE) as server:
            target = workspace / f"target-{number}"
            options = ["s3://bucket/tusz", target, "--endpoint-url", server.url, "--part-size", PART]
            options += ["--workers", WORKERS, "--processes", chance.choice([0, 2]), "--json", "--quiet"]
            kills = amid = 0
            while kills < MOST_KILLS:
                sent = server.stats()["bytes"]
                process = start("sync", *options)
                if chance.random() < 0.8:  # else while it starts, lists or plans
                    while process.poll() is None and server.stats()["bytes"] == sent:
                        time.sleep(0.01)
                time.sleep(chance.uniform(0.0, 0.7))
                finished = process.poll() is not None
                process.kill()
                process.communicate()
                if finished:
                    break
                kills += 1
                amid += 0 < server.stats()["bytes"] < total
                sealed = (target / ".tusz_cache" / "seal.json").exists()
                assert all(wanted.get(key) == data for key, data in tree(target).items()), (
                    "a wrong file under a final name"
                )
                assert not sealed or tree(target) == wanted, "a seal over a cache that is not whole"
            ended = run("sync", *options)
            assert ended.code == 0, ended.err
            assert tree(target) == wanted
            assert run("verify", target, "--level", "full", "--quiet").code == 0
            sent = server.stats()["bytes"]
        allowed = kills * WORKERS * PART
        assert sent - total <= allowed, f"{sent - total} bytes came twice, {allowed} are allowed"
        yield Run(kills, amid, sent - total, allowed)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as workspace:
        runs = []
        for made in killed_runs(options.runs, options.seed, Path(workspace)):
            runs.append(made)
            print(
                f"run {len(runs)}: {made.kills} kills, {made.sent_twice} bytes twice ({made.allowed} allowed)",
                flush=True,
            )
    twice, allowed = sum(made.sent_twice for made in runs), sum(made.allowed for made in runs)
    kills, amid = sum(made.kills for made in runs), sum(made.amid for made in runs)
    print(json.dumps({"runs": len(runs), "kills": kills, "amid": amid, "sent_twice": twice, "allowed": allowed}))


if __name__ == "__main__":
    main()
