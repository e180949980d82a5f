"""Models by name."""

from typing import TYPE_CHECKING

from tusz_train.model.seizure_transformer import SeizureTransformer

if TYPE_CHECKING:
    from torch import nn

    from tusz_train.config import ModelConfig

MODELS = {  # a name of `architecture.PRESETS` -> what builds it from its architecture
    "seizure_transformer": SeizureTransformer,
    "small": SeizureTransformer,
}


def build(config: "ModelConfig") -> "nn.Module":
    """Return the model that a configuration names, with fresh weights from torch's global generator."""
    return MODELS[config.name](config.options)
