"""`tusz-cache VERB …` and `python -m tusz_cache VERB …`: the same as `python -m tusz_cache.VERB …`."""

import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "sync": "bring a cache to SSD, verified and sealed",
    "verify": "check a cache against its seal",
    "guard": "say whether training may read from a directory, and why",
    "demo": "see it all work on an embedded S3 server",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in VERBS:
        asked = bool(arguments) and arguments[0] in {"-h", "--help"}
        lines = [f"  {verb:<8} {what}" for verb, what in VERBS.items()]
        print("usage: tusz-cache VERB …\n", *lines, sep="\n", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    status: int = importlib.import_module(f"tusz_cache.{arguments[0]}").main(arguments[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
