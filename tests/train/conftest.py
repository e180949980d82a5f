"""Fixtures of the training tests: small caches that the guard admits, as NPZ files and packed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cache.conftest import ground  # noqa: F401 - a fixture
from tests.support.caches import seal_cache
from tusz_cache import AdmittedCache, CacheGuard, pack_cache
from tusz_cache.synth import SIZES, write_cache

HOW = ("npz", "float32", "int16")


@pytest.fixture(scope="session")
def roots(ground: Path) -> dict[str, Path]:  # noqa: F811 - asks for the fixture
    """Return a cache of all kinds of recordings, and stores packed from it."""
    root = ground / "windows"
    write_cache(root / "npz", replace(SIZES["tiny"], train_patients=5, length_s=(80.0, 100.0)))
    seal_cache(root / "npz")
    for dtype in HOW[1:]:
        pack_cache(root / "npz", root / dtype, dtype=dtype)
    return {how: root / how for how in HOW}


@pytest.fixture(scope="session")
def admitted(roots: dict[str, Path]) -> Iterator[dict[str, AdmittedCache]]:
    """Return the cache and the stores, held open."""
    caches = {how: CacheGuard().admit(path) for how, path in roots.items()}
    yield caches
    for cache in caches.values():
        cache.close()
