"""What the loss depends on is trained, and what is trained learns. One step is inspected, and five steps are run."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.checks import reading
from ppl_vae.checks.subject import KINDS, Finding, Subject, aligned
from ppl_vae.objectives import Pass
from ppl_vae.programs import Terms, parameters
from ppl_vae.programs.find import Kind
from ppl_vae.programs.layout import DATA
from ppl_vae.programs.program import owner_of

STEPS = 5


def trains(s: Subject) -> Iterator[Finding]:
    """The objective accepts this pair, and the trained parameters are those that its loss depends on."""
    try:
        estimate = s.objective.estimate(s.pair.model, s.pair.guide, s.probe)
    except Exception as error:
        yield s.failure(f"{type(s.objective).__name__} fails", error)
        return
    trained = {id(p): name for name, p in _trained(s).items()}
    leaves = _leaves(estimate.surrogate)
    for leaf in leaves:
        if id(leaf) not in trained:
            name = pyro.get_param_store().param_name(leaf)
            what = f"pyro.param {name!r}" if name else f"a tensor of shape {tuple(leaf.shape)}"
            yield s.error(
                f"the loss depends on {what}, which is not among the programs' parameters and would never be trained: "
                "make it an nn.Parameter of the module (a list of layers an nn.ModuleList), or, in a plain function, a "
                "pyro.param or part of a pyro.module",
                *_reads(leaf, estimate.terms),
            )
    if not trained:
        yield s.error("neither program has a parameter, so there is nothing to train: give one an nn.Parameter")
    unused = [name for key, name in trained.items() if key not in {id(leaf) for leaf in leaves}]
    yield from _idle(s, unused, "the loss does not depend on {}: not trained")


def learns(s: Subject) -> Iterator[Finding]:
    """In five steps of Adam no gradient is always 0; after them, the guide reads x and the model reads z."""
    still = {name: p for name, p in _trained(s).items() if p.numel()}
    with _weights_kept(s):
        for _ in _steps(s):
            still = {name: p for name, p in still.items() if p.grad is not None and not p.grad.any()}
        zero = f"the gradient of {{}} is exactly 0 in {STEPS} steps, as behind a saturated clamp"
        yield from _idle(s, list(still), zero)
        yield from reading.reads(s)


def finite(s: Subject) -> Iterator[Finding]:
    """In five steps of Adam every log-probability and gradient is finite. `fit` checks this itself, at each step."""
    with _weights_kept(s):
        for step, estimate in enumerate(_steps(s)):
            if bad := _not_finite(s, estimate):
                message, site, kind = bad
                when = "at the first parameters" if step == 0 else f"after {step} steps of Adam"
                fix = "fit would stop; put a floor under scales, or guard a log or a division"
                yield s.error(f"{message} {when}: {fix}", site, kind)
                return


def _steps(s: Subject) -> Iterator[Pass]:
    """The pass of each of five steps of Adam, with its gradients, before the step moves the parameters."""
    optimizer = torch.optim.Adam(_trained(s).values())
    for _ in range(STEPS):
        optimizer.zero_grad()
        estimate = s.objective.estimate(s.pair.model, s.pair.guide, s.probe)
        (-estimate.surrogate.mean()).backward(retain_graph=True)
        yield estimate
        optimizer.step()


def _trained(s: Subject) -> dict[str, nn.Parameter]:
    return parameters(s.pair.model, s.pair.guide, s.pair.borrower)


@contextlib.contextmanager
def _weights_kept(s: Subject) -> Iterator[None]:
    before = [(p, p.detach().clone(), p.grad) for p in _trained(s).values()]
    try:
        yield
    finally:
        with torch.no_grad():
            for p, weights, grad in before:
                p.copy_(weights)
                p.grad = grad


def _idle(s: Subject, names: list[str], wording: str) -> Iterator[Finding]:
    """A warning about parameters that do not learn, or an error if no parameter of a program learns."""
    for kind in KINDS:
        own = {name for name in _trained(s) if owner_of(name) == kind}
        if mine := [name for name in names if name in own]:
            message = wording.format(", ".join(mine))
            if own > set(mine):
                yield s.warning(message)
            else:
                site = [site for site in s.lines[kind] if site != DATA][-1]
                message += f": the {kind} has no others, and a detach(), .data, no_grad or factor 0 cuts it off"
                yield s.error(message, site, kind)


def _not_finite(s: Subject, estimate: Pass) -> tuple[str, str | None, Kind] | None:
    """Which log-probability or gradient is not finite, with its site and program."""
    t = estimate.terms
    for kind, site, log_prob, _ in aligned(t, t):
        if not torch.isfinite(log_prob).all():
            row = (~torch.isfinite(log_prob).all(0)).nonzero().flatten()[0]
            missing = any(x[row].isnan().any() for x in s.probe if x.is_floating_point())
            hint = " (its row has missing cells: fill them, and mask them out of the likelihood)" if missing else ""
            return f"site {site!r}: its log-probability is not finite{hint}", site, kind
    for name, p in _trained(s).items():
        if p.grad is not None and not torch.isfinite(p.grad).all():
            for kind, site, log_prob, _ in aligned(t, t):
                if log_prob.requires_grad:
                    (grad,) = torch.autograd.grad(log_prob.sum(), p, retain_graph=True, allow_unused=True)
                    if grad is not None and not torch.isfinite(grad).all():
                        return f"site {site!r}: the gradient of its log-probability in {name} is not finite", site, kind
            return f"the gradient of {name} is not finite", None, "model"
    return None


def _reads(leaf: Tensor, t: Terms) -> tuple[str | None, Kind]:
    """The first site whose log-probability depends on a tensor, and its program."""
    for kind, site, log_prob, _ in aligned(t, t):
        if any(leaf is each for each in _leaves(log_prob)):
            return site, kind
    return None, "model"


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors to which gradients of `loss` flow."""
    leaves, seen = [], set()
    nodes: list[Any] = [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        nodes += [following for following, _ in node.next_functions]
    return leaves
