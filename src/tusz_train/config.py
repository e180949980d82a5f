"""The configuration of a run: what can be set, what it means, what contradicts itself. Values only.

What stands in the files, and how mistakes in them are told: config_file.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Strict, model_validator

from tusz_train.config_data import DataConfig, GuardConfig
from tusz_train.model.architecture import PRESETS, Architecture
from tusz_train.section import Probability, Section, Several, Share, Text


class RunConfig(Section):
    """What the run is called, and where it writes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Folder of the run below each kind of output."""
    output_dir: Text
    """Holds `checkpoints/`, `tensorboard/`, `wandb/` and `runs/`."""
    seed: NonNegativeInt = 42
    """Of weights, order, draws and augmentation."""
    smoke: bool = False
    """The run only shows that all parts work; only then may `BGB_LIMIT_FILES` limit the files."""


class ModelConfig(Section):
    """Which model is trained."""

    name: Literal["seizure_transformer", "small"] = "seizure_transformer"
    """`seizure_transformer` is the published model, `small` the same for a CPU."""
    options: Architecture = PRESETS["seizure_transformer"]
    """Layers that differ from those of the named model."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Fill `options` up from the named model, so that the resolved configuration tells every layer."""
        if not isinstance(given, Mapping):
            return given
        preset = PRESETS.get(str(given.get("name", cls.model_fields["name"].default)))
        options = given.get("options", {})
        if preset is None or not isinstance(options, Mapping):
            return given
        return {**given, "options": {**preset.model_dump(), **options}}


class OptimizerConfig(Section):
    """How weights follow gradients."""

    name: Literal["adamw", "radam"] = "adamw"
    """RAdam decays weights apart from gradients, like AdamW."""
    lr: PositiveFloat = 3e-4
    """Largest learning rate, after the warm-up."""
    weight_decay: NonNegativeFloat = 0.05
    """Of matrices and kernels; biases and norms do not decay."""
    betas: Annotated[tuple[Share, Share], Strict(False)] = (0.9, 0.999)
    """Memory of the gradients' mean and square."""


class ScheduleConfig(Section):
    """How the learning rate changes: it rises linearly, then falls as a cosine or stays."""

    shape: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up."""
    warmup_steps: NonNegativeInt | None = None
    """Optimiser steps of the warm-up."""
    warmup_share: Share | None = None
    """The same as a share of all steps."""
    floor: Probability = 0.01
    """Last learning rate, as a share of the largest."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if self.warmup_steps is not None and self.warmup_share is not None:
            raise ValueError("warmup_steps and warmup_share say the same thing: keep one")
        return self


class LoopConfig(Section):
    """How long and how the model is trained."""

    epochs: PositiveInt | None = None
    """Length of the run in epochs."""
    steps: PositiveInt | None = None
    """Length of the run in optimiser steps."""
    accumulation: PositiveInt = 1
    """Batches whose gradients make one optimiser step."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest norm of a step's gradient; null does not clip."""
    amp: Literal["auto", "off", "bf16"] = "auto"
    """Precision of the forward pass: `auto` is bf16 on a GPU that has it, else float32. The loss is float32."""
    compile: bool = False
    """Compile the model; the first steps take minutes, the others less."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = 0.999
    """Decay per step of the averaged weights that are validated and kept; null takes the last weights."""
    max_nonfinite_steps: NonNegativeInt = 10
    """Steps in a row that may be skipped since loss or gradient is not finite; one more ends the run."""
    pos_weight: PositiveFloat | None = None
    """Weight of ictal samples in the loss. Corrects the imbalance of classes, so `data.balance` must be null."""

    @model_validator(mode="after")
    def _length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("the run's length is told by epochs or by steps: set one, and the other to null")
        return self


class ValidationConfig(Section):
    """When and how the model is judged on dev."""

    every_steps: PositiveInt | None = None
    """Optimiser steps between validations; null validates after each epoch. The end is always validated."""
    stride_s: Annotated[float, Field(gt=0, le=60, multiple_of=10)] = 60.0
    """Seconds between windows of a recording: 60 does not overlap, 10 takes all that the cache has."""
    metric: Literal["szcore_event_f1"] = "szcore_event_f1"
    """What the best checkpoint is best at."""
    patience: PositiveInt | None = 12
    """Validations without a better metric that end the run; null never does."""
    thresholds: Annotated[Several[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] = tuple(
        percent / 100 for percent in range(5, 100, 5)
    )
    """Thresholds that are tried; the best one is kept with the checkpoint."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError("thresholds must rise, each of them once")
        return self


