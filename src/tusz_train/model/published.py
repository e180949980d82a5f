"""Weights of the published SeizureTransformer (github.com/keruiwu/SeizureTransformer) for the model here.

Its modules have other names, and its channels another order. Not part of the model, and left out: the table of places,
which is computed here, and `transformer_encoder_layer`, a layer that is copied into the transformer and never runs
(with its 3.2 M parameters the published model counts 41.0 M).
"""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tusz_train.errors import BadWeights
from tusz_train.model.seizure_transformer import SeizureTransformer
from tusz_train.montage import FROM_PUBLISHED

_NAMES = {  # how names begin there, and here
    "encoder.": "encoder.",
    "res_cnn_stack.members.": "residual.",
    "transformer_encoder.layers.": "transformer.layers.",
    "decoder_d.": "decoder.",
    "conv_d.": "head.",
}
_WITHIN = {  # and how they go on
    ".self_attn.in_proj_": ".qkv.",
    ".self_attn.out_proj.": ".out.",
}
_UNUSED = ("position_encoding.pe", "transformer_encoder_layer.")
_PARALLEL = "module."  # what torch's data parallelism puts before every name
_FIRST = "encoder.convs.0.weight"  # the only weights that see the order of channels
_SHOWN = 5  # names in a message
_HINT = "give the file of weights of the published SeizureTransformer with 19 channels, model.pth"


def load_published(path: Path, model: SeizureTransformer) -> None:
    """Give `model` the weights of a published checkpoint; it goes on taking channels in the cache's order.

    Only tensors are read, no code. Raises BadWeights if the file cannot be read or is for another model.
    """
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise BadWeights(f"{path} cannot be read as weights: {reason}", hint=_HINT) from error
    if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()):
        raise BadWeights(f"{path} holds something else than names and tensors", hint=_HINT)
    model.load_state_dict(convert(read, model.state_dict(), str(path)))


def convert(published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the published weights by the names here, for channels in the cache's order. name: of the file.

    wanted: the model's own weights. Raises BadWeights if names or shapes are not theirs.
    """
    found: dict[str, Tensor] = {}
    strange = []
    for key, value in published.items():
        plain = key.removeprefix(_PARALLEL)
        if plain.startswith(_UNUSED):
            continue
        here = _here(plain)
        if here in wanted:
            found[here] = value
        else:
            strange.append(key)
    shapes = (
        f"{key} is {tuple(found[key].shape)} and not {tuple(wanted[key].shape)}"
        for key in found
        if found[key].shape != wanted[key].shape
    )
    for what, keys in (("lacks", wanted.keys() - found.keys()), ("has besides", strange), ("does not fit", shapes)):
        if told := _told(keys):
            raise BadWeights(f"{name} is not for this model: it {what} {told}", hint=_HINT)
    return found | {_FIRST: found[_FIRST][:, list(FROM_PUBLISHED)]}


def _here(name: str) -> str:
    """Return what weights of a published name are called here; "" where nothing is called so there."""
    there = next((prefix for prefix in _NAMES if name.startswith(prefix)), None)
    if there is None:
        return ""
    rest = name.removeprefix(there)
    for old, new in _WITHIN.items():
        rest = rest.replace(old, new)
    return _NAMES[there] + rest


def _told(names: Iterable[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:_SHOWN]) + (f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else "")
