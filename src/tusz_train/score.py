"""`python -m tusz_train score REF_DIR HYP_DIR`: score detections against references."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tusz_cache import cli
from tusz_cache.progress import Progress
from tusz_train.pairing import pair_files, read_pairs
from tusz_train.scoring import TOLERANCE_S, Pair, ScoreReport, score_recordings


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "score",
        "Score the detections in HYP_DIR against the references in REF_DIR, as SzCORE and as NEDC OVLP do.",
        prog="python -m tusz_train score",
    )
    made.add_argument("references", metavar="REF_DIR", type=Path, help="with *.csv_bi or *_events.tsv files, any depth")
    made.add_argument("hypotheses", metavar="HYP_DIR", type=Path, help="with a file of the same name for each of them")
    made.add_argument(
        "--tolerance",
        metavar="S",
        type=float,
        default=TOLERANCE_S,
        help=f"seconds by which durations may differ; the reference's counts (default {TOLERANCE_S:g})",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(options, lambda progress: _score(options, progress))


def _score(options: argparse.Namespace, progress: Progress) -> ScoreReport:
    pairs = read_pairs(pair_files(options.references, options.hypotheses), tolerance_s=options.tolerance)
    return score_recordings(_until_stopped(pairs, progress))


def _until_stopped(pairs: Iterable[Pair], progress: Progress) -> Iterator[Pair]:
    for pair in pairs:
        progress.check_stop("stopped while scoring")
        yield pair


if __name__ == "__main__":
    cli.main(main)
