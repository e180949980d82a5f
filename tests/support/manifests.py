"""Window manifests for tests, made of numbers alone."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tusz_cache import WindowManifest
from tusz_cache.tusz_windows import rebuild

SHARES = (0.0, 0.5, 1.0)  # of ictal samples: none, partial, full


def manifest_of(*kinds: str) -> WindowManifest:
    """Return a manifest of one file for each word; its letters are its windows: n(one), p(artial), f(ull)."""
    return rebuild(
        {name_of(number): np.array([SHARES["npf".index(k)] for k in word]) for number, word in enumerate(kinds)}
    )


def name_of(number: int, per_patient: int = 1) -> str:
    """Return the name of a cache file; every `per_patient` of them are of one patient."""
    return f"a{number // per_patient:04d}_s001_t{number % per_patient:03d}_windows.npz"


def corpus(files: int, *, seed: int = 0) -> WindowManifest:
    """Return a manifest like the corpus': most windows show nothing, a few a seizure in part, fewer one in full."""
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, 60, files)
    return rebuild(
        {name_of(n, 3): chance.choice(SHARES, length, p=(0.93, 0.05, 0.02)) for n, length in enumerate(lengths)}
    )


def manifests(*, least: int = 1) -> st.SearchStrategy[WindowManifest]:
    """Return manifests of up to 8 files, one of which shows part of a seizure."""
    words: st.SearchStrategy[Sequence[str]] = st.lists(st.text("nnpf", min_size=least, max_size=9), max_size=7)
    return words.map(lambda some: manifest_of("p", *some))
