"""What a SeizureTransformer is made of, and what it costs. Values only: nothing here needs torch."""

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from tusz_train.montage import CHANNELS, WINDOW
from tusz_train.section import Probability, Section, Several

Stages = Annotated[Several[PositiveInt], Field(min_length=1)]


class Architecture(Section):
    """The layers of a SeizureTransformer (Wu et al. 2025, arXiv 2504.00336). The defaults are the published ones."""

    channels: PositiveInt = len(CHANNELS)
    """EEG channels of a window, C."""
    samples: PositiveInt = WINDOW
    """Samples of a window, T: the most that the model takes; a multiple of 2 to the number of filters."""
    filters: Stages = (32, 64, 128, 256, 512)
    """Channels after each convolution of the encoder, which halves the time after it; the decoder mirrors them."""
    encoder_kernels: Stages = (11, 9, 7, 7, 5)
    """Kernel of each convolution of the encoder, samples; odd."""
    residual_kernels: Several[PositiveInt] = (3, 3, 3, 3, 2, 3, 2)
    """Kernel of the two convolutions of each residual block."""
    layers: PositiveInt = 8
    """Layers of the transformer."""
    heads: PositiveInt = 4
    """Attention heads of a layer."""
    feed_forward: PositiveInt = 2048
    """Width of a layer's feed-forward network."""
    decoder_kernels: Stages = (3, 5, 5, 7, 7)
    """Kernel of each convolution of the decoder; odd."""
    head_kernel: PositiveInt = 11
    """Kernel of the last convolution; odd."""
    residual_dropout: Probability = 0.1
    """Share of channels that a residual block drops in training."""
    dropout: Probability = 0.1
    """Share of values that the transformer drops in training."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.filters) == len(self.encoder_kernels) == len(self.decoder_kernels):
            raise ValueError("filters, encoder_kernels and decoder_kernels differ in length: give one number a stage")
        if any(kernel % 2 == 0 for kernel in (*self.encoder_kernels, *self.decoder_kernels, self.head_kernel)):
            raise ValueError("an even kernel would shift the labels by half a sample: use odd ones")
        if self.width % (2 * self.heads):
            raise ValueError(f"the last filter, {self.width}, is no multiple of 2 * heads, {2 * self.heads}")
        if self.samples % self.stride:
            raise ValueError(f"samples, {self.samples}, is no multiple of {self.stride}, 2 to the number of filters")
        return self

    @property
    def width(self) -> int:
        """Channels of a token, D."""
        return self.filters[-1]

    @property
    def stride(self) -> int:
        """Samples that a token stands for."""
        return 1 << len(self.filters)


PRESETS = {
    "seizure_transformer": Architecture(),
    "small": Architecture(  # the same stages for a CPU: 0.7 M parameters, a thirtieth of the work
        filters=(8, 16, 32, 64, 128),
        residual_kernels=(3, 3, 2),
        layers=2,
        feed_forward=256,
    ),
}


def forward_flops(model: Architecture, samples: int | None = None) -> int:
    """Return the floating-point operations of one window's forward pass: those of convolutions and products.

    samples: length of the window, T; by default the model's. A multiplication and an addition count as two.
    """
    length = model.samples if samples is None else samples
    tokens = length // model.stride
    encoder = _stages((model.channels, *model.filters), model.encoder_kernels, length, -1)
    residual = sum(2 * _conv(model.width, model.width, kernel, tokens) for kernel in model.residual_kernels)
    linear = 2 * tokens * model.width * (4 * model.width + 2 * model.feed_forward)
    attention = 4 * tokens**2 * model.width
    decoder = _stages((model.width, *model.filters[::-1]), model.decoder_kernels, 2 * tokens, 1)
    head = _conv(model.filters[0], 1, model.head_kernel, length)
    return encoder + residual + model.layers * (linear + attention) + decoder + head


def training_flops(model: Architecture, samples: int | None = None) -> int:
    """Return the floating-point operations of one window's forward and backward pass, for the utilisation of a GPU.

    The backward pass costs two forward passes, but for the gradient of the window itself, which nobody asks for.
    """
    length = model.samples if samples is None else samples
    unasked = _conv(model.channels, model.filters[0], model.encoder_kernels[0], length)
    return 3 * forward_flops(model, length) - unasked


def _stages(widths: tuple[int, ...], kernels: tuple[int, ...], length: int, doubling: int) -> int:
    """Return the operations of convolutions, each at twice (doubling 1) or half (-1) the length of the one before."""
    total = 0
    for into, out, kernel in zip(widths[:-1], widths[1:], kernels, strict=True):
        total += _conv(into, out, kernel, length)
        length = length * 2 if doubling > 0 else length // 2
    return total


def _conv(into: int, out: int, kernel: int, length: int) -> int:
    return 2 * into * out * kernel * length
