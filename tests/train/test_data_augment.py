"""What augmentation must be: labels stay true of the signal, and the same batch is varied alike when a run goes on."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tusz_cache import UsageError
from tusz_train.data.augment import Augmentation, augment, rotated
from tusz_train.montage import CHANNELS

B, C, T = 4, 19, 256
ALL = Augmentation(scale=0.3, shift=64, drop=0.2, swap=0.5, noise=0.1)
KEY: dict[str, Any] = {"seed": 1, "epoch": 2, "batch": 3}


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, C, T, generator=generator), (torch.rand(B, T, generator=generator) < 0.3).float()


@given(st.integers(0, T - 1), st.integers(0, 100), st.booleans())
def test_an_impulse_keeps_its_label(at: int, number: int, swap: bool):
    """Wherever an impulse of the signal goes, its label goes with it."""
    x_BCT, y_BT = torch.zeros(B, C, T), torch.zeros(B, T)
    x_BCT[:, :, at] = 1
    y_BT[:, at] = 1
    how = Augmentation(scale=0.3, shift=100, swap=float(swap), drop=0.3)

    varied_BCT, labels_BT = augment(x_BCT, y_BT, how, seed=0, epoch=0, batch=number)

    assert torch.equal(varied_BCT.abs().amax(dim=1) > 0, labels_BT > 0)
    assert torch.equal(torch.ones(B), labels_BT.sum(dim=1))


@given(st.integers(-3 * T, 3 * T))
def test_a_rotation_keeps_every_sample(shift: int):
    """What was at t is at t + shift, round the end."""
    x_BCT, y_BT = batch()
    shifted_BCT, labels_BT = rotated(x_BCT, y_BT, torch.full((B,), shift))

    assert torch.equal(torch.roll(x_BCT, shift, 2), shifted_BCT)
    assert torch.equal(torch.roll(y_BT, shift, 1), labels_BT)


def test_shifts_go_both_ways_and_not_too_far():
    """Shifts are spread over their range, ends included."""
    x_BCT, y_BT = torch.zeros(64, C, T), torch.zeros(64, T)
    y_BT[:, 100] = 1
    found = set()
    for number in range(10):
        _, labels_BT = augment(x_BCT, y_BT, Augmentation(shift=3), seed=0, epoch=0, batch=number)
        found |= set((labels_BT.argmax(dim=1) - 100).tolist())

    assert {-3, -2, -1, 0, 1, 2, 3} == found


def test_sides_change_places():
    """Swapped, each channel holds what its counterpart on the other side of the head held."""
    x_BCT, y_BT = batch()
    swapped_BCT, labels_BT = augment(x_BCT, y_BT, Augmentation(swap=1.0), **KEY)

    pairs = {"Fp1": "Fp2", "F3": "F4", "C3": "C4", "P3": "P4", "F7": "F8", "T3": "T4", "T5": "T6", "O1": "O2"}
    pairs |= {right: left for left, right in pairs.items()} | {name: name for name in ("Fz", "Cz", "Pz")}
    for name, other in pairs.items():
        assert torch.equal(x_BCT[:, CHANNELS.index(other)], swapped_BCT[:, CHANNELS.index(name)])
    assert torch.equal(y_BT, labels_BT)


def test_amplitudes_stay_within_their_range():
    """A window is scaled as a whole, by 1 / 1.3 to 1.3."""
    x_BCT, y_BT = batch()
    scales_BCT = augment(x_BCT, y_BT, Augmentation(scale=0.3), **KEY)[0] / x_BCT

    assert torch.allclose(scales_BCT, scales_BCT[:, :1, :1])
    assert 1 / 1.3 - 1e-5 <= scales_BCT.min() <= scales_BCT.max() <= 1.3 + 1e-5
    assert len(scales_BCT[:, 0, 0].unique()) == B


def test_channels_fall_silent():
    """A dropped channel is 0 throughout, the others are as they were, and about the share asked for is dropped."""
    x_BCT, y_BT = torch.ones(200, C, 4), torch.zeros(200, 4)
    dropped_BCT, _ = augment(x_BCT, y_BT, Augmentation(drop=0.2), **KEY)

    assert {0.0, 4.0} == set(dropped_BCT.sum(dim=2).unique().tolist())
    assert 0.17 < 1 - dropped_BCT.mean().item() < 0.23


def test_noise_is_no_louder_than_asked():
    """Each window has noise of its own loudness, up to the one asked for."""
    x_BCT, y_BT = torch.zeros(50, C, T), torch.zeros(50, T)
    noisy_BCT, _ = augment(x_BCT, y_BT, Augmentation(noise=0.5), **KEY)
    deviations_B = noisy_BCT.std(dim=(1, 2))

    assert deviations_B.max() < 0.51
    assert 0.15 < deviations_B.mean() < 0.35


def test_nothing_asked_for_changes_nothing():
    """Without augmentation a batch is what it was; with it, the batch that was given is."""
    x_BCT, y_BT = batch()
    before = x_BCT.clone(), y_BT.clone()

    assert all(map(torch.equal, before, augment(x_BCT, y_BT, Augmentation(), **KEY)))
    augment(x_BCT, y_BT, ALL, **KEY)
    assert all(map(torch.equal, before, (x_BCT, y_BT)))


def test_the_same_batch_is_varied_alike():
    """Seed, epoch and batch decide alone: whatever was drawn before, a resumed run varies as the first did."""
    pair = batch()
    expected = augment(*pair, ALL, **KEY)
    torch.rand(100)
    torch.manual_seed(5)
    state = torch.get_rng_state()

    assert all(map(torch.equal, expected, augment(*pair, ALL, **KEY)))
    assert torch.equal(state, torch.get_rng_state())
    for name in KEY:
        assert not torch.equal(expected[0], augment(*pair, ALL, **KEY | {name: 9})[0])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_vary_their_part_as_one_would_the_whole(world: int):
    """A window is scaled, shifted, silenced and swapped alike on any number of ranks; noise is each rank's own."""
    pair, how = batch(), replace(ALL, noise=0.0)
    expected = augment(*pair, how, **KEY)
    parts = [
        augment(*(tensor.chunk(world)[rank] for tensor in pair), how, **KEY, rank=rank, world_size=world)
        for rank in range(world)
    ]

    assert torch.equal(expected[0], torch.cat([x for x, _ in parts]))
    assert torch.equal(expected[1], torch.cat([y for _, y in parts]))


@pytest.mark.parametrize("odd", [{"scale": -1.0}, {"swap": 1.5}, {"drop": 2.0}, {"shift": -1}, {"noise": float("nan")}])
def test_what_makes_no_sense_is_refused(odd: dict[str, Any]):
    """Negative amounts and probabilities above 1 are refused by name."""
    with pytest.raises(UsageError, match=next(iter(odd))):
        Augmentation(**odd)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_keep_their_type(dtype: torch.dtype):
    """A batch of half precision stays one."""
    x_BCT, y_BT = batch()
    varied_BCT, labels_BT = augment(x_BCT.to(dtype), y_BT, ALL, **KEY)

    assert (dtype, torch.float32) == (varied_BCT.dtype, labels_BT.dtype)
