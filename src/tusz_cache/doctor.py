"""`python -m tusz_cache.doctor PATH`: where is my cache, is it whole, how fast is it, what do I do next."""

import argparse
from collections.abc import Sequence

from tusz_cache import cli
from tusz_cache.doctoring import examine
from tusz_cache.guarding.stated import read_stated
from tusz_cache.guarding.values import DeclaredMount
from tusz_cache.progress import Progress


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser("doctor", "Say where the cache at PATH is, whether it is whole, how fast it is, what to do next.")
    made.add_argument("path", metavar="PATH", help="a directory that holds a cache, or should")
    cli.add_mounts(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)

    def work(progress: Progress) -> cli.Report:
        mounts = read_stated(options.mounts, DeclaredMount) if options.mounts else ()
        return examine(options.path, mounts=mounts, progress=progress)

    return cli.run(options, work)


if __name__ == "__main__":
    cli.main(main)
