"""The version, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("tusz-cache")
except PackageNotFoundError:  # used from a source tree without installation
    VERSION = "0+unknown"
