"""`python -m tusz_cache.pack CACHE STORE`: write the windows of a cache as a packed store."""

import argparse
from collections.abc import Sequence

from tusz_cache import cli
from tusz_cache.durability import Durability
from tusz_cache.packing.writer import pack_cache


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser("pack", "Write the windows of the cache at CACHE as a packed store, which feeds a GPU.")
    made.add_argument("cache", metavar="CACHE", help="a sealed cache that the guard admits")
    made.add_argument("store", metavar="STORE", help="a directory beside it: empty, or with a store to go on with")
    made.add_argument(
        "--dtype",
        choices=("float32", "int16"),
        default="float32",
        help="float32: every bit; int16: half the bytes, with an error of at most 0.00016 standard deviations",
    )
    made.add_argument("--workers", metavar="N", type=int, help="recordings inflated at once (default: the cores)")
    made.add_argument(
        "--splits", metavar="A,B", type=cli.typed(_splits), help="e.g. train,dev (default: all there are)"
    )
    made.add_argument(
        "--durability", choices=("fsync", "none"), default="fsync", help="none: no fsync, for tests and tmpfs"
    )
    return made


def _splits(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(
        options,
        lambda progress: pack_cache(
            options.cache,
            options.store,
            dtype=options.dtype,
            workers=options.workers,
            splits=options.splits,
            durability=Durability(options.durability),
            progress=progress,
        ),
    )


if __name__ == "__main__":
    cli.main(main)
