"""`python -m tusz_cache.cost`: what training costs from a bucket's mount, a volume, a packed store on one."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from tusz_cache import cli
from tusz_cache.costing.assumptions import BASES, CostAssumptions
from tusz_cache.costing.model import estimate_cost
from tusz_cache.costing.prices import read_prices
from tusz_cache.errors import UsageError
from tusz_cache.units import parse_bytes, parse_rate

_SIZES = {"bytes", "mount_part", "mount_cache", "volume_other", "part_size", "populate_memory", "outputs"}
_RATES = {"inflate_rate", "copy_rate", "mount_rate", "disk_rate", "volume_rate", "populate_rate", "pack_rate"}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = cli.parser(
        "cost",
        "Estimate what training costs from a bucket's mount, from NPZ files on a Modal volume, and from a packed store "
        "there, by list prices.",
    )
    made.add_argument("--prices", metavar="FILE", help="prices in place of the package's, as TOML")
    made.add_argument("--explain", action="store_true", help="say each number's formula")
    assumed = made.add_argument_group("what is assumed")
    for field in fields(CostAssumptions):
        name, said = "--" + field.name.replace("_", "-"), BASES[field.name].what
        if field.name == "same_region":
            assumed.add_argument(name, action="store_true", help=said)
        else:
            metavar, convert = _form(field.name, field.default)
            assumed.add_argument(name, metavar=metavar, type=cli.typed(convert), default=field.default, help=said)
    return made


def _form(name: str, default: Any) -> tuple[str, Callable[[str], float]]:
    """Return how an assumption is written, and what reads it."""
    if name in _SIZES:
        return "SIZE", parse_bytes
    if name in _RATES:
        return "SIZE/s", parse_rate
    return ("N", _count) if isinstance(default, int) else ("X", _number)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{text!r} is no count", hint="write a whole number of 0 or more")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no number", hint="write a number like 0.5") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    options = parser().parse_args(argv)
    return cli.run(
        options,
        lambda _: estimate_cost(
            CostAssumptions(**{field.name: getattr(options, field.name) for field in fields(CostAssumptions)}),
            read_prices(options.prices),
            today=datetime.now(UTC).date(),
            explain=options.explain,
        ),
    )


if __name__ == "__main__":
    cli.main(main)
