"""The part of a configuration that says which windows are read, from where, and what the guard is told."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from tusz_train.section import Probability, Section, Several, Share, Text


class ExpectedFiles(Section):
    """How many recordings the cache must hold."""

    train: NonNegativeInt
    """Files in `train/`."""
    dev: NonNegativeInt
    """Files in `dev/`."""


class BalanceConfig(Section):
    """Which windows an epoch draws, by class: all that are partly seizure, and these of the others."""

    full_ratio: NonNegativeFloat = 0.3
    """Windows that are all seizure, for each that is partly."""
    background_ratio: NonNegativeFloat = 2.5
    """Windows without seizure, for each that is partly."""
    draw: Literal["fixed", "redraw"] = "redraw"
    """Whether every epoch has the same windows, or draws its own."""


class AugmentationConfig(Section):
    """What is done to a training window at random. 0 leaves it out."""

    scale: Share = 0.2
    """Largest change of amplitude, as a share."""
    shift_s: Annotated[float, Field(ge=0, lt=60)] = 0.0
    """Largest shift in time, seconds."""
    drop: Probability = 0.0
    """Probability of each channel to be silent."""
    swap: Probability = 0.5
    """Probability that left and right change places."""
    noise: NonNegativeFloat = 0.0
    """Largest standard deviation of Gaussian noise; a window's own is about 1."""


class DataConfig(Section):
    """Which windows are read, from where and how."""

    cache_dir: Text
    """The sealed cache. There is no other key for it, and training never builds one."""
    store_dir: Text | None = None
    """The packed store of the cache; null reads the NPZ files."""
    stage_to: Text | None = None
    """Folder on this machine's own disk that the store is copied to first; null reads it where it is."""
    expected_files: ExpectedFiles | None = None
    """Refuse a cache that holds other numbers of files; null takes any."""
    batch_size: PositiveInt = 64
    """Windows of an optimiser step on all devices together, before accumulation."""
    workers: NonNegativeInt = 4
    """Threads or processes that read, for each device; 0 reads in the loop."""
    worker_mode: Literal["thread", "process"] = "thread"
    """Whether the workers are threads or processes."""
    prefetch: PositiveInt = 4
    """Batches that each worker reads ahead."""
    advise: Literal["auto", "on", "off"] = "auto"
    """Tell the kernel of packed windows before they are read: `on` always, `auto` where they may not be in memory."""
    balance: BalanceConfig | None = BalanceConfig()
    """Draw windows by class; null takes every window of an epoch once."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """What is done to a training window at random."""

    @model_validator(mode="after")
    def _staged(self) -> Self:
        if self.stage_to is not None and self.store_dir is None:
            raise ValueError("stage_to copies the packed store: set store_dir, or stage_to to null")
        return self


class AllowConfig(Section):
    """A mount that may be read from although the guard would refuse it, as long as it stays what it is."""

    path: Text
    """The cache, or a directory above it."""
    fstype: Text
    """Type of the file system, as the guard says it."""
    source: Text
    """Its source, likewise."""
    reason: Text
    """Why; recorded in the run."""


class GuardConfig(Section):
    """What the guard is told before it says whether training may read."""

    seal: Literal["require", "ignore"] = "require"
    """Whether a cache without a seal may be read."""
    probe: bool = False
    """Measure how fast the directory is as well."""
    mounts_file: Text | None = None
    """JSON file of declared mounts."""
    policy_file: Text | None = None
    """JSON file of mounts that the owner of the machine allows."""
    allow: Several[AllowConfig] = ()
    """Mounts that this run allows itself."""
