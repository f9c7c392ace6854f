"""A graph compiled by Inductor."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ppl_vae.core.errors import InputError

OPTIONS: dict[str, Any] = {"fallback_random": True, "cpp.dynamic_threads": True, "emulate_precision_casts": True}
"""Random numbers from torch's own generator, so that a compiled graph draws what the program draws; as many threads as
torch has when it is called, not when it was compiled; numbers rounded to bfloat16 where the program rounds them."""

MOST = 3000
"""Operations of a graph that is compiled, at most: the compiler takes seconds for every hundred of them."""


class NotCompiled(InputError):
    """Inductor can't compile a graph here; the message says why."""


def compiled(module: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """The graph as machine code, called as the graph is.

    The first time this takes seconds to a minute. Inductor keeps the code in its cache on the disk, so that another
    process has it in seconds.

    Args:
        inputs: tensors without numbers, as `Graph.inputs`.

    Raises:
        NotCompiled: there is no C++ compiler, Inductor fails, or it would take many minutes.
    """
    operations = sum(node.op == "call_function" for node in module.graph.nodes)
    if operations > MOST:
        raise NotCompiled(f"a graph of {operations} operations would take too long to compile; at most {MOST} are")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, about its own code
            return torch._inductor.compile(module, list(inputs), options=OPTIONS)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise NotCompiled(f"torch's compiler failed ({(lines or [type(error).__name__])[0][:200]})") from error
