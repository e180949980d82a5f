"""Where a run writes: the folders of its name below `run.output_dir`, and the files in them."""

from dataclasses import dataclass
from pathlib import Path

from tusz_cache import ssd
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

    def set_aside(self) -> list[Path]:
        """Give all that an earlier run of this name wrote another name; returns the new names. Nothing is deleted."""
        folders = [self.checkpoints, self.tensorboard, self.wandb, self.run]
        number = 1
        while any(_numbered(folder, number).exists() for folder in folders):
            number += 1
        there = [folder for folder in folders if folder.exists()]
        return [folder.rename(_numbered(folder, number)) for folder in there]


def _numbered(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}.before-{number}")
