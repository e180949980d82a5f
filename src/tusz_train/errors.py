"""Every error that this package raises on purpose, beside those of `tusz_cache.errors`.

CacheError
└── BadAnnotations      2  an annotation file cannot be read, or does not say what its form demands
"""

from tusz_cache.errors import CacheError


class BadAnnotations(CacheError):
    """An annotation file cannot be read, or does not say what its form demands."""

    exit_code = 2
