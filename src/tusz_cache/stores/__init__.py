"""Sources: where a cache comes from. `open_source` understands any fsspec URL or path."""

from tusz_cache.stores.base import Access, Facts, Fetch, GenericFetch, HttpFetch, LocalFetch, Source
from tusz_cache.stores.local import LocalSource, walk
from tusz_cache.stores.opening import open_source, target_path, upload

__all__ = [
    "Access",
    "Facts",
    "Fetch",
    "GenericFetch",
    "HttpFetch",
    "LocalFetch",
    "LocalSource",
    "Source",
    "open_source",
    "target_path",
    "upload",
    "walk",
]
