"""Matrix products in fewer digits than all else."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

LAYERS = {
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
}  # fmt: skip


class Products(TorchFunctionMode):
    """In here, linear layers and convolutions of float32 multiply numbers of another dtype, and give float32.

    `torch.autocast` leaves their results in bfloat16, with 8 bits, so that log p(x), a sum over all columns, would be
    wrong by whole nats. Here what follows a product has all bits of float32. Their gradients are of such products, too.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in LAYERS or (args[0] if args else kwargs["input"]).dtype != torch.float32:
            return func(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, self.lower, (args, kwargs))
        return func(*args, **kwargs).float()

    def lower(self, x: Tensor) -> Tensor:
        return x.to(self.dtype) if x.dtype == torch.float32 else x


def products_in(dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """`Products` of a dtype, or nothing for None."""
    return nullcontext() if dtype is None else Products(dtype)
