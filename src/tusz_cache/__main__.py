"""`tusz-cache VERB …` and `python -m tusz_cache VERB …`: the same as `python -m tusz_cache.VERB …`."""

import sys
from collections.abc import Sequence

from tusz_cache.verbs import dispatch

VERBS = {
    "sync": "bring a cache to SSD, verified and sealed",
    "verify": "check a cache against its seal",
    "demo": "see it all work on an embedded S3 server",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names. Returns the exit status."""
    return dispatch("tusz_cache", VERBS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
