"""`python -m tusz_train VERB …` and `tusz-train VERB …`."""

import sys
from collections.abc import Sequence

from tusz_cache.verbs import dispatch

VERBS = {
    "train": "train a model, or go on training",
    "evaluate": "evaluate a checkpoint, and write its report",
    "score": "score detections against references, as SzCORE and NEDC do",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that the first argument names. Returns the exit status."""
    return dispatch("tusz_train", VERBS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
