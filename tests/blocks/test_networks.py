"""Networks: shapes, gradients, any leading dimensions; and the autoregressive decoder against enumeration."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from scipy import stats
from torch import nn

from ppl_vae.blocks import (
    AnyBatch,
    AutoregressiveBernoulli,
    autoregressive_network,
    conv_decoder,
    conv_encoder,
    gated_mlp,
    mlp,
    residual_mlp,
)
from ppl_vae.core.errors import InputError

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "mlp": (lambda: mlp(5, 7, 3), (5,), (3,)),
    "gated": (lambda: gated_mlp(5, 7, 6, 3), (5,), (3,)),
    "residual": (lambda: residual_mlp(5, 7, 3), (5,), (3,)),
    "encoder 1x28x28": (lambda: conv_encoder((1, 28, 28), 3, 4), (1, 28, 28), (3,)),
    "encoder 28x28": (lambda: conv_encoder((28, 28), 3, 4), (28, 28), (3,)),
    "encoder 49": (lambda: conv_encoder((49,), 3, 4), (49,), (3,)),
    "encoder 3x5x6": (lambda: conv_encoder((3, 5, 6), 3, 4), (3, 5, 6), (3,)),
    "decoder 1x28x28": (lambda: conv_decoder(3, (1, 28, 28), 4), (3,), (1, 28, 28)),
    "decoder 28x28": (lambda: conv_decoder(3, (28, 28), 4), (3,), (28, 28)),
    "decoder 49": (lambda: conv_decoder(3, (49,), 4), (3,), (49,)),
    "decoder 3x5x6": (lambda: conv_decoder(3, (3, 5, 6), 4), (3,), (3, 5, 6)),
    "decoder 1x1": (lambda: conv_decoder(3, (1, 1), 4), (3,), (1, 1)),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@every_network
@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_any_leading_dimensions(name: str, batch: tuple[int, ...]) -> None:
    make, n_in, n_out = NETWORKS[name]
    network, x = make(), torch.randn(*batch, *n_in)
    y = network(x)
    assert y.shape == (*batch, *n_out)
    rows = torch.stack([network(row) for row in x.reshape(-1, *n_in)])
    torch.testing.assert_close(y.reshape(-1, *n_out), rows)


@every_network
def test_every_input_and_every_parameter_counts(name: str) -> None:
    make, n_in, _ = NETWORKS[name]
    network, x = make().double(), torch.randn(4, *n_in, dtype=torch.float64, requires_grad=True)
    network(x).square().sum().backward()
    assert all((p.grad != 0).any() for p in network.parameters())
    assert (x.grad != 0).all()


def test_a_gate_scales_a_linear_layer() -> None:
    first = gated_mlp(2, 3, 1)[0]
    x = torch.randn(5, 2)
    expected = (x @ first.linear.weight.T + first.linear.bias) / (
        1 + (-x @ first.gate.weight.T - first.gate.bias).exp()
    )
    torch.testing.assert_close(first(x), expected)


def test_a_residual_block_adds_to_its_input() -> None:
    network = residual_mlp(5, 7, 3, blocks=3)
    for block in network[1:4]:
        nn.init.zeros_(block.f[-1].weight)
        nn.init.zeros_(block.f[-1].bias)
    x = torch.randn(4, 5)
    torch.testing.assert_close(network(x), network[-1](network[-2](network[0](x))))


def test_a_convolution_of_ones_own_takes_leading_dimensions() -> None:
    conv = nn.Conv1d(2, 3, 3)
    x = torch.randn(4, 5, 2, 9)
    torch.testing.assert_close(AnyBatch(conv, 2)(x)[1], conv(x[1]))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(785,\) is no image"):
        conv_encoder((785,), 3)


# ---- the autoregressive decoder ----

SHAPE, D = (2, 3), 6
EVERY_X = torch.tensor(list(product([0.0, 1.0], repeat=D)), dtype=torch.float64).reshape(-1, *SHAPE)


def decoder(*batch: int) -> AutoregressiveBernoulli:
    network = autoregressive_network(SHAPE, context=2, hidden=12).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return AutoregressiveBernoulli(network, torch.randn(*batch, 2, dtype=torch.float64), SHAPE)


def test_a_dimension_is_predicted_from_those_before_it_and_from_z() -> None:
    p = decoder()
    x, z = torch.randn(D, dtype=torch.float64), p.context
    J, J_z = torch.autograd.functional.jacobian(p.network, (x, z))
    assert (J.triu() == 0).all()
    assert (J.tril(-1) + torch.ones_like(J).triu() != 0).all()
    assert (J_z != 0).all()


@pytest.mark.parametrize("window", [2, 3, 4, 5, 6, 9])
def test_a_window_is_all_that_a_dimension_sees_of_those_before_it(window: int) -> None:
    network = autoregressive_network((9,), 2, 30, window).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    x, z = torch.randn(9, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    J, J_z = torch.autograd.functional.jacobian(network, (x, z))
    back = torch.arange(9).unsqueeze(-1) - torch.arange(9)
    assert torch.equal(J != 0, (back > 0) & (back <= window))
    assert (J_z != 0).all()


def test_a_window_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="window is 1"):
        autoregressive_network((9,), 2, 30, 1)


def test_probabilities_sum_to_one_over_all_binary_data() -> None:
    p = decoder(3)
    torch.testing.assert_close(p.log_prob(EVERY_X.unsqueeze(1)).exp().sum(0), torch.ones(3, dtype=torch.float64))


def test_draws_have_the_probabilities() -> None:
    """χ² over the 64 data, for two contexts at once."""
    p, draws = decoder(2), 20_000
    x = p.sample(torch.Size([draws])).flatten(-2)
    codes = (x @ 2.0 ** torch.arange(D - 1, -1, -1, dtype=torch.float64)).long()
    for row in range(2):
        expected = draws * p.log_prob(EVERY_X.unsqueeze(1)).exp()[:, row].detach()
        counts = torch.bincount(codes[:, row], minlength=2**D).double()
        rare = expected < 5
        pooled = [torch.cat([n[~rare], n[rare].sum().reshape(1)]).numpy() for n in (counts, expected)]
        assert stats.chisquare(*pooled).pvalue > 1e-3


def test_k_contexts_are_k_scores() -> None:
    p = decoder(4, 3)
    x = p.sample()[0]
    assert x.shape == (3, *SHAPE)
    each = [AutoregressiveBernoulli(p.network, z, SHAPE).log_prob(x) for z in p.context]
    torch.testing.assert_close(p.log_prob(x), torch.stack(each))
    one = AutoregressiveBernoulli(p.network, p.context[0, 0], SHAPE)
    torch.testing.assert_close(one.expand(torch.Size([3])).log_prob(x), one.log_prob(x))


def test_data_that_are_not_binary_are_refused() -> None:
    with pytest.raises(ValueError, match="within the support"):
        decoder().log_prob(torch.full(SHAPE, 0.5, dtype=torch.float64))


def test_too_few_units_are_refused() -> None:
    with pytest.raises(InputError, match="hidden is 5: an autoregressive network over 6 dimensions"):
        autoregressive_network(SHAPE, 2, 5)
