"""Every error that this package raises on purpose, beside those of `tusz_cache.errors`.

CacheError
├── ConfigError         2  a configuration makes no sense: unknown key, wrong type, contradiction
├── BadWeights          2  a file of weights cannot be read, or is not for this model
└── WrongShape          2  an array does not have the shape that the model takes
"""

from tusz_cache.errors import CacheError


class ConfigError(CacheError):
    """A configuration makes no sense: unknown key, wrong type, contradiction."""

    exit_code = 2


class BadWeights(CacheError):
    """A file of weights cannot be read, or is not for this model."""

    exit_code = 2


class WrongShape(CacheError):
    """An array does not have the shape that the model takes."""

    exit_code = 2
