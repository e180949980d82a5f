"""Sealed caches for tests and benches, made without a sync."""

from pathlib import Path
from typing import Any

from tests.support.running import META
from tusz_cache.checksum import crc64nvme
from tusz_cache.entry import Entry, Proof
from tusz_cache.manifest import Manifest
from tusz_cache.manifest_file import digest, to_bytes
from tusz_cache.seal import Seal
from tusz_cache.seal import to_bytes as seal_bytes
from tusz_cache.stores.local import walk


def make_cache(root: Path, contents: dict[str, bytes], **changes: Any) -> Path:
    """Write files below `root`, and seal them. Returns `root`."""
    for key, data in contents.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return seal_cache(root, **changes)


def seal_cache(root: Path, **changes: Any) -> Path:
    """Write the manifest of what lies below `root`, and a seal with `changes`. Returns `root`."""
    rows = [
        Entry(key, stat.st_size, "e", Proof(crc64nvme((root / key).read_bytes()), "source-crc", stat.st_mtime_ns))
        for key, stat in walk(root)
    ]
    manifest = Manifest.of(rows)
    data = to_bytes(manifest)
    usual: dict[str, Any] = {
        "source": "s3://bucket/cache",
        "manifest_sha256": digest(data),
        "files": len(manifest),
        "bytes": manifest.bytes,
        "splits": manifest.splits(),
        "verification": manifest.level_counts(),
        "created": "2026-01-01T00:00:00+00:00",
        "tusz_cache": "0.1.0",
    }
    (root / META).mkdir(parents=True, exist_ok=True)
    (root / META / "manifest.jsonl").write_bytes(data)
    (root / META / "seal.json").write_bytes(seal_bytes(Seal(**usual | changes)))
    return root
