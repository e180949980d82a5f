"""pack_cache: admit, survey, fold, lay, index, seal. The whole story on one page."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TypeVar

from tusz_cache import sealing, ssd
from tusz_cache.copying import journal
from tusz_cache.copying.journal import Journal
from tusz_cache.durability import Durability
from tusz_cache.entry import Entry, Proof
from tusz_cache.errors import Damaged, ForeignTarget, NoSpace, UsageError
from tusz_cache.guarding.admitted import AdmittedCache
from tusz_cache.guarding.guard import CacheGuard
from tusz_cache.lock import locked
from tusz_cache.manifest import Manifest
from tusz_cache.packing.folding import Folded, fold
from tusz_cache.packing.index import INDEX, Dtype, Index
from tusz_cache.packing.index import to_bytes as index_to_bytes
from tusz_cache.packing.blocks import SCALE, blocks_in
from tusz_cache.packing.npz import open_npz
from tusz_cache.packing.report import PackedSplit, PackReport
from tusz_cache.packing.splitting import Laid, SplitWriter, in_store_order
from tusz_cache.plan import Filters
from tusz_cache.progress import Progress
from tusz_cache.settings import cores
from tusz_cache.ssd import Target
from tusz_cache.stores.opening import target_path
