"""Models: what the published one is exactly, shapes, gradients, cost, and that they compile in one piece."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="models need torch")

from torch import nn  # noqa: E402 - after torch is known to be there
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests.support.config_reference import ROOT  # noqa: E402
from tusz_train.config import ModelConfig  # noqa: E402
from tusz_train.errors import WrongShape  # noqa: E402
from tusz_train.model.architecture import PRESETS, Architecture, forward_flops, training_flops  # noqa: E402
from tusz_train.model.registry import MODELS, build  # noqa: E402
from tusz_train.model.seizure_transformer import SeizureTransformer, TransformerLayer, sinusoids  # noqa: E402
from tusz_train.model.weight_decay import decay_groups  # noqa: E402

torch.set_num_threads(1)  # a tiny model waits for its threads longer than it computes

TINY = Architecture(
    channels=3, samples=64, filters=(4, 8), encoder_kernels=(3, 3), residual_kernels=(3, 2), layers=1, heads=2,
    feed_forward=8, decoder_kernels=(3, 3), head_kernel=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def full() -> SeizureTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SeizureTransformer(PRESETS["seizure_transformer"]).eval()


def tiny(**changes: object) -> SeizureTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SeizureTransformer(TINY.model_copy(update=changes))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# what the published model is


def test_the_full_model_has_the_published_number_of_parameters(full: SeizureTransformer):
    """37,848,897 parameters, stage by stage as published."""
    stages = {name: sum(p.numel() for p in part.parameters()) for name, part in full.named_children()}

    assert 37_848_897 == sum(stages.values())
    assert {"residual": 9_982_976, "transformer": 25_219_072, "head": 353} == {
        name: stages[name] for name in ("residual", "transformer", "head")
    }


def test_the_full_model_gives_a_logit_for_each_sample(full: SeizureTransformer):
    """(1, 19, 15360) gives finite (1, 15360), of either sign: logits and no probabilities."""
    with torch.inference_mode():
        logits_BT = full(noise(1, 19, 15360))

    assert (1, 15360) == logits_BT.shape
    assert logits_BT.isfinite().all()
    assert logits_BT.min() < 0 or logits_BT.max() > 1


def test_a_forward_pass_costs_what_was_published():
    """47.2 GFLOP forward and 141 GFLOP forward and backward, within 2 %."""
    full = PRESETS["seizure_transformer"]

    assert pytest.approx(47.2e9, rel=0.02) == forward_flops(full)
    assert pytest.approx(141e9, rel=0.02) == training_flops(full)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("samples", [15360, 3200])
def test_the_cost_is_what_torch_counts(name: str, samples: int):
    """The formula gives exactly what torch's own counter finds, forward and backward."""
    with torch.device("meta"):
        model = SeizureTransformer(PRESETS[name])
        x_BCT = torch.empty(1, 19, samples)
    with FlopCounterMode(display=False) as forward:
        logits_BT = model(x_BCT)
    with FlopCounterMode(display=False) as backward:
        logits_BT.sum().backward()

    assert forward.get_total_flops() == forward_flops(PRESETS[name], samples)
    assert forward.get_total_flops() + backward.get_total_flops() == pytest.approx(
        training_flops(PRESETS[name], samples), rel=0.02
    )


def test_the_small_model_is_small():
    """The CPU's model costs a thirtieth, and has the same stages and windows."""
    small, full = PRESETS["small"], PRESETS["seizure_transformer"]

    assert 30 * forward_flops(small) < forward_flops(full)
    assert (full.channels, full.samples, full.stride) == (small.channels, small.samples, small.stride)


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_tells_the_sizes(name: str):
    """Parameters and operations in docs/training.md are those of the code."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in SeizureTransformer(PRESETS[name]).parameters())

    row = f"| `{name}` | {parameters:,} | {forward_flops(PRESETS[name]) / 1e9:.3g} GFLOP |"
    assert row in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


# shapes


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("samples", [4, 32, 64])
def test_shorter_windows_that_the_stride_divides_are_taken(batch: int, samples: int):
    """(B, C, T) gives (B, T) for each T that is a multiple of the stride, up to the model's."""
    assert (batch, samples) == tiny().eval()(noise(batch, 3, samples)).shape


@pytest.mark.parametrize("shape", [(2, 3, 62), (2, 3, 63), (2, 3, 0), (2, 3, 68), (2, 4, 64), (3, 64), (1, 2, 3, 64)])
def test_windows_of_another_shape_are_refused(shape: tuple[int, ...]):
    """A length that cannot be halved often enough, too long, or other channels: an error that says what fits."""
    with pytest.raises(WrongShape, match="do not fit the model") as caught:
        tiny()(torch.zeros(shape))

    assert "(windows, 3, samples), samples a multiple of 4 and at most 64" in caught.value.hint


def test_each_stage_has_its_shape():
    """Encoder, residual stack, transformer and decoder pass on what their docstrings say."""
    model = tiny().eval()
    deep_BDT, skips = model.encoder(noise(2, 3, 64))

    assert [(2, 4, 64), (2, 8, 32)] == [tuple(skip.shape) for skip in skips]
    assert (2, 8, 16) == deep_BDT.shape == model.residual(deep_BDT).shape
    assert (2, 16, 8) == model.transformer(deep_BDT.transpose(1, 2)).shape
    assert (2, 4, 64) == model.decoder(deep_BDT, skips).shape


# behaviour


def test_windows_of_a_batch_do_not_see_each_other():
    """In evaluation a window's logits are the same alone and among others."""
    model, x_BCT = tiny().eval(), noise(4, 3, 64)

    torch.testing.assert_close(model(x_BCT)[2:3], model(x_BCT[2:3]))


