"""`python -m tusz_train evaluate --checkpoint PATH --split dev [--out DIR]`: evaluate a checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tusz_cache import cli
from tusz_cache.errors import UsageError
from tusz_cache.progress import Progress


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "evaluate",
        "Run a checkpoint over the recordings of a split, score it as SzCORE and NEDC OVLP do, and write a report.",
        prog="python -m tusz_train evaluate",
    )
    made.add_argument(
        "--checkpoint", metavar="PATH", type=Path, required=True, help="a file, or a folder, of which the best is taken"
    )
    made.add_argument("--split", choices=("train", "dev", "eval"), default="dev", help="default dev")
    made.add_argument("--out", metavar="DIR", type=Path, help="where to write (default: the folder of its run)")
    made.add_argument(
        "--references",
        metavar="DIR",
        type=Path,
        help="with *.csv_bi or *_events.tsv files, any depth: true durations, and short recordings count",
    )
    made.add_argument(
        "--threshold",
        metavar="P|best",
        type=cli.typed(_threshold),
        help="of detections: a probability, or the best on dev (default: the one that the run froze)",
    )
    made.add_argument(
        "--allow-seen-patients",
        action="store_true",
        help="score patients of dev or eval although the model was trained on them; the report says so",
    )
    made.add_argument(
        "--set",
        metavar="KEY.SUB=VALUE",
        action="append",
        default=[],
        help="set a key of the checkpoint's configuration, e.g. data.cache_dir; may be given several times",
    )
    return made


def _threshold(text: str) -> float | str:
    if text == "best":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no threshold", hint="give a probability, or best") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(options, lambda progress: _evaluate(options, progress))


def _evaluate(options: argparse.Namespace, progress: Progress) -> cli.Report:
    from tusz_train.evaluation_run import evaluate_checkpoint  # noqa: PLC0415 - --help starts without torch

    return evaluate_checkpoint(
        options.checkpoint,
        options.split,
        out=options.out,
        references=options.references,
        threshold=options.threshold,
        allow_seen=options.allow_seen_patients,
        overrides=options.set,
        progress=progress,
    )


if __name__ == "__main__":
    cli.main(main)
