"""The states of all random generators of this process, as plain values and tensors."""

import random
from typing import Any

import numpy as np
import torch

_SPREAD = 1_000_003  # so that seeds of ranks and steps do not meet


def seed_all(seed: int, rank: int = 0, step: int = 0) -> None:
    """Begin all generators anew; each rank and step has its own numbers."""
    mixed = (seed + _SPREAD * rank + _SPREAD**2 * step) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def states(device: torch.device) -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's generators."""
    _, keys, place, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys, np.int64)), int(place), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore(saved: dict[str, Any], device: torch.device) -> None:
    """Put all generators back. One of another kind of device stays as it is."""
    version, numbers, gauss = saved["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, *rest = saved["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(saved["torch"])
    if device.type == "cuda" and saved["device"] is not None:
        torch.cuda.set_rng_state(saved["device"], device)