class PostprocessingConfig(Section):
    """How probabilities become events, apart from the threshold that validation finds."""

    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Probability that begins an event; null takes the best of `validation.thresholds`."""
    release: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the threshold below which the event ends."""
    min_duration_s: NonNegativeFloat = 2.0
    """Shorter events are dropped, seconds."""
    close_gap_s: NonNegativeFloat = 0.0
    """Shorter gaps between events are closed, seconds."""


class CheckpointConfig(Section):
    """When the state is written, beside the end and a stop."""

    every_steps: PositiveInt | None = None
    """Optimiser steps between checkpoints."""
    every_minutes: PositiveFloat | None = 15.0
    """Minutes between checkpoints."""
    keep_last: PositiveInt = 3
    """Checkpoints that are kept, beside the best one."""


class LoggingConfig(Section):
    """Where progress is shown, beside `metrics.jsonl`."""

    tensorboard: bool = True
    """Write TensorBoard's files."""
    wandb: Literal["off", "optional", "required"] = "off"
    """`optional` goes on without Weights & Biases and says so, `required` does not start without it."""
    wandb_project: Text | None = None
    """Project there; needed unless `wandb` is off."""
    wandb_entity: Text | None = None
    """Account there; null takes the one that the API key belongs to."""

    @model_validator(mode="after")
    def _project(self) -> Self:
        if self.wandb != "off" and self.wandb_project is None:
            raise ValueError("wandb needs a project: set wandb_project, or wandb to off")
        return self


class Config(Section):
    """All of a run's configuration."""

    run: RunConfig
    """What the run is called, and where it writes."""
    data: DataConfig
    """Which windows are read, from where and how."""
    model: ModelConfig = ModelConfig()
    """Which model is trained."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights follow gradients."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate changes."""
    loop: LoopConfig
    """How long and how the model is trained."""
    validation: ValidationConfig = ValidationConfig()
    """When and how the model is judged on dev."""
    postprocessing: PostprocessingConfig = PostprocessingConfig()
    """How probabilities become events."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When the state is written."""
    logging: LoggingConfig = LoggingConfig()
    """Where progress is shown."""
    guard: GuardConfig = GuardConfig()
    """What the guard is told."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        steps, warmup = self.loop.steps, self.schedule.warmup_steps
        if steps is not None and warmup is not None and warmup >= steps:
            raise ValueError(f"schedule.warmup_steps, {warmup}, leaves nothing of loop.steps, {steps}")
        return self

    @model_validator(mode="after")
    def _one_correction(self) -> Self:
        """Balanced draws and weighted samples together correct the imbalance twice, and the model finds everything."""
        if self.data.balance is not None and self.loop.pos_weight is not None:
            raise ValueError("data.balance and loop.pos_weight both correct the imbalance of classes: set one to null")
        return self


# What may differ between two runs that train the same: where things lie and how fast they come.
_NO_INFLUENCE: dict[str, Any] = {
    "run": {"name", "output_dir"},
    "data": {"cache_dir", "store_dir", "stage_to", "expected_files", "workers", "worker_mode", "prefetch", "advise"},
    "checkpoint": True,
    "logging": True,
    "guard": True,
}


def training_hash(config: Config) -> str:
    """Return the SHA-256 of what determines the training's result: equal for runs that may continue each other.

    The data themselves are not in it: the cache's identity and the file limit are recorded beside it.
    """
    told = json.dumps(config.model_dump(mode="json", exclude=_NO_INFLUENCE), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()


def counts(key: str) -> bool:
    """Whether a key, such as "optimizer.lr", has part in `training_hash`."""
    section, name, *_ = [*key.split("."), ""]
    out = _NO_INFLUENCE.get(section, ())
    return out is not True and name not in out
