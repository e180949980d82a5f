"""Plan a synthetic cache: which recordings it holds, and what each of them shows. Pure.

The counts follow from the configuration alone; the seed decides which recording is of which kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from tusz_cache.errors import UsageError
from tusz_cache.tusz import Recording

__all__ = ["SIZES", "SPLITS", "Kind", "PlannedRecording", "SynthConfig", "plan_recordings"]

SPLITS = ("train", "dev")  # those a cache has


class Kind(StrEnum):
    """What a recording is made to show. All but UNLABELLED have labels, all but SHORT have windows."""

    SEIZURE = "seizure"
    LONG_SEIZURE = "long_seizure"  # its first seizure covers at least one whole window
    BACKGROUND = "background"
    UNLABELLED = "unlabelled"  # has seizures, but like old files no `labels` member
    SHORT = "short"  # under 60 s: a valid file of 0 windows


@dataclass(frozen=True, slots=True)
class PlannedRecording:
    """One recording that the cache is to hold."""

    split: str
    recording: Recording
    kind: Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthConfig:
    """What cache to make. Shares are of the recordings of a split, rounded to whole ones; the rest have seizures.

    Raises: UsageError for values that no cache can have.
    """

    seed: int = 0
    train_patients: int
    dev_patients: int
    sessions_per_patient: tuple[int, int] = (1, 1)  # low and high, both included; patients cycle through them
    recordings_per_session: tuple[int, int] = (1, 1)  # likewise
    length_s: tuple[float, float]  # seconds, drawn uniformly; LONG_SEIZURE recordings last at least 72 s
    background_share: float = 0.0  # recordings without seizures
    short_share: float = 0.0  # recordings under 60 s, N = 0
    unlabelled_share: float = 0.0  # files without `labels`
    flat_share: float = 0.08  # of channel time, with the electrode off; it sets the deflate ratio
    hard: bool = False  # patients differ, and artefacts mislead: to be learnt, but not by a threshold
    step: float = 0.0  # sigma to which the z-scores are rounded, so that files are small; 0 keeps all digits
    level: int = 6  # of deflate; 0 stores

    def __post_init__(self) -> None:
        """Refuse what no cache can have, naming the remedy."""
        if self.seed < 0:
            raise UsageError(f"seed={self.seed} makes no sense", hint="give 0 or more")
        if min(self.train_patients, self.dev_patients) < 1:
            raise UsageError("train_patients, dev_patients makes no sense", hint="give each split at least 1")
        for name in ("sessions_per_patient", "recordings_per_session"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise UsageError(
                    f"{name}=({low}, {high}) makes no sense", hint="give (low, high) with 1 <= low <= high"
                )
        if not 60 <= self.length_s[0] <= self.length_s[1]:
            raise UsageError(
                f"length_s={self.length_s} makes no sense",
                hint="give 60 <= low <= high; for less than 60 s use short_share",
            )
        shares = (self.background_share, self.short_share, self.unlabelled_share)
        if min(shares) < 0 or sum(shares) > 1:
            raise UsageError(
                f"background, short and unlabelled_share are {shares} makes no sense",
                hint="give shares with a sum up to 1",
            )
        if not 0 <= self.flat_share < 1:
            raise UsageError(f"flat_share={self.flat_share} makes no sense", hint="give a share from 0 to below 1")
        if not 0 <= self.step < 1:
            raise UsageError(f"step={self.step} makes no sense", hint="give a part of a sigma, or 0")
        if self.level not in range(10):
            raise UsageError(f"level={self.level} makes no sense", hint="give 1 to 9, or 0 to store")


SIZES: Mapping[str, SynthConfig] = MappingProxyType(
    {
        # Five files with every odd kind and six windows in 2 to 3 MB: electrodes are off more than on.
        "tiny": SynthConfig(
            train_patients=2,
            dev_patients=1,
            sessions_per_patient=(1, 2),
            recordings_per_session=(1, 2),
            length_s=(60.0, 69.0),
            background_share=0.25,
            short_share=0.25,
            unlabelled_share=0.25,
            flat_share=0.6,
        ),
        "small": SynthConfig(
            train_patients=8,
            dev_patients=4,
            sessions_per_patient=(1, 2),
            recordings_per_session=(1, 2),
            length_s=(65.0, 120.0),
            background_share=0.45,
            short_share=0.06,
            unlabelled_share=0.06,
        ),
        # A file a patient: `dataclasses.replace(SIZES["real"], train_patients=n)` sets their number.
        "real": SynthConfig(train_patients=4, dev_patients=2, length_s=(725.0, 820.0), background_share=0.5),
        # What a small model learns in minutes and a threshold does not: see bench/learn.py.
        "learn": SynthConfig(
            train_patients=16,
            dev_patients=8,
            recordings_per_session=(5, 5),
            length_s=(110.0, 170.0),
            background_share=0.6,
            flat_share=0.03,
            hard=True,
            step=1 / 16,
            level=4,
        ),
    }
)


def plan_recordings(config: SynthConfig) -> tuple[PlannedRecording, ...]:
    """Say which recordings the cache holds, by split and in the order of their file names.

    Among those with seizures every fourth is LONG_SEIZURE, and at least one of a split.
    """
    plan: list[PlannedRecording] = []
    for parity, split in enumerate(SPLITS):
        recordings = [
            Recording(_patient_name(2 * i + 2 + parity), f"s{session:03d}", f"t{token:03d}")  # dev has the odd names
            for i in range((config.train_patients, config.dev_patients)[parity])
            for session in range(1, 1 + _cycle(config.sessions_per_patient, i))
            for token in range(_cycle(config.recordings_per_session, i + session - 1))
        ]
        order = np.random.default_rng([config.seed, *split.encode()]).permutation(len(recordings))
        kinds = _kinds(config, len(recordings))
        plan += [PlannedRecording(split, name, kinds[k]) for name, k in zip(recordings, order, strict=True)]
    return tuple(plan)


def _cycle(bounds: tuple[int, int], i: int) -> int:
    """Walk through low..high, so that the counts, and with them the sizes, do not hang on the seed."""
    return bounds[0] + i % (bounds[1] - bounds[0] + 1)


def _patient_name(code: int) -> str:
    """Write `code` as the corpus does: 2 is aaaaaaac."""
    return "".join(chr(ord("a") + code // 26**place % 26) for place in range(7, -1, -1))


def _kinds(config: SynthConfig, n: int) -> list[Kind]:
    """Say how many of `n` recordings are of each kind, as a list of n kinds."""
    counts = {
        Kind.SHORT: config.short_share,
        Kind.UNLABELLED: config.unlabelled_share,
        Kind.BACKGROUND: config.background_share,
    }
    odd = [kind for kind, share in counts.items() for _ in range(round(share * n))][:n]
    return odd + [Kind.SEIZURE if i % 4 else Kind.LONG_SEIZURE for i in range(n - len(odd))]
