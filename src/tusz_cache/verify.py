"""`python -m tusz_cache.verify TARGET`: check a cache against its seal and its source, adopt it, repair it."""

import argparse
from collections.abc import Sequence

from tusz_cache import cli
from tusz_cache.durability import Durability
from tusz_cache.verifying import verify_cache


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser("verify", "Check the cache at TARGET against its seal and manifest, and against its source.")
    made.add_argument("target", metavar="TARGET", help="a directory that holds a cache")
    made.add_argument(
        "--level",
        choices=("quick", "full"),
        default="quick",
        help="quick (default): seal, manifest, sizes; full: every byte",
    )
    made.add_argument(
        "--against",
        metavar="SOURCE",
        help="compare with it, too; with --level full every byte, by its checksums, or by reading its objects where it "
        "has none, and a whole cache without a seal is sealed",
    )
    made.add_argument(
        "--repair",
        action="store_true",
        help="read every byte, fetch missing files and damaged parts from SOURCE, or else from where the cache came",
    )
    cli.add_expect(made)
    made.add_argument(
        "--strict", action="store_true", help="unexpected files, and files that SOURCE no longer has, are a fault"
    )
    cli.add_durability(made)
    cli.add_access(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(
        options,
        lambda progress: verify_cache(
            options.target,
            level=options.level,
            against=options.against,
            repair=options.repair,
            expect=dict(options.expect),
            strict=options.strict,
            access=cli.access_of(options),
            durability=Durability(options.durability),
            progress=progress,
        ),
    )


if __name__ == "__main__":
    cli.main(main)
