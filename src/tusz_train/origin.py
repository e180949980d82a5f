"""What was evaluated, and what it has to do with what was trained on: the same cache, the same patients? Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tusz_cache.errors import PatientOverlap

WARNING = "WARNING"  # begins a sentence that must not be overlooked

_SHOWN = 5  # patients that a sentence names


def patients_of(names: Iterable[str]) -> frozenset[str]:
    """Return the patients of recordings: what stands before the first underscore."""
    return frozenset(name.partition("_")[0] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What was evaluated, beside what the checkpoint was trained on."""

    split: str
    cache_dir: str
    store_dir: str | None  # that windows were read from; None: from the cache
    verdict: str  # of the guard, on what was read
    cache: Mapping[str, Any]  # what tells it from others
    trained_cache: Mapping[str, Any]  # that of the training
    patients: frozenset[str]  # evaluated
    trained_on: frozenset[str] | None  # of them, those that training saw; None: the checkpoint does not say
    chosen_on: frozenset[str] | None  # of them, those that checkpoint and threshold were chosen on

    @classmethod
    def of(cls, saved: Mapping[str, Any], *, patients: frozenset[str], **told: Any) -> "Origin":
        """Return that of a checkpoint's content. told: the fields that say what is evaluated."""
        known = saved.get("patients") or {}
        seen = {split: patients & set(known[split]) if split in known else None for split in ("train", "dev")}
        return cls(
            trained_cache=saved["cache"], patients=patients, trained_on=seen["train"], chosen_on=seen["dev"], **told
        )

    @property
    def is_trained_cache(self) -> bool | None:
        """Whether the cache is the one that was trained on; None where one of them has no manifest to tell it by."""
        one, other = self.cache["manifest_sha256"], self.trained_cache["manifest_sha256"]
        return None if one is None or other is None else one == other

    def check(self, *, allow_seen: bool) -> None:
        """Raise PatientOverlap if patients of a held-out split were trained on, unless that is allowed."""
        if self.trained_on and self.split != "train" and not allow_seen:
            raise PatientOverlap(
                f"{_counted(self.trained_on, self.patients)} of {self.split} in {self.cache_dir} were trained on: "
                f"{_named(self.trained_on)}",
                hint="evaluate patients that were held out; --allow-seen-patients scores these all the same and says "
                "so in the report",
            )

    @property
    def threshold_chosen(self) -> str:
        """Return what the threshold that training found was chosen on, as seen from here."""
        if self.chosen_on is None:
            return "chosen on dev in training; whether on patients of this split is not known"
        if not self.chosen_on:
            return "chosen on dev in training, on none of these patients"
        return f"chosen in training on {_counted(self.chosen_on, self.patients)} evaluated here, so not held out"

    def sentences(self) -> list[str]:
        """Return what a reader must know: which cache it is, and whether its patients are new to the model."""
        which = {
            True: "the one that was trained on",
            False: "not the one that was trained on",
            None: "not known to be the one that was trained on: one of the two has neither seal nor manifest",
        }[self.is_trained_cache]
        values, trained = self.cache["values"], self.trained_cache["values"]
        kind = f" Windows are {values}; training read {trained}." if values != trained else ""
        return [f"The cache, {self.cache_dir}, is {which}.{kind}", *self.warnings()]

    def warnings(self) -> list[str]:
        """Return what is to be said of patients."""
        if self.trained_on is None:
            said = "Whether patients were trained on is not known: the checkpoint does not say."
        elif self.trained_on:
            said = (
                f"{WARNING}: {_counted(self.trained_on, self.patients)} were trained on ({_named(self.trained_on)}): "
            )
            said += "scores do not say how the model does on new patients."
        else:
            said = f"None of the {len(self.patients)} patients was trained on."
        if not self.chosen_on:
            return [said]
        chosen = f"The checkpoint was chosen on {_counted(self.chosen_on, self.patients)} evaluated here."
        return [said, chosen]

    def as_dict(self) -> dict[str, Any]:
        """Return what `metrics.json` has of it."""
        return {
            "cache_dir": self.cache_dir,
            "store_dir": self.store_dir,
            "verdict": self.verdict,
            "manifest_sha256": self.cache["manifest_sha256"],
            "values": self.cache["values"],
            "is_trained_cache": self.is_trained_cache,
            "patients": len(self.patients),
            "patients_trained_on": None if self.trained_on is None else sorted(self.trained_on),
            "patients_chosen_on": None if self.chosen_on is None else sorted(self.chosen_on),
        }


def _counted(some: Collection[str], of: Collection[str]) -> str:
    return f"{len(some)} of {len(of)} patients"


def _named(patients: Collection[str]) -> str:
    more = len(patients) - _SHOWN
    return ", ".join(sorted(patients)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
