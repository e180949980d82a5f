"""The order of a window's channels, and other orders: left and right swapped, as published models have it. Pure.

A permutation is indices into the channels that there are: `x_CT[permutation]` has them in the new order.
"""

from collections.abc import Sequence

from tusz_train.errors import WrongShape

SAMPLING_RATE = 256  # Hz
WINDOW = 60 * SAMPLING_RATE  # samples of a window, T

# fmt: off
CHANNELS = (  # as the cache has them, C = 19 of the 10-20 system
    "Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1",
    "Fz", "Cz", "Pz",
    "Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2",
)
PUBLISHED = (  # as SzCORE, epilepsy2bids and the published SeizureTransformer have them: O1 after P3, O2 after P4
    "Fp1", "F3", "C3", "P3", "O1", "F7", "T3", "T5",
    "Fz", "Cz", "Pz",
    "Fp2", "F4", "C4", "P4", "O2", "F8", "T4", "T6",
)
# fmt: on
ALIASES = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}  # the 10-10 system's names


def permutation(there: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Return where each channel of `wanted` is in `there`. Aliases and case do not matter.

    Raises WrongShape unless both name the same channels, each once.
    """
    have, want = [_plain(name) for name in there], [_plain(name) for name in wanted]
    if sorted(have) != sorted(want) or len(set(have)) != len(have):
        odd = sorted(set(have) ^ set(want)) or sorted({name for name in [*have, *want] if have.count(name) != 1})
        raise WrongShape(
            f"the two orders are not of the same channels: {', '.join(odd)}",
            hint=f"name each of these once: {', '.join(CHANNELS)}",
        )
    return tuple(have.index(name) for name in want)


def mirrored(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the channels on the other side of the head: odd numbers are left, even ones right."""
    return tuple(_other_side(name) for name in names)


def _other_side(name: str) -> str:
    if not name[-1].isdigit():
        return name  # the midline
    number = int(name[-1])
    return f"{name[:-1]}{number + 1 if number % 2 else number - 1}"


def _plain(name: str) -> str:
    capital = name.strip().capitalize()
    return ALIASES.get(capital, capital)


SWAP_SIDES = permutation(CHANNELS, mirrored(CHANNELS))  # left and right change places; twice is nothing
TO_PUBLISHED = permutation(CHANNELS, PUBLISHED)  # what the cache holds, as the published models take it
FROM_PUBLISHED = permutation(PUBLISHED, CHANNELS)
