"""What an estimate assumes: each figure with what it rests on. A figure that nobody measured says so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from tusz_cache.errors import UsageError

Kind = Literal["stated", "measured", "documented", "assumed", "given"]


@dataclass(frozen=True, slots=True)
class Basis:
    """What a figure means, and what it rests on."""

    what: str
    kind: Kind
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAssumptions:
    """What is trained, where, and how fast things are. Raises UsageError for values that make no sense."""

    bytes: int = 450_000_000_000  # of the cache's NPZ files, both splits
    train_files: int = 4667
    dev_files: int = 1832
    dev_share: float = 0.318  # of the bytes
    epochs: int = 100
    windows: int = 61_600  # that an epoch draws
    months: float = 1.0  # that things are stored
    same_region: bool = False  # whether what reads the bucket runs in its region
    gpu_rate: float = 440.0  # windows a second that the GPU learns from
    workers: int = 16  # processes that read and inflate, a core each
    inflate_rate: int = 176_000_000  # bytes of NPZ a second and worker
    copy_rate: int = 1_690_000_000  # bytes of packed windows a second and worker
    packed_share: float = 0.212  # of the NPZ files' bytes
    mount_part: int = 64 * 2**20  # bytes of a mount's request
    mount_cache: int = 524_238 * 2**20  # bytes that a mount keeps on the container's disk
    mount_rate: int = 3_125_000_000  # bytes a second
    disk_rate: int = 2_400_000_000  # bytes a second of the container's disk, through which a mount's cache serves
    container_hours: float = 24.0  # after which a container ends, and its mount's cache with it
    volume_rate: int = 2_500_000_000  # bytes a second
    volume_other: int = 0  # bytes that lie in the workspace's volumes besides
    part_size: int = 16 * 2**20  # bytes of a request of sync
    populate_containers: int = 4
    populate_rate: int = 350_000_000  # bytes a second and container
    populate_cpu: float = 4.0  # cores of a container
    populate_memory: int = 8 * 2**30  # bytes of a container
    pack_rate: int = 313_000_000  # bytes of NPZ a second and core
    outputs: int = 5_000_000_000  # bytes of checkpoints and reports that are fetched from Modal

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = _LEAST.get(field.name, 0)
            if not math.isfinite(value) or value < least:
                raise UsageError(f"{field.name}={value} makes no sense", hint=f"use a number of {least} or more")
            if field.name in _POSITIVE and not value > 0:
                raise UsageError(f"{field.name}={value} makes no sense", hint="use a number above 0")
        if self.dev_share >= 1:
            raise UsageError(f"dev_share={self.dev_share} makes no sense", hint="use a share from 0 to below 1")

    @property
    def train_bytes(self) -> float:
        """Bytes of the train split."""
        return self.bytes * (1 - self.dev_share)

    @property
    def dev_bytes(self) -> float:
        """Bytes of the dev split."""
        return self.bytes * self.dev_share

    @property
    def train_file(self) -> float:
        """Mean bytes of a train file."""
        return self.train_bytes / self.train_files

    def basis(self, name: str) -> Basis:
        """Return what a figure rests on: the user, if it is not the one of this module."""
        ours = BASES[name]
        default = next(field.default for field in fields(self) if field.name == name)
        return ours if getattr(self, name) == default else Basis(ours.what, "given", "by who asked")


_LEAST = {"bytes": 1, "train_files": 1, "workers": 1, "mount_part": 1, "part_size": 1, "populate_containers": 1}
_POSITIVE = {
    *("gpu_rate", "inflate_rate", "copy_rate", "mount_rate", "disk_rate", "volume_rate", "populate_rate", "pack_rate"),
    *("container_hours", "populate_cpu"),
}
_PLAN = "the users' plan: train some 306 GB in 4667 files, dev 143 GB in 1832"
_BENCH = "on 2 quiet cores, 2026-11-24 (docs/measurements.md); that the platform's cores are as fast is assumed"
BASES: Mapping[str, Basis] = {
    "bytes": Basis("bytes of the cache's NPZ files", "stated", _PLAN),
    "train_files": Basis("files of the train split", "stated", _PLAN),
    "dev_files": Basis("files of the dev split", "stated", _PLAN),
    "dev_share": Basis("share of the bytes that is the dev split, read once after each epoch", "stated", _PLAN),
    "epochs": Basis("epochs of training", "stated", "configs/modal/train.yaml"),
    "windows": Basis(
        "windows that an epoch draws at random",
        "assumed",
        "3.8 for each of some 16,200 windows that are partly seizure",
    ),
    "months": Basis("months that things are stored", "assumed", "a month of work"),
    "same_region": Basis("what reads the bucket runs in its region", "assumed", "Modal places containers anywhere"),
    "gpu_rate": Basis(
        "windows a second that the GPU learns from",
        "assumed",
        "an A100 at a fifth of its peak with 141 GFLOP a window; no GPU was used",
    ),
    "workers": Basis("processes that read and inflate, a core each", "stated", "configs/modal/train.yaml"),
    "inflate_rate": Basis(
        "bytes of NPZ that a worker inflates a second",
        "measured",
        f"numpy.load inflates 217 MB a CPU second, of NPZ at 0.81, {_BENCH}",
    ),
    "copy_rate": Basis(
        "bytes of packed windows that a worker copies a second",
        "measured",
        f"0.698 CPU s for 1,000 windows, warm, {_BENCH}",
    ),
    "packed_share": Basis(
        "bytes of the packed store for each of the NPZ files",
        "measured",
        "float32, on synthetic EEG that deflates to 0.81",
    ),
    "mount_part": Basis(
        "bytes of one request of a mount", "documented", "Modal's mount-s3 command, mountpoint-s3 issue 1562"
    ),
    "mount_cache": Basis(
        "bytes that a mount keeps on the container's disk",
        "documented",
        "Modal's mount-s3 command, mountpoint-s3 issue 1562",
    ),
    "mount_rate": Basis(
        "bytes a second through a mount",
        "assumed",
        "all of the 25 Gbit/s that Modal's mount-s3 command names; never seen by anyone here",
    ),
    "disk_rate": Basis(
        "bytes a second of a container's disk, where a mount's cache lies",
        "assumed",
        "the most that users saw written to one, 1.6 to 2.4 GB/s",
    ),
    "container_hours": Basis(
        "hours after which a container ends", "documented", "Modal guide, timeouts; preemption comes sooner"
    ),
    "volume_rate": Basis(
        "bytes a second from a volume", "documented", "Modal guide, volumes: up to 2.5 GB/s, which is not guaranteed"
    ),
    "volume_other": Basis("bytes that lie in the workspace's volumes besides", "assumed", "an empty workspace"),
    "part_size": Basis("bytes of one request of sync", "stated", "its default"),
    "populate_containers": Basis("containers that populate", "assumed", "a v1 volume takes five writers"),
    "populate_rate": Basis(
        "bytes a second that a container brings",
        "assumed",
        "what one user wrote to a v1 volume in order; the predecessor's copy had 62 MB/s",
    ),
    "populate_cpu": Basis("cores of such a container", "assumed", "the 16 of the users' plan over four containers"),
    "populate_memory": Basis(
        "memory of such a container", "assumed", "the 32 GiB of the users' plan over four containers"
    ),
    "pack_rate": Basis(
        "bytes of NPZ that a core packs a second", "measured", f"387 MB inflated a CPU second, of NPZ at 0.81, {_BENCH}"
    ),
    "outputs": Basis(
        "bytes of checkpoints and reports that are fetched from Modal", "assumed", "eight checkpoints of some 600 MB"
    ),
}
