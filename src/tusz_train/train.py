"""`python -m tusz_train train --config FILE`: train, or go on training."""

import argparse
import contextlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tusz_cache import cli
from tusz_cache.errors import UsageError
from tusz_cache.progress import Progress


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "train",
        "Train as FILE says, from what the guard admits; go on where a run of the same name stopped.",
        prog="python -m tusz_train train",
    )
    made.add_argument("--config", metavar="FILE", type=Path, required=True, help="YAML, as in configs/")
    made.add_argument(
        "--set",
        metavar="KEY.SUB=VALUE",
        action="append",
        default=[],
        help="set a key of the configuration; may be given several times",
    )
    made.add_argument(
        "--resume",
        metavar="auto|never|PATH",
        default="auto",
        help="auto: from the newest whole checkpoint of this run, if any; never: begin anew, and set aside what an "
        "earlier run of this name wrote; or a checkpoint (default auto)",
    )
    made.add_argument(
        "--allow-changes",
        action="store_true",
        help="with --resume PATH: go on although configuration, cache or file limit are not those of the checkpoint",
    )
    made.add_argument(
        "--request",
        metavar="ID",
        help="name this wish to begin: another start with the same ID goes on where this one came to, whatever "
        "--resume says, so that a platform may repeat the command",
    )
    made.add_argument(
        "--max-seconds",
        metavar="N",
        type=cli.typed(_seconds),
        help="stop after so many seconds, with a checkpoint and exit status 75",
    )
    return made


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{text!r} is no number of seconds", hint="e.g. --max-seconds 82800")
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status. Of several processes, the first one speaks."""
    options = parser().parse_args(argv)
    is_first, is_alone = os.environ.get("RANK", "0") == "0", os.environ.get("WORLD_SIZE", "1") == "1"
    options.quiet = options.quiet or not is_first
    with contextlib.nullcontext() if is_first else contextlib.redirect_stdout(io.StringIO()):
        status = cli.run(options, lambda progress: _train(options, progress))
    if not is_alone:
        _end(status)
    return status


def _end(status: int) -> NoReturn:
    """End this process at once, now that all is written: gloo's threads may abort one that ends the usual way."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _train(options: argparse.Namespace, progress: Progress) -> cli.Report:
    from tusz_train.config_file import load_config  # noqa: PLC0415 - --help starts without torch
    from tusz_train.resuming import Resume  # noqa: PLC0415 - likewise
    from tusz_train.run import run_training  # noqa: PLC0415 - likewise

    return run_training(
        load_config(options.config, options.set),
        resume=Resume(options.resume, options.allow_changes, options.request),
        max_seconds=options.max_seconds,
        progress=progress,
    )


if __name__ == "__main__":
    cli.main(main)
