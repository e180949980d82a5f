"""Every error that this package raises on purpose, beside those of `tusz_cache.errors`.

CacheError
├── BadAnnotations      2  an annotation file cannot be read, or does not say what its form demands
├── ConfigError         2  a configuration makes no sense: unknown key, wrong type, contradiction
├── BadWeights          2  a file of weights cannot be read, or is not for the model
├── WrongShape          2  an array does not have the shape, or the channels, that are needed
├── OrderChanged        2  a saved position belongs to another order of windows
├── OtherRun            2  a checkpoint is of another configuration, cache or file limit
├── Diverged            2  loss or gradient is no longer finite
├── BadCheckpoint       7  a checkpoint is missing, cannot be read, or is of another model or version
│   └── TornCheckpoint     a checkpoint is not what its record says: an earlier one may be whole
└── RankFailed          3  another process of the same training ended
"""

from tusz_cache.errors import CacheError


class BadAnnotations(CacheError):
    """An annotation file cannot be read, or does not say what its form demands."""

    exit_code = 2


class ConfigError(CacheError):
    """A configuration makes no sense: unknown key, wrong type, contradiction."""

    exit_code = 2


class BadWeights(CacheError):
    """A file of weights cannot be read, or is not for the model."""

    exit_code = 2


class WrongShape(CacheError):
    """An array does not have the shape, or the channels, that are needed."""

    exit_code = 2


class OrderChanged(CacheError):
    """A saved position belongs to another order of windows, so going on from it would repeat some and skip others."""

    exit_code = 2


class OtherRun(CacheError):
    """A checkpoint is of another configuration, cache or file limit, so going on from it would be neither run."""

    exit_code = 2


class Diverged(CacheError):
    """Loss or gradient is no longer finite, step after step."""

    exit_code = 2


class BadCheckpoint(CacheError):
    """A checkpoint is missing, cannot be read, or is of another model or version."""

    exit_code = 7


class TornCheckpoint(BadCheckpoint):
    """A checkpoint is not what its record says, or has none: an earlier one may be whole."""


class RankFailed(CacheError):
    """Another process of the same training ended, or cannot be reached any more."""

    exit_code = 3
