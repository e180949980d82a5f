"""tusz_cache: bring the TUSZ training cache to SSD, prove it whole, refuse to train from anywhere slow."""

from tusz_cache.durability import Durability
from tusz_cache.entry import Entry
from tusz_cache.errors import CacheError
from tusz_cache.manifest import Manifest
from tusz_cache.plan import Filters, MaxDelete, Plan, diff
from tusz_cache.planning import plan_copy
from tusz_cache.report import SyncReport, VerifyReport
from tusz_cache.settings import SyncSettings
from tusz_cache.stores import Access
from tusz_cache.verifying import verify_cache
from tusz_cache.version import __version__
from tusz_cache.workflow import populate_cache

__all__ = [
    "Access",
    "CacheError",
    "Durability",
    "Entry",
    "Filters",
    "Manifest",
    "MaxDelete",
    "Plan",
    "SyncReport",
    "SyncSettings",
    "VerifyReport",
    "__version__",
    "diff",
    "plan_copy",
    "populate_cache",
    "verify_cache",
]
