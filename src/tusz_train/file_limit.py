"""BGB_LIMIT_FILES: how many recordings a smoke run takes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from tusz_train.config import Config
from tusz_train.errors import ConfigError

VARIABLE = "BGB_LIMIT_FILES"


@dataclass(frozen=True, slots=True)
class FileLimit:
    """The most recordings that a run takes of each split."""

    train: int
    dev: int

    def __str__(self) -> str:
        return f"file limit: {self.train} train, {self.dev} dev ({VARIABLE}={self.train})"


def resolve_limit(environment: Mapping[str, str], config: Config) -> FileLimit | None:
    """Return the limit that the environment asks for, or None: N files of train, a fifth of that but at least 1 of dev.

    Raises ConfigError if the run is no smoke run, which alone may be limited, or if N is no number of 1 or more.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return None
    if not config.run.smoke:
        raise ConfigError(
            f"{VARIABLE}={text} would train on some of the files only, and the run is no smoke run",
            hint=f"unset {VARIABLE} to train on all files, or set run.smoke: true",
        )
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ConfigError(f"{VARIABLE}={text} is no number of files", hint=f"e.g. {VARIABLE}=50, or unset it")
    return FileLimit(train=int(text), dev=max(1, int(text) // 5))
