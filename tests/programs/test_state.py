"""What a pass changes in modules is put back, whatever happens in it."""

import pytest
import torch
from torch import nn

from ppl_vae.programs.state import buffers_kept, evaluating


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("passes", torch.zeros(()))
        self.register_buffer("scratch", torch.full((2,), torch.nan), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes = self.passes + 1
        self.scratch.fill_(1.0)
        return self.norm(x)


@pytest.mark.parametrize("fails", [False, True])
def test_buffers_are_the_same_tensors_with_the_same_values(fails):
    module = Counting()
    before = {name: (b, b.clone()) for name, b in module.named_buffers()}
    with pytest.raises(RuntimeError) if fails else torch.enable_grad(), buffers_kept(module, len):
        module(torch.randn(5, 2))
        assert module.passes == 1
        if fails:
            raise RuntimeError
    for name, buffer in module.named_buffers():
        assert buffer is before[name][0], name
        assert torch.equal(buffer.nan_to_num(), before[name][1].nan_to_num()), name


def test_a_graph_that_holds_a_buffer_can_still_be_differentiated():
    module, w = Counting(), torch.ones((), requires_grad=True)
    value = w * module.passes
    with buffers_kept(module):
        module(torch.randn(5, 2))
    value.backward()
    assert w.grad == 0


def test_each_module_is_back_in_its_own_mode():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()).eval())
    with evaluating(module, len):
        assert not any(m.training for m in module.modules())
    assert [m.training for m in module.modules()] == [True, True, False, False]
