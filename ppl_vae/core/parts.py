"""Parts of a result, each of some rows, put together."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


def concatenated(parts: Sequence[Any]) -> Any:
    """The parts of a result, each of some rows, as one; of what is not of the rows, the first, and all remarks."""
    one = parts[0]
    if len(parts) == 1:
        return one
    if isinstance(one, Tensor):
        return torch.cat(list(parts))
    if isinstance(one, np.ndarray):
        return np.concatenate(parts)
    if isinstance(one, dict):
        return {name: concatenated([part[name] for part in parts]) for name in one}
    if isinstance(one, tuple) and all(isinstance(text, str) for part in parts for text in part):
        return tuple(dict.fromkeys(text for part in parts for text in part))
    if isinstance(one, tuple):
        each = map(concatenated, zip(*parts, strict=True))
        return type(one)(*each) if hasattr(one, "_fields") else tuple(each)
    if is_dataclass(one) and not isinstance(one, type):
        return replace(one, **{x.name: concatenated([getattr(part, x.name) for part in parts]) for x in fields(one)})
    return one
