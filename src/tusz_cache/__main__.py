"""`tusz-cache VERB …` and `python -m tusz_cache VERB …`: the same as `python -m tusz_cache.VERB …`."""

import sys
from collections.abc import Sequence

from tusz_cache.verbs import dispatch

VERBS = {
    "sync": "bring a cache to SSD, verified and sealed",
    "verify": "check a cache against its seal and its source, adopt it, repair it",
    "guard": "say whether training may read from a directory, and why",
    "doctor": "where a cache is, whether it is whole, how fast it is, what to do next",
    "pack": "write a cache's windows as a packed store, which feeds a GPU",
    "cost": "what training costs from a bucket's mount, from a volume, from a packed store",
    "demo": "see it all work on an embedded S3 server",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names. Returns the exit status."""
    return dispatch("tusz_cache", VERBS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
