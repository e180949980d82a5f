"""`python -m tusz_cache.verify TARGET`: check a cache against its seal."""

import argparse
from collections.abc import Sequence

from tusz_cache import cli
from tusz_cache.verifying import verify_cache


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser("verify", "Check the cache at TARGET against its seal and manifest.")
    made.add_argument("target", metavar="TARGET", help="a directory that sync has filled")
    made.add_argument(
        "--level", choices=("quick", "full"), default="quick", help="quick: seal, manifest, sizes; full: every byte"
    )
    made.add_argument(
        "--expect",
        metavar="SPLIT=COUNT",
        action="append",
        default=[],
        type=cli.typed(cli.count_pair),
        help="npz files that a split must have",
    )
    made.add_argument("--strict", action="store_true", help="unexpected files are a fault")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(
        options,
        lambda progress: verify_cache(
            options.target, level=options.level, expect=dict(options.expect), strict=options.strict, progress=progress
        ),
    )


if __name__ == "__main__":
    cli.main(main)
