"""Whether a capacity is made up. Object store mounts report one; it is what still shows through a sandbox."""

from tusz_cache.guarding.values import Statfs
from tusz_cache.units import format_bytes

_VAST = 2**48  # bytes
_MADE_UP = {10**9, 2**50, (2**64 - 1) // 1024}  # files: goofys and rclone, gcsfuse, mountpoint-s3


def is_synthetic(seen: Statfs) -> bool:
    """Return whether no disk reports these counts: hundreds of terabytes, or a round number of files, all free."""
    vast = seen.blocks * (seen.frsize or seen.bsize) >= _VAST and seen.bfree == seen.blocks
    return vast or (seen.files in _MADE_UP and seen.ffree == seen.files)


def describe(seen: Statfs) -> str:
    """Return the counts for a person."""
    size, free = seen.blocks * (seen.frsize or seen.bsize), seen.bfree * (seen.frsize or seen.bsize)
    return f"{format_bytes(size)} ({format_bytes(free)} free), {seen.files} files ({seen.ffree} free)"
