"""The corpus: splits and file names of the Temple University Seizure corpus cache."""

import re
from dataclasses import dataclass

SPLITS = ("train", "dev", "eval")  # the corpus' own names; never "val"

_NAME = re.compile(r"(?P<patient>[A-Za-z0-9]+)_(?P<session>s\d+)_(?P<token>t\d+)_windows\.npz")


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


def split_of(key: str) -> str:
    """Return the key's split: its first folder, "." for a file at the root."""
    return key.split("/", 1)[0] if "/" in key else "."
