"""The version, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tusz-cache")
except PackageNotFoundError:  # used from a source tree without installation
    __version__ = "0+unknown"
