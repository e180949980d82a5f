"""`python -m tusz_cache.sync SOURCE TARGET`: bring a cache to SSD, verified and sealed."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tusz_cache import cli
from tusz_cache.durability import Durability
from tusz_cache.errors import UsageError
from tusz_cache.layout import as_table
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Filters, MaxDelete, Plan
from tusz_cache.planning import plan_copy
from tusz_cache.progress import Progress
from tusz_cache.settings import PART_SIZE, SyncSettings
from tusz_cache.shard import Shard, sizes
from tusz_cache.sharding import copy_shard, finish_shards, write_plan
from tusz_cache.units import format_bytes, parse_bytes, parse_rate
from tusz_cache.workflow import populate_cache

COUNTS = (2, 4, 8, 16, 32)  # numbers of shards that --plan shows the sizes of


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "sync", "Make TARGET (a local directory) equal to SOURCE (any fsspec URL or path), verified and sealed."
    )
    made.add_argument("source", metavar="SOURCE", help="e.g. s3://bucket/cache/tusz, https://host/dir/, /mnt/cache")
    made.add_argument("target", metavar="TARGET", help="e.g. /ssd/cache/tusz; made if it does not exist")
    cli.add_access(made)
    what = made.add_argument_group("what to copy")
    what.add_argument(
        "--include", metavar="GLOB", action="append", default=[], help="only keys that match; * crosses folders"
    )
    what.add_argument(
        "--exclude", metavar="GLOB", action="append", default=[], help="no keys that match; wins over --include"
    )
    what.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    what.add_argument("--delete", action="store_true", help="remove files of ours that the source no longer has")
    what.add_argument(
        "--max-delete",
        metavar="N|P%",
        type=cli.typed(MaxDelete.parse),
        default=MaxDelete(),
        help="refuse to delete more (default 10%%)",
    )
    what.add_argument("--allow-empty", action="store_true", help="accept a source that lists nothing")
    what.add_argument(
        "--adopt",
        action="store_true",
        help="TARGET may hold files that this tool never wrote: keep equal ones, replace others",
    )
    how = made.add_argument_group("how to copy")
    how.add_argument(
        "--workers",
        metavar="N",
        type=int,
        help="requests at once (default: the number that pays is found on the way, up to 64)",
    )
    how.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="worker processes; 0: threads only (default: several for TLS and for many small files)",
    )
    how.add_argument(
        "--part-size",
        metavar="SIZE",
        type=cli.typed(parse_bytes),
        default=PART_SIZE,
        help="fetch larger files in parts (default 16MiB)",
    )
    how.add_argument("--bwlimit", metavar="RATE", type=cli.typed(parse_rate), help="e.g. 500MB/s")
    how.add_argument("--retries", metavar="N", type=int, default=5, help="for each part (default 5)")
    how.add_argument(
        "--stall-timeout", metavar="S", type=float, default=30.0, help="seconds without progress (default 30)"
    )
    cli.add_durability(how)
    how.add_argument("--reverify", action="store_true", help="read every byte of TARGET again before sealing")
    share = made.add_argument_group("several machines or jobs at one TARGET").add_mutually_exclusive_group()
    share.add_argument("--plan", action="store_true", help="write the plan for shards, and stop")
    share.add_argument(
        "--shard",
        metavar="I/N",
        type=cli.typed(Shard.parse),
        help="copy the I-th of N disjoint parts of the plan; seals nothing, deletes nothing",
    )
    share.add_argument("--finish", action="store_true", help="check what the shards have copied, delete, seal")
    return made


@dataclass(frozen=True, slots=True)
class _DryRun:
    plan: Plan
    delete: bool
    exit_code: int = 0

    def as_json(self) -> str:
        return json.dumps({"dry_run": True, **self.plan.as_dict(delete=self.delete)})

    def as_text(self) -> str:
        return self.plan.as_text(delete=self.delete)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan, and how large the shards would be for some numbers of them."""

    plan: Plan
    delete: bool
    exit_code: int = 0

    @property
    def splits(self) -> dict[int, list[tuple[int, int]]]:
        wanted = Manifest.merged(self.plan.copy, self.plan.check, self.plan.unchanged)
        return {count: sizes(wanted, count) for count in COUNTS}

    def as_json(self) -> str:
        shards = {
            str(count): [{"files": files, "bytes": size} for files, size in parts]
            for count, parts in self.splits.items()
        }
        return json.dumps({"planned": True, **self.plan.as_dict(delete=self.delete), "shards": shards})

    def as_text(self) -> str:
        rows = []
        for count, parts in self.splits.items():
            least, most = min(size for _, size in parts), max(size for _, size in parts)
            rows.append((f"--shard I/{count}", f"{format_bytes(least)} to {format_bytes(most)} each"))
        return f"{self.plan.as_text(delete=self.delete)}\n{as_table(rows)}"


def _check_share(options: argparse.Namespace) -> None:
    """Raise UsageError for options that make no sense together."""
    step = "--plan" if options.plan else "--finish" if options.finish else "--shard" if options.shard else ""
    if step and options.dry_run:
        raise UsageError(f"{step} and --dry-run make no sense together", hint="look at the plan with --dry-run alone")
    for name in ("delete", "reverify"):
        if options.shard and getattr(options, name):
            raise UsageError(
                f"--{name} and --shard make no sense together",
                hint=f"--finish --{name} does that, once all shards are there",
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)

    def work(progress: Progress) -> cli.Report:
        _check_share(options)
        settings = SyncSettings(
            access=cli.access_of(options),
            filters=Filters(tuple(options.include), tuple(options.exclude)),
            workers=options.workers,
            processes=options.processes,
            part_size=options.part_size,
            retries=options.retries,
            stall_timeout=options.stall_timeout,
            bwlimit=options.bwlimit,
            delete=options.delete,
            max_delete=options.max_delete,
            allow_empty=options.allow_empty,
            adopt=options.adopt,
            reverify=options.reverify,
            durability=Durability(options.durability),
        )
        where = options.source, options.target
        if options.dry_run:
            return _DryRun(plan_copy(*where, settings=settings, progress=progress), options.delete)
        if options.plan:
            return _Planned(write_plan(*where, settings=settings, progress=progress), options.delete)
        if options.shard:
            return copy_shard(*where, options.shard, settings=settings, progress=progress)
        if options.finish:
            return finish_shards(*where, settings=settings, progress=progress)
        return populate_cache(*where, settings=settings, progress=progress)

    return cli.run(options, work)


if __name__ == "__main__":
    cli.main(main)
