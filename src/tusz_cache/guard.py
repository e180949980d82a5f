"""`python -m tusz_cache.guard PATH`: say whether training may read from a directory, and why."""

import argparse
from collections.abc import Sequence

from tusz_cache import cli
from tusz_cache.guarding.guard import CacheGuard
from tusz_cache.guarding.stated import read_stated
from tusz_cache.guarding.values import DeclaredMount


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser("guard", "Say whether training may read from PATH: local disk yes, network and buckets no.")
    made.add_argument("path", metavar="PATH", help="a directory that holds a cache")
    made.add_argument(
        "--seal",
        choices=("require", "ignore"),
        default="require",
        help="ignore: judge where the files lie, whether or not they are a whole cache",
    )
    made.add_argument("--probe", action="store_true", help="time some cold reads; they may warn, never decide")
    cli.add_mounts(made)
    made.add_argument(
        "--policy",
        metavar="FILE",
        help='mounts to read from although they are refused, as JSON: [{"path", "fstype", "source", "reason"}]',
    )
    cli.add_expect(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(
        options,
        lambda _: CacheGuard(
            read_stated(options.mounts, DeclaredMount) if options.mounts else (),
            policy_file=options.policy,
            expect=dict(options.expect),
            seal=options.seal,
            probe=options.probe,
        ).check(options.path),
    )


if __name__ == "__main__":
    cli.main(main)
