"""A training step's pass, captured: `capture` gives it, and it is called with a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppl_vae.graphs.compiled import compiled
from ppl_vae.graphs.graph import Graph, OfTensors, trace
from ppl_vae.graphs.products import Products, by_onednn, faster
from ppl_vae.objectives import Objective
from ppl_vae.objectives.numbers import followed
from ppl_vae.programs import Pair, Program, parameters
from ppl_vae.programs.scores import Batch, ProgramLike, as_batch


class Seen(NamedTuple):
    """What a pass gives: sums over the batch, in nats, the norm of the gradient, and the gradients of the loss.

    Args:
        numbers: value, ELBO, rate, distortion, norm: `(5,)`.
        gradients: of −scale · mean of the surrogate, one for each trained parameter, in the order of `parameters`.
    """

    numbers: Tensor
    gradients: Sequence[Tensor]


def capture(
    objective: Objective,
    model: ProgramLike,
    guide: ProgramLike,
    example: Tensor | Batch,
    *,
    weighted: bool = False,
    compile: bool = True,
) -> "Captured":
    """The training step's pass of any Pyro model and guide, as one compiled graph with its backward pass.

    Args:
        objective: an `Objective`, such as `Trace_ELBO()`.
        model: a module, or a Pyro function, which is traced once on `example` (see `Program`).
        guide: the same.
        example: a batch of the size that most batches will have.
        weighted: as for `Captured`.
        compile: as for `Captured`.

    Raises:
        NotCaptured: a statement of the programs can't become a part of a graph.
        NotCompiled: there is no C++ compiler, or torch's compiler fails.
    """
    batch = tuple(x.contiguous() for x in as_batch(example))
    p, q = (program if isinstance(program, nn.Module) else Program(program, batch) for program in (model, guide))
    captured = Captured(Pair(p, q, {}, "guide"), objective, weighted, compile)
    captured.graph_for(batch)
    return captured


@dataclass
class Captured:
    """The pass of an objective over a batch with its backward pass, without Pyro.

    It is called with a batch, and gives `Seen`. The gradients are in the order of `parameters`, which are the programs'
    own, so that an optimizer moves them as ever. Noise is drawn from torch's generator as the programs would draw it.

    A graph is made for any number of rows. Where a program makes a Python number of it, as `len(x)` does, there is one
    graph for each size of a batch.

    Args:
        weighted: take the weight of the rate as an input.
        compile: compile the graphs; else they run operation by operation.
        products: whose matrix products; None: those that are faster here.
    """

    pair: Pair
    objective: Objective
    weighted: bool = False
    compile: bool = True
    products: Products | None = None
    graphs: list[tuple[Graph, Callable[..., Sequence[Tensor]]]] = field(default_factory=list)
    """The graphs so far, and what runs each."""

    by_rows: dict[int, Callable[..., Sequence[Tensor]]] = field(default_factory=dict)
    """What runs a batch of so many rows."""

    def __post_init__(self) -> None:
        self.parameters = parameters(self.pair.model, self.pair.guide, self.pair.borrower)
        self.function = OfTensors(
            [self.pair.model, self.pair.guide], self.numbers_and_gradients, self.parameters.values()
        )
        self.looked = False

    def __call__(self, batch: Batch, rate_weight: float = 1.0, stopped: Tensor | None = None) -> Seen:
        """The pass over a batch at the present parameters.

        Buffers are moved as the programs move them, but stay where a number is not finite.

        Args:
            stopped: a flag on the device, bool `()`, which is set where a number is not finite. Buffers stay where it
                is set, by this pass or one before, and nothing waits for the device.

        Raises:
            NotCaptured: the programs can't become a graph.
            NotCompiled: the graph can't be compiled here.
        """
        batch = tuple(x.contiguous() for x in batch)  # a graph is for one layout in memory
        run = self.graph_for(batch)
        with torch.no_grad():
            numbers, *others = run(*self.function.state, *self.inputs(batch, rate_weight))
            n = len(self.function.trained)
            if stopped is not None:
                stopped.logical_or_(~numbers.isfinite().all())
                for old, new in zip(self.function.moving, others[n:], strict=True):
                    old.copy_(torch.where(stopped, old, new))
            elif self.function.moving and numbers.isfinite().all():
                torch._foreach_copy_(self.function.moving, list(others[n:]))
        return Seen(numbers, others[:n])

    def inputs(self, batch: Batch, rate_weight: float = 1.0) -> list[Tensor]:
        """What the graph takes besides what the programs hold."""
        return [*batch, *([torch.tensor(rate_weight, dtype=torch.float64)] if self.weighted else [])]

    def numbers_and_gradients(self, trained: list[Tensor], *inputs: Tensor) -> list[Tensor]:
        """The pass itself, by the programs as they are: the numbers, `(5,)`, and the gradients."""
        batch, weight = (inputs[:-1], inputs[-1]) if self.weighted else (inputs, None)
        seen, numbers = followed(self.objective, self.pair.model, self.pair.guide, batch, weight)
        gradients = torch.autograd.grad(seen.loss, trained, allow_unused=True, materialize_grads=True)
        return [torch.stack([*numbers, nn.utils.get_total_norm(gradients)]), *gradients]

    def graph_for(self, batch: Batch) -> Callable[..., Sequence[Tensor]]:
        """What runs the graph for a batch; it is made at the first batch that no graph fits. Raises as a call."""
        rows = len(batch[0])
        if rows not in self.by_rows:
            fitting = (run for graph, run in self.graphs if graph.fits(rows))
            self.by_rows[rows] = next(fitting, None) or self.made(batch)
        return self.by_rows[rows]

    def made(self, batch: Batch) -> Callable[..., Sequence[Tensor]]:
        """A new graph, for batches like this one, compiled. Raises as a call."""
        rows = len(batch[0])
        if not self.looked:
            self.function.look(self.inputs(batch))
            self.looked = True
        graph = trace(self.function, self.inputs(batch), free=rows > 1 and not self.graphs)
        if self.compile and self.products is None:
            self.products = faster(graph.module, rows)
        if self.compile and self.products == "onednn":
            by_onednn(graph.module, rows)
        run = compiled(graph.module, graph.inputs) if self.compile else graph.module
        self.graphs.append((graph, run))
        return run
