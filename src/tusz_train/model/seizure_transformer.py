"""SeizureTransformer (Wu, Zhao and Yener 2025, arXiv 2504.00336) in plain PyTorch.

A convolutional encoder, a residual stack and a transformer at 1/32 of the sampling rate, and a decoder that adds what
the encoder had at the same rate. Returns logits; the published code applies a sigmoid.

Axes: B windows, C channels of EEG or of a layer, T samples or tokens, D width of a token, H heads, E = D / H.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tusz_train.errors import WrongShape
from tusz_train.model.architecture import Architecture

_BATCH_NORM_EPS = 1e-3


class SeizureTransformer(nn.Module):
    """Logits of seizure for each sample of a window."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.encoder = Encoder((a.channels, *a.filters), a.encoder_kernels)
        self.residual = nn.Sequential(*(ResidualBlock(a.width, k, a.residual_dropout) for k in a.residual_kernels))
        self.transformer = Transformer(a)
        self.decoder = Decoder((a.width, *a.filters[::-1]), a.decoder_kernels)
        self.head = nn.Conv1d(a.filters[0], 1, a.head_kernel, padding="same")

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return logits (B, T) of windows (B, C, T). T: a multiple of 32, at most the model's `samples`.

        Raises WrongShape for any other shape.
        """
        self._check(x_BCT.shape)
        deep_BDT, skips = self.encoder(x_BCT)
        local_BDT = self.residual(deep_BDT)
        global_BDT = self.transformer(local_BDT.transpose(1, 2)).transpose(1, 2)
        logits_B1T: Tensor = self.head(self.decoder(global_BDT + local_BDT, skips))
        return logits_B1T.squeeze(1)

    def _check(self, shape: Sequence[int]) -> None:
        a = self.architecture
        if len(shape) != 3 or shape[1] != a.channels or shape[2] % a.stride or not 0 < shape[2] <= a.samples:
            raise WrongShape(
                f"windows of shape {tuple(shape)} do not fit the model",
                hint=f"give (windows, {a.channels}, samples), samples a multiple of {a.stride} and at most {a.samples}",
            )


class Encoder(nn.Module):
    """Convolutions, each followed by ELU and a halving of time."""

    def __init__(self, widths: Sequence[int], kernels: Sequence[int]) -> None:
        super().__init__()
        self.convs = _convs(widths, kernels)

    def forward(self, x_BCT: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return (B, D, T / 2**stages), and what each stage had before its halving: (B, widths[i + 1], T / 2**i)."""
        skips = []
        for conv in self.convs:
            x_BCT = functional.elu(conv(x_BCT))
            skips.append(x_BCT)
            x_BCT = functional.max_pool1d(x_BCT, 2)
        return x_BCT, skips


class ResidualBlock(nn.Module):
    """Twice batch norm, ReLU, channel dropout and convolution, added to the input: (B, D, T) to (B, D, T)."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm1d(width, eps=_BATCH_NORM_EPS)
        self.conv1 = nn.Conv1d(width, width, kernel)
        self.norm2 = nn.BatchNorm1d(width, eps=_BATCH_NORM_EPS)
        self.conv2 = nn.Conv1d(width, width, kernel)
        self.dropout = nn.Dropout1d(dropout)
        self.padding = ((kernel - 1) // 2, kernel // 2)  # an even kernel looks one sample further ahead

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Return (B, D, T)."""
        y_BDT = x_BDT
        for norm, conv in ((self.norm1, self.conv1), (self.norm2, self.conv2)):
            y_BDT = self.dropout(functional.relu(norm(y_BDT)))
            y_BDT = conv(functional.pad(y_BDT, self.padding))
        return x_BDT + y_BDT


class Transformer(nn.Module):
    """Layers that norm after adding, on tokens with a fixed sinusoidal code of their place: (B, T, D) to (B, T, D)."""

    places_TD: Tensor

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.register_buffer("places_TD", sinusoids(a.samples // a.stride, a.width), persistent=False)
        self.dropout = nn.Dropout(a.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(a.width, a.heads, a.feed_forward, a.dropout) for _ in range(a.layers)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        x_BTD = self.dropout(x_BTD + self.places_TD[: x_BTD.shape[1]])
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return x_BTD


class TransformerLayer(nn.Module):
    """Attention, then a feed-forward network, each added to its input and normed: (B, T, D) to (B, T, D).

    What torch's own layer computes and how it begins, but by one path in training and evaluation: torch 2.4's other
    path does not work under autocast on a CPU.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return (B, T, D)."""
        x_BTD = self.norm1(x_BTD + self.dropout(self._attend(x_BTD)))
        wide_BTF = self.dropout(functional.relu(self.linear1(x_BTD)))
        normed_BTD: Tensor = self.norm2(x_BTD + self.dropout(self.linear2(wide_BTF)))
        return normed_BTD

    def _attend(self, x_BTD: Tensor) -> Tensor:
        q_BHTE, k_BHTE, v_BHTE = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        share = self.dropout.p if self.training else 0.0
        seen_BHTE = functional.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, dropout_p=share)
        attended_BTD: Tensor = self.out(seen_BHTE.transpose(1, 2).flatten(2))
        return attended_BTD


class Decoder(nn.Module):
    """Convolutions, each after a doubling of time and followed by ELU; what the encoder had then is added."""

    def __init__(self, widths: Sequence[int], kernels: Sequence[int]) -> None:
        super().__init__()
        self.convs = _convs(widths, kernels)

    def forward(self, x_BCT: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return (B, widths[-1], T * 2**stages)."""
        for conv, skip_BCT in zip(self.convs, reversed(skips), strict=True):
            doubled_BCT = functional.interpolate(x_BCT, scale_factor=2, mode="nearest")
            x_BCT = functional.elu(conv(doubled_BCT)) + skip_BCT
        return x_BCT


def _convs(widths: Sequence[int], kernels: Sequence[int]) -> nn.ModuleList:
    pairs: Iterable[tuple[int, int, int]] = zip(widths[:-1], widths[1:], kernels, strict=True)
    return nn.ModuleList(nn.Conv1d(into, out, kernel, padding="same") for into, out, kernel in pairs)


def sinusoids(tokens: int, width: int) -> Tensor:
    """Return (tokens, width): sines in the even columns, cosines in the odd ones (Vaswani et al. 2017)."""
    place_T1 = torch.arange(tokens).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    code_TD = torch.empty(tokens, width)
    code_TD[:, 0::2] = torch.sin(place_T1 * frequency)
    code_TD[:, 1::2] = torch.cos(place_T1 * frequency)
    return code_TD
