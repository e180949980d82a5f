"""Where a run writes: the folders of its name below `run.output_dir`, and the files in them."""

from dataclasses import dataclass
from pathlib import Path

from tusz_cache import ssd
from tusz_cache.disk_errors import translated
from tusz_train.config import LoggingConfig, RunConfig


@dataclass(frozen=True, slots=True)
class Outputs:
    """The folders and files of one run."""

    root: Path
    name: str

    @classmethod
    def of(cls, config: RunConfig) -> "Outputs":
        """Return those of a configuration."""
        return cls(Path(config.output_dir).absolute(), config.name)

    @classmethod
    def around(cls, checkpoint: Path) -> "Outputs | None":
        """Return those that a checkpoint, or a folder of them, lies among; None if it lies elsewhere."""
        folder = (checkpoint if checkpoint.is_dir() else checkpoint.parent).absolute()
        found = cls(folder.parent.parent, folder.name)
        return found if found.checkpoints == folder else None

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.root / "checkpoints" / self.name

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.root / "tensorboard" / self.name

    @property
    def wandb(self) -> Path:
        """Folder of W&B's files."""
        return self.root / "wandb" / self.name

    @property
    def run(self) -> Path:
        """Folder of everything else."""
        return self.root / "runs" / self.name

    @property
    def record(self) -> Path:
        """What the run was: configuration, versions, cache, verdict."""
        return self.run / "run.json"

    @property
    def metrics(self) -> Path:
        """What was measured, one object a line."""
        return self.run / "metrics.jsonl"

    def prepare(self, logging: LoggingConfig) -> None:
        """Make the folders that hold runs, and see that a run can write. Raises TargetError, NoSpace.

        A run's own folders are made when something is written to them: an empty one would be set aside.
        """
        kinds = [self.checkpoints, self.run]
        kinds += [self.tensorboard] if logging.tensorboard else []
        kinds += [self.wandb] if logging.wandb != "off" else []
        ssd.check_writable([kind.parent for kind in kinds])
        ssd.check_writable([kind for kind in kinds if kind.exists()])

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders of this name."""
        return self.checkpoints, self.tensorboard, self.wandb, self.run

    def aside(self, folder: Path) -> Path:
        """Return the new name of one of the folders, or of a part of it, when it is set aside next."""
        number = 1
        while any(_numbered(one, number).exists() for one in self.folders):
            number += 1
        return _numbered(folder, number)

    def set_aside(self) -> list[Path]:
        """Give all that an earlier run of this name wrote another name; returns the new names. Nothing is deleted.

        The folder of the run stays, and its lock in it: what is in it moves. Raises TargetError.
        """
        with translated(self.run):
            moves = [(one, self.aside(one)) for one in self.folders[:-1] if one.exists()]
            left = [one for one in _parts(self.run) if one.name != self.record.name]
            last = [self.record] if self.record.exists() else []  # what tells whose the outputs are
            if left or last:
                to = self.aside(self.run)
                ssd.make_directories([to])
                moves += [(one, to / one.name) for one in [*left, *last]]
            for old, new in moves:
                old.rename(new)
            return sorted({new.parent if old.parent == self.run else new for old, new in moves})


def _parts(run: Path) -> list[Path]:
    """Return what is in the folder of a run, but for what is not the run's: its lock."""
    return sorted(one for one in run.iterdir() if one != ssd.Target(run).meta) if run.exists() else []


def _numbered(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}.before-{number}")
