"""Train as the command does, and signal this process behind a step: `python -m tests.support.killtrain STEP HOW …`."""

import sys
from collections.abc import Mapping
from typing import Any

from tests.support.training import signal_me
from tusz_train import train
from tusz_train.sinks import MetricsFile


def main() -> int:
    """Run the command. Returns its exit status, if it lives."""
    step, how, *arguments = sys.argv[1:]
    log = MetricsFile.log

    def logged(self: MetricsFile, at: int, values: Mapping[str, Any]) -> None:
        log(self, at, values)
        if at == int(step):
            signal_me(how)

    MetricsFile.log = logged  # type: ignore[method-assign] # behind the step's own line
    return train.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
