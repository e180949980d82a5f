"""The corpus: splits, file names and shapes of the Temple University Seizure corpus cache."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

from tusz_cache.errors import PatientOverlap, UsageError

SPLITS = ("train", "dev", "eval")  # the corpus' own names; never "val"
CHANNELS = 19
WINDOW, STRIDE = 15360, 2560  # samples at 256 Hz: 60 s every 10 s

_MISNAMED = {"val": "dev", "valid": "dev", "validation": "dev", "test": "eval"}  # names of other corpora
_SHOWN = 5  # names in a message

_NAME = re.compile(r"(?P<patient>[A-Za-z0-9]+)_(?P<session>s\d+)_(?P<token>t\d+)_windows\.npz", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Recording:
    """One EDF recording of the corpus, as its cache file's name tells it."""

    patient: str  # e.g. "aaaaaaac"
    session: str  # e.g. "s001"
    token: str  # e.g. "t000"

    @property
    def cache_file(self) -> str:
        """Name of the recording's file in the cache."""
        return f"{self.patient}_{self.session}_{self.token}_windows.npz"


def parse_name(name: str) -> Recording | None:
    """Return the recording that a cache file's name tells, or None for any other name."""
    match = _NAME.fullmatch(name)
    return Recording(**match.groupdict()) if match else None


def cache_file_of(edf: str) -> str:
    """Return the name of the cache file made of an EDF file. edf: its path, as the dataset index has it."""
    return f"{PurePosixPath(edf).stem}_windows.npz"


def split_of(key: str) -> str:
    """Return the key's split: its first folder, "." for a file at the root."""
    return key.split("/", 1)[0] if "/" in key else "."


def recordings(names: Iterable[str]) -> tuple[Recording, ...]:
    """Return the recordings that cache files' names tell. Raises UsageError for any other name."""
    found = []
    for name in names:
        if (recording := parse_name(name)) is None:
            raise UsageError(
                f"{name!r} does not tell a patient, session and token",
                hint="name it <patient>_<session>_<token>_windows.npz, as in aaaaaaac_s001_t000_windows.npz",
            )
        found.append(recording)
    return tuple(found)


def check_splits(folders: Iterable[str]) -> tuple[str, ...]:
    """Return the splits among a cache's folders, in the corpus' order.

    Raises: UsageError for a folder with another corpus' name for a split, since it would be passed over in silence.
    """
    found = set(folders)
    for folder in sorted(found):
        if (split := _MISNAMED.get(folder.lower())) is not None:
            raise UsageError(
                f"the cache has a folder {folder}/, but the corpus' splits are train, dev and eval",
                hint=f"rename {folder}/ to {split}/ if that is what it holds, else move it out of the cache",
            )
    return tuple(split for split in SPLITS if split in found)


def check_disjoint(names_by_split: Mapping[str, Iterable[str]]) -> None:
    """Check that no patient is in two splits, by the names of cache files.

    Raises: PatientOverlap, naming patients; UsageError for a name that tells none.
    """
    patients = {split: {item.patient for item in recordings(names)} for split, names in names_by_split.items()}
    for one, other in combinations(patients, 2):
        if shared := sorted(patients[one] & patients[other]):
            raise PatientOverlap(
                f"{one} and {other} share patients: {listed(shared)}",
                hint="take their files out of one of the two: a model must not be judged on patients it was trained on",
            )


def listed(names: Sequence[str]) -> str:
    """Return the first few names for a message, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
