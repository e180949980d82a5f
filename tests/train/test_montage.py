"""Orders of channels: permutations that lose nothing and mean what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusz_train.errors import WrongShape
from tusz_train.montage import (
    CHANNELS,
    FROM_PUBLISHED,
    PUBLISHED,
    SWAP_SIDES,
    TO_PUBLISHED,
    mirrored,
    permutation,
)


def test_the_cache_has_19_channels_in_its_order():
    """The order is that of the cache, and the published one differs by where O1 and O2 stand."""
    cache = "Fp1 F3 C3 P3 F7 T3 T5 O1 Fz Cz Pz Fp2 F4 C4 P4 F8 T4 T6 O2"
    published = "Fp1 F3 C3 P3 O1 F7 T3 T5 Fz Cz Pz Fp2 F4 C4 P4 O2 F8 T4 T6"

    assert (cache, published) == (" ".join(CHANNELS), " ".join(PUBLISHED))


def test_swapping_sides_moves_left_to_right_and_keeps_the_midline():
    """Odd electrodes change places with the even ones beside them; Fz, Cz and Pz stay."""
    swapped = dict(zip(CHANNELS, np.array(CHANNELS)[list(SWAP_SIDES)].tolist(), strict=True))

    assert ("Fp2", "O2", "T4", "T5", "Cz") == tuple(swapped[name] for name in ("Fp1", "O1", "T3", "T6", "Cz"))
    assert ["Fz", "Cz", "Pz"] == [name for name in CHANNELS if swapped[name] == name]


def test_swapping_twice_is_nothing():
    """The swap is its own inverse."""
    twice = [SWAP_SIDES[place] for place in SWAP_SIDES]

    assert list(range(19)) == twice


def test_the_published_order_is_reached_and_left():
    """One permutation undoes the other, and the first gives the published names."""
    assert list(PUBLISHED) == [CHANNELS[place] for place in TO_PUBLISHED]
    assert list(CHANNELS) == [PUBLISHED[place] for place in FROM_PUBLISHED]
    assert list(range(19)) == [TO_PUBLISHED[place] for place in FROM_PUBLISHED]


@given(st.permutations(CHANNELS), st.permutations(CHANNELS))
def test_a_permutation_gives_the_order_that_was_asked_for(there: list[str], wanted: list[str]):
    """Taking the channels of any order by the permutation gives the other order."""
    assert wanted == [there[place] for place in permutation(there, wanted)]


def test_other_names_of_the_same_electrodes_are_known():
    """T7, T8, P7, P8 are T3, T4, T5, T6, and case does not matter."""
    newer = ["FP1", "F3", "C3", "P3", "F7", "T7", "P7", "O1", "FZ", "CZ", "PZ", "FP2", "F4", "C4", "P4", "F8"]

    assert tuple(range(19)) == permutation([*newer, "T8", "P8", "O2"], CHANNELS)


@pytest.mark.parametrize(
    ("there", "named"),
    [(CHANNELS[:-1], "O2"), ((*CHANNELS, "A1"), "A1"), ((*CHANNELS[:-1], "O1"), "O2"), ((*CHANNELS, "T7"), "T3")],
)
def test_other_channels_are_refused(there: tuple[str, ...], named: str):
    """A channel that is missing, strange or there twice is named."""
    with pytest.raises(WrongShape, match=named):
        permutation(there, CHANNELS)


def test_the_other_side_of_a_side_is_itself():
    """Mirroring names twice gives them back."""
    assert CHANNELS == mirrored(mirrored(CHANNELS))