def test_every_parameter_learns():
    """A loss reaches each parameter with a finite gradient."""
    model = tiny()
    functional.binary_cross_entropy_with_logits(model(noise(2, 3, 64)), torch.ones(2, 64)).backward()

    assert [] == [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert [] == [n for n, p in model.named_parameters() if not p.grad.any() and "qkv.bias" not in n]


def test_the_model_learns_where_a_burst_is():
    """A few dozen steps find loud samples among quiet ones."""
    model = tiny(residual_dropout=0.0, dropout=0.0)
    y_BT = torch.zeros(8, 64)
    for row in range(8):
        y_BT[row, 6 * row : 6 * row + 16] = 1
    x_BCT = noise(8, 3, 64) * (0.1 + 3 * y_BT[:, None])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(15):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(x_BCT), y_BT)
        loss.backward()
        optimizer.step()

    assert loss.item() < 0.3


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_computes_what_torch_s_own_does(training: bool):
    """With the same weights a layer of the transformer gives what torch's gives, and begins as widely spread."""
    theirs = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True).train(training)
    ours = TransformerLayer(64, 4, 128, dropout=0.0).train(training)
    names = {"self_attn.in_proj_weight": "qkv.weight", "self_attn.in_proj_bias": "qkv.bias"}
    names |= {"self_attn.out_proj.weight": "out.weight", "self_attn.out_proj.bias": "out.bias"}
    weights = {names.get(name, name): value for name, value in theirs.state_dict().items()}

    spread = {name: value.std().item() for name, value in weights.items()}
    assert spread == pytest.approx({name: value.std().item() for name, value in ours.state_dict().items()}, rel=0.4)
    ours.load_state_dict(weights)
    x_BTD = noise(2, 10, 64)
    torch.testing.assert_close(theirs(x_BTD), ours(x_BTD))


def test_layers_begin_differently():
    """The transformer's layers are no copies of one, so that each learns its own."""
    first, second = SeizureTransformer(TINY.model_copy(update={"layers": 2})).transformer.layers

    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_an_even_kernel_looks_one_sample_ahead():
    """A residual block with kernel 2 pads on the right: sample t depends on t and t + 1, twice over."""
    block = tiny().eval().residual[1]
    x_BDT = noise(1, 8, 16)
    touched_BDT = x_BDT.clone()
    touched_BDT[..., 8] += 1

    changed = (block(x_BDT) - block(touched_BDT)).abs().sum((0, 1)) > 0
    assert [6, 7, 8] == changed.nonzero().flatten().tolist()


def test_channel_dropout_drops_whole_channels():
    """A dropped channel of a window is silent over all its samples."""
    dropped_BDT = tiny(residual_dropout=0.5).train().residual[0].dropout(torch.ones(4, 8, 16))

    assert torch.equal(dropped_BDT, dropped_BDT[..., :1].expand_as(dropped_BDT))
    assert {0.0, 2.0} == set(dropped_BDT.flatten().tolist())


def test_places_have_sines_and_cosines():
    """The code of place 0 is 0 and 1 in turn, and no two places share one."""
    code_TD = sinusoids(480, 512)

    assert (480, 512) == code_TD.shape
    assert {0.0} == set(code_TD[0, 0::2].tolist()) and {1.0} == set(code_TD[0, 1::2].tolist())
    assert 480 == len(torch.unique(code_TD, dim=0))


def test_places_are_not_stored():
    """What can be computed is not in the weights."""
    assert [] == [name for name in tiny().state_dict() if "places" in name]


# compiling and precision


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("amp", [True, False])
def test_the_model_compiles_in_one_piece(training: bool, amp: bool):
    """torch.compile finds one graph without a break, and it computes what the model does."""
    torch._dynamo.reset()
    model, x_BCT = tiny(residual_dropout=0.0, dropout=0.0).train(training), noise(2, 3, 64)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        expected, actual = model(x_BCT), compiled(x_BCT)

    torch.testing.assert_close(expected, actual)
    assert (torch.bfloat16 if amp else torch.float32) == actual.dtype


def test_bfloat16_is_near_float32():
    """Under autocast the logits stay near those of float32."""
    model, x_BCT = tiny().eval(), noise(2, 3, 64)
    with torch.inference_mode():
        exact_BT = model(x_BCT)
        with torch.autocast("cpu", torch.bfloat16):
            near_BT = model(x_BCT).float()

    assert (exact_BT - near_BT).abs().max() < 0.1 * exact_BT.abs().max()


# registry and weight decay


@pytest.mark.parametrize("name", PRESETS)
def test_a_model_is_built_by_its_name(name: str):
    """Each name of the configuration builds its model, options included."""
    assert PRESETS.keys() == MODELS.keys()
    with torch.device("meta"):
        model = build(ModelConfig.model_validate({"name": name, "options": {"dropout": 0.3}}))

    assert PRESETS[name].model_copy(update={"dropout": 0.3}) == model.architecture


def test_only_matrices_and_kernels_decay():
    """Biases and norms are in a group without decay, each trained parameter in one group."""
    model = tiny()
    model.head.bias.requires_grad_(requires_grad=False)
    decaying, staying = decay_groups(model, 0.1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.LayerNorm)]

    assert (0.1, 0.0) == (decaying["weight_decay"], staying["weight_decay"])
    ids = [id(p) for p in decaying["params"] + staying["params"]]
    assert sorted(id(p) for p in model.parameters() if p.requires_grad) == sorted(ids)
    assert {id(p) for norm in norms for p in norm.parameters()} <= {id(p) for p in staying["params"]}
    assert {id(p) for n, p in model.named_parameters() if n.endswith("bias")} & {
        id(p) for p in decaying["params"]
    } == set()
    assert id(model.encoder.convs[0].weight) in {id(p) for p in decaying["params"]}
