"""PackReport: what packing did, as a value that prints as text, JSON or HTML."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tusz_cache.layout import as_html, as_table
from tusz_cache.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True)
class PackedSplit:
    """One split of a store."""

    recordings: int
    windows: int
    bytes_in: int  # of the NPZ files
    bytes_out: int  # of the store's files
    plain_recordings: int  # whose windows share nothing, although they overlap in time
    rebuilt: tuple[str, ...] = ()  # keys of window manifest and dataset index, where the cache's do not fit


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What `pack_cache` did."""

    store: str
    dtype: str
    splits: Mapping[str, PackedSplit]
    seconds: float = 0.0
    packed: int = 0  # recordings of this run; the others lay there already
    max_error: float = 0.0  # of any sample against the cache; 0: equal bit for bit
    verified: bool = True  # every byte was read back before it got its name

    @property
    def exit_code(self) -> int:
        """0: what goes wrong is raised."""
        return 0

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `pack --json` prints."""
        return {
            "store": self.store,
            "dtype": self.dtype,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
            "seconds": round(self.seconds, 3),
            "packed": self.packed,
            "max_error": self.max_error,
            "verified": self.verified,
        }

    def as_json(self) -> str:
        """Return `as_dict` as one line."""
        return json.dumps(self.as_dict())

    def rows(self) -> list[tuple[str, str]]:
        """Return (label, value) for a person."""
        rows = [("store", self.store)]
        for name, split in self.splits.items():
            share = split.bytes_out / split.bytes_in if split.bytes_in else 0.0
            sizes = f"{format_bytes(split.bytes_in)} -> {format_bytes(split.bytes_out)} ({share:.2f})"
            rows.append((name, f"{split.recordings} recordings, {split.windows} windows, {sizes}"))
            rows += [(name, f"{key} was made anew: the cache's own does not fit its files") for key in split.rebuilt]
            if split.plain_recordings:
                rows.append((name, f"{split.plain_recordings} recordings do not overlap bit for bit: kept as windows"))
        exact = "equal to the cache bit for bit" if not self.max_error else f"error at most {self.max_error:.2g}"
        rows.append(("values", f"{self.dtype}, {exact}"))
        rows.append(("packed", f"{self.packed} recordings in {format_seconds(self.seconds)}, read back and sealed"))
        rows.append(("next", f"set data.store_dir: {self.store} in the training configuration"))
        return rows

    def as_text(self) -> str:
        """Return `rows` as a table."""
        return as_table(self.rows())

    def _repr_html_(self) -> str:
        return as_html("packed", self.rows())
