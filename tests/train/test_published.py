"""Published weights: a model with the published names and order of channels, and ours with its weights, agree.

The real file of weights is not here; what is tested is a network of the same names, built anew below.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="models need torch")

from torch import Tensor, nn  # noqa: E402 - after torch is known to be there
from torch.nn import functional  # noqa: E402

from tusz_train.errors import BadWeights  # noqa: E402
from tusz_train.model.architecture import Architecture  # noqa: E402
from tusz_train.model.published import load_published  # noqa: E402
from tusz_train.model.seizure_transformer import SeizureTransformer  # noqa: E402
from tusz_train.montage import TO_PUBLISHED  # noqa: E402

torch.set_num_threads(1)  # a tiny model waits for its threads longer than it computes

TINY = Architecture(
    samples=128, filters=(4, 8), encoder_kernels=(11, 9), residual_kernels=(3, 2), layers=2, heads=2, feed_forward=16,
    decoder_kernels=(5, 7),
)  # fmt: skip


def holder(**parts: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


class Published(nn.Module):
    """The published network by its names: tokens first, even kernels padded by hand, a sigmoid at the end."""

    def __init__(self) -> None:
        super().__init__()
        a, d = TINY, TINY.width
        self.encoder = holder(convs=convs((19, *a.filters), a.encoder_kernels))
        blocks = [
            holder(
                norm1=nn.BatchNorm1d(d, eps=1e-3), conv1=nn.Conv1d(d, d, k, padding=k // 2 if k == 3 else 0),
                norm2=nn.BatchNorm1d(d, eps=1e-3), conv2=nn.Conv1d(d, d, k, padding=k // 2 if k == 3 else 0),
            )
            for k in a.residual_kernels
        ]  # fmt: skip
        self.res_cnn_stack = holder(members=nn.ModuleList(blocks))
        self.position_encoding = nn.Module()
        place, rate = torch.arange(6000)[:, None], torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
        self.position_encoding.register_buffer(
            "pe", torch.stack([(place * rate).sin(), (place * rate).cos()], -1).reshape(6000, 1, d)
        )
        self.transformer_encoder_layer = nn.TransformerEncoderLayer(d, a.heads, a.feed_forward)
        self.transformer_encoder = nn.TransformerEncoder(
            self.transformer_encoder_layer, a.layers, enable_nested_tensor=False
        )
        self.decoder_d = holder(convs=convs((d, *a.filters[::-1]), a.decoder_kernels))
        self.conv_d = nn.Conv1d(a.filters[0], 1, a.head_kernel, padding=5)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for conv in self.encoder.convs:
            x = functional.elu(conv(x))
            skips.append(x)
            x = functional.max_pool1d(x, 2)
        for kernel, block in zip(TINY.residual_kernels, self.res_cnn_stack.members, strict=True):
            pad: Callable[[Tensor], Tensor] = (lambda y: functional.pad(y, (0, 1))) if kernel == 2 else (lambda y: y)
            y = block.conv1(pad(functional.relu(block.norm1(x))))
            x = x + block.conv2(pad(functional.relu(block.norm2(y))))
        tokens = x.permute(2, 0, 1)
        y = self.transformer_encoder(tokens + self.position_encoding.pe[: len(tokens)]).permute(1, 2, 0) + x
        for conv in self.decoder_d.convs:
            y = functional.elu(conv(functional.interpolate(y, scale_factor=2, mode="nearest"))) + skips.pop()
        return torch.sigmoid(self.conv_d(y)).squeeze(1)


def convs(widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.ModuleList:
    triples = zip(widths[:-1], widths[1:], kernels, strict=True)
    return nn.ModuleList(nn.Conv1d(a, b, k, padding=k // 2) for a, b, k in triples)


@pytest.fixture
def published() -> Published:
    """A published network whose every weight differs, statistics of batches included."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Published().eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def ours() -> SeizureTransformer:
    return SeizureTransformer(TINY).eval()


def saved(folder: Path, weights: object) -> Path:
    torch.save(weights, folder / "model.pth")
    return folder / "model.pth"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_give_the_published_outputs(tmp_path: Path, published: Published, prefix: str):
    """With its weights, our model gives for the cache's channels what the published one gives for its own order."""
    path = saved(tmp_path, {prefix + name: value for name, value in published.state_dict().items()})
    model, x_BCT = ours(), torch.randn(3, 19, 128, generator=torch.Generator().manual_seed(1))
    load_published(path, model)

    with torch.inference_mode():
        expected, actual = published(x_BCT[:, list(TO_PUBLISHED)]), model(x_BCT).sigmoid()
        wrong = published(x_BCT)
    torch.testing.assert_close(expected, actual)
    assert not torch.allclose(wrong, actual, atol=1e-3)


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without("conv_d.bias"), "it lacks head.bias"),
        (without("res_cnn_stack.members.0.norm1.running_var"), "it lacks residual.0.norm1.running_var"),
        (lambda weights: weights | {"extra.weight": torch.zeros(1)}, "it has besides extra.weight"),
        (lambda weights: weights | {"encoder.convs.9.bias": torch.zeros(1)}, "it has besides encoder.convs.9.bias"),
        (lambda weights: weights | {"conv_d.weight": torch.zeros(1, 4, 3)}, r"head.weight is \(1, 4, 3\) and not \(1"),
        (lambda weights: weights | {"encoder.convs.0.weight": torch.zeros(4, 18, 11)}, r"is \(4, 18, 11\)"),
        (lambda weights: {"state_dict": weights}, "something else than names and tensors"),
        (lambda weights: list(weights.values()), "something else than names and tensors"),
        (lambda weights: {}, r"it lacks .* and \d+ more"),
    ],
)
def test_weights_of_another_model_are_refused(
    tmp_path: Path, published: Published, spoil: Callable[[dict[str, Tensor]], object], reason: str
):
    """Names that are missing or strange, and other shapes, are told, and the model keeps its weights."""
    path, model = saved(tmp_path, spoil(published.state_dict())), ours()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with pytest.raises(BadWeights, match=reason) as caught:
        load_published(path, model)
    assert (2, True) == (caught.value.exit_code, bool(caught.value.hint))
    assert [] == [name for name, value in model.state_dict().items() if not torch.equal(before[name], value)]


class Runs:
    """Runs code when it is unpickled, as a file of weights may."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_code_in_a_file_of_weights_does_not_run(tmp_path: Path):
    """Only tensors are read: a file that would run code is refused, and runs none."""
    path = saved(tmp_path, {"a": Runs(tmp_path / "ran")})

    with pytest.raises(BadWeights, match="cannot be read as weights"):
        load_published(path, ours())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 torn", None, "torn"])
def test_a_file_that_is_no_weights_is_refused(tmp_path: Path, published: Published, content: bytes | str | None):
    """Empty, torn, other and missing files are told for what they are."""
    path = tmp_path / "model.pth"
    if content == "torn":
        torch.save(published.state_dict(), path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif isinstance(content, bytes):
        path.write_bytes(content)

    with pytest.raises(BadWeights, match="cannot be read as weights"):
        load_published(path, ours())
