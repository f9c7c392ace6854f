"""A function of programs and tensors as a compiled graph for these programs and shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ppl_vae.graphs.compiled import compiled
from ppl_vae.graphs.graph import NotCaptured, OfTensors, trace
from ppl_vae.graphs.products import by_onednn, faster
from ppl_vae.graphs.standing_in import places


class Static:
    """`function(*args, **kwargs)` for other tensors of the same shapes.

    Args:
        leaves, spec: the arguments, as `tree_flatten` gives them. The modules among them are the programs; a tensor
            among them that is a parameter of a program is this parameter, and may be differentiated by.

    Raises:
        NotCaptured: it can't become a graph, or moves a buffer.
        NotCompiled: the graph can't be compiled here.
    """

    def __init__(self, function: Callable[..., Any], leaves: Sequence[Any], spec: TreeSpec) -> None:
        programs = [x for x in leaves if isinstance(x, nn.Module)]
        held = places(programs)
        self.called, self.spec = function, spec
        self.others = [None if isinstance(x, Tensor) else x for x in leaves]
        self.given = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and id(x) not in held]
        self.trained = [i for i, x in enumerate(leaves) if isinstance(x, Tensor) and id(x) in held]
        self.function = OfTensors(programs, self.body, [leaves[i] for i in self.trained])
        tensors = self.inputs(leaves)
        self.function.look(tensors)
        if self.function.moving:
            raise NotCaptured("a buffer of the programs moves in evaluation mode")
        graph = trace(self.function, tensors, free=False)
        if faster(graph.module, 1) == "onednn":
            by_onednn(graph.module, 1)
        self.run = compiled(graph.module, graph.inputs)

    def body(self, trained: list[Tensor], *tensors: Tensor) -> list[Tensor]:
        """The function as one of tensors to tensors; what they form is noted in `found`."""
        leaves = list(self.others)
        for i, x in zip((*self.trained, *self.given), (*trained, *tensors), strict=True):
            leaves[i] = x
        args, kwargs = tree_unflatten(leaves, self.spec)
        found, self.found = tree_flatten(self.called(*args, **kwargs))
        return found

    def __call__(self, leaves: Sequence[Any]) -> Any:
        with torch.no_grad():
            found = self.run(*self.function.state, *self.inputs(leaves))
        return tree_unflatten(list(found), self.found)

    def inputs(self, leaves: Sequence[Any]) -> list[Tensor]:
        """The tensors that are no parameters of the programs, in the one layout in memory that a graph is for."""
        return [leaves[i].contiguous() for i in self.given]
