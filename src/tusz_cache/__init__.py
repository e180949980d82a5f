"""tusz_cache: bring the TUSZ training cache to SSD, prove it whole, refuse to train from anywhere slow.

Public names are imported when they are first used: a worker process needs few of them, and starts sooner.
"""

from typing import TYPE_CHECKING

from tusz_cache.lazy import lazily

if TYPE_CHECKING:
    from tusz_cache.costing.assumptions import CostAssumptions
    from tusz_cache.costing.model import estimate_cost
    from tusz_cache.costing.prices import Prices, read_prices
    from tusz_cache.costing.report import CostReport
    from tusz_cache.durability import Durability
    from tusz_cache.entry import Entry
    from tusz_cache.errors import CacheError, CacheRefused, Damaged, UsageError
    from tusz_cache.guarding.admitted import AdmittedCache
    from tusz_cache.guarding.guard import CacheGuard
    from tusz_cache.guarding.values import Allow, DeclaredMount, Verdict
    from tusz_cache.manifest import Manifest
    from tusz_cache.packing.manifests import read_window_manifest
    from tusz_cache.packing.npz import read_windows
    from tusz_cache.packing.packed import PackedStore
    from tusz_cache.packing.report import PackReport
    from tusz_cache.packing.store import open_store
    from tusz_cache.packing.windows import WindowStore
    from tusz_cache.packing.writer import pack_cache
    from tusz_cache.plan import Filters, MaxDelete, Plan, diff
    from tusz_cache.planning import plan_copy
    from tusz_cache.report import SyncReport
    from tusz_cache.settings import SyncSettings
    from tusz_cache.shard import Shard
    from tusz_cache.sharding import copy_shard, finish_shards, write_plan
    from tusz_cache.stores.base import Access
    from tusz_cache.tusz import check_disjoint, recordings
    from tusz_cache.tusz_windows import Category, WindowManifest
    from tusz_cache.verify_report import VerifyReport
    from tusz_cache.verifying import verify_cache
    from tusz_cache.version import __version__
    from tusz_cache.workflow import populate_cache

_HOMES = {
    "Access": "stores.base",
    "AdmittedCache": "guarding.admitted",
    "Allow": "guarding.values",
    "CacheError": "errors",
    "CacheGuard": "guarding.guard",
    "CacheRefused": "errors",
    "Category": "tusz_windows",
    "CostAssumptions": "costing.assumptions",
    "CostReport": "costing.report",
    "Damaged": "errors",
    "DeclaredMount": "guarding.values",
    "Durability": "durability",
    "Entry": "entry",
    "Filters": "plan",
    "Manifest": "manifest",
    "MaxDelete": "plan",
    "PackReport": "packing.report",
    "PackedStore": "packing.packed",
    "Plan": "plan",
    "Prices": "costing.prices",
    "Shard": "shard",
    "SyncReport": "report",
    "SyncSettings": "settings",
    "UsageError": "errors",
    "Verdict": "guarding.values",
    "VerifyReport": "verify_report",
    "WindowManifest": "tusz_windows",
    "WindowStore": "packing.windows",
    "__version__": "version",
    "check_disjoint": "tusz",
    "copy_shard": "sharding",
    "diff": "plan",
    "estimate_cost": "costing.model",
    "finish_shards": "sharding",
    "open_store": "packing.store",
    "pack_cache": "packing.writer",
    "plan_copy": "planning",
    "populate_cache": "workflow",
    "read_prices": "costing.prices",
    "read_window_manifest": "packing.manifests",
    "read_windows": "packing.npz",
    "recordings": "tusz",
    "verify_cache": "verifying",
    "write_plan": "sharding",
}

__all__ = [
    "Access",
    "AdmittedCache",
    "Allow",
    "CacheError",
    "CacheGuard",
    "CacheRefused",
    "Category",
    "CostAssumptions",
    "CostReport",
    "Damaged",
    "DeclaredMount",
    "Durability",
    "Entry",
    "Filters",
    "Manifest",
    "MaxDelete",
    "PackReport",
    "PackedStore",
    "Plan",
    "Prices",
    "Shard",
    "SyncReport",
    "SyncSettings",
    "UsageError",
    "Verdict",
    "VerifyReport",
    "WindowManifest",
    "WindowStore",
    "__version__",
    "check_disjoint",
    "copy_shard",
    "diff",
    "estimate_cost",
    "finish_shards",
    "open_store",
    "pack_cache",
    "plan_copy",
    "populate_cache",
    "read_prices",
    "read_window_manifest",
    "read_windows",
    "recordings",
    "verify_cache",
    "write_plan",
]


__getattr__, __dir__ = lazily(__name__, _HOMES, globals())
