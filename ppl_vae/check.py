"""Is this pair a VAE for this data? Each finding names the site, what is wrong and the mend."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.data import Dataset
from ppl_vae.errors import InputError
from ppl_vae.objectives import Objective, Trace_ELBO
from ppl_vae.programs import Pair, parameters, terms
from ppl_vae.programs.find import blame
from ppl_vae.programs.layout import DATA
from ppl_vae.programs.terms import Batch, batches

PROBE_ROWS = 7
CHUNK_ROWS = 1000


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with its mend."""

    level: Literal["error", "warning"]
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Report:
    """What `check` found."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.level == "error"]

    @property
    def passed(self) -> bool:
        return not self.errors

    def asdict(self) -> dict[str, Any]:
        return {"passed": self.passed, "findings": [{"level": f.level, "message": f.message} for f in self.findings]}


def check_pair(pair: Pair, dataset: Dataset, objective: Objective | None = None) -> Report:
    """Run every check; the first that finds an error ends the list, since the later ones build on it."""
    findings: list[Finding] = []
    probe = tuple(x[:PROBE_ROWS] for x in dataset.train)
    stages: list[Callable[[], Iterator[Finding]]] = [
        lambda: _runs(pair, probe),
        lambda: _plates(pair, probe),
        lambda: _trains(pair, probe, objective or Trace_ELBO()),
        lambda: _many_samples(pair, probe),
        lambda: _support(pair, dataset),
    ]
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        for stage in stages:
            findings += stage()
            if any(f.level == "error" for f in findings):
                break
    return Report(tuple(findings))


def _runs(pair: Pair, probe: Batch) -> Iterator[Finding]:
    """Both programs run, their sites match, and every log-probability is one number per row."""
    for kind in ("guide", "model"):
        try:
            with torch.no_grad():
                poutine.trace(getattr(pair, kind)).get_trace(*probe)
        except Exception as error:
            yield Finding("error", f"the {kind} fails on {_shapes(probe)}: {blame(error, pair.sources[kind].path)}")
            return
    try:
        with torch.no_grad():
            terms(pair.model, pair.guide, probe)
    except InputError as error:
        yield Finding("error", str(error))
    except Exception as error:
        yield Finding("error", f"the model fails on the guide's draws: {blame(error, pair.sources['model'].path)}")


def _plates(pair: Pair, probe: Batch) -> Iterator[Finding]:
    """The plate `data` is as long as the batch, and each distribution as large as its value."""
    guide_trace = poutine.trace(pair.guide).get_trace(*probe)
    model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(*probe)
    for kind, trace in (("model", model_trace), ("guide", guide_trace)):
        for name, site in trace.nodes.items():
            if site["type"] != "sample" or not site["cond_indep_stack"]:
                continue
            for frame in site["cond_indep_stack"]:
                if frame.name == DATA and frame.size != len(probe[0]):
                    yield Finding(
                        "error",
                        f"site {name!r} of the {kind}: the plate {DATA!r} is of size {frame.size} for a batch of "
                        f"{len(probe[0])} rows: make it x.shape[0]",
                    )
            shape = tuple(site["fn"].batch_shape + site["fn"].event_shape)
            if site["is_observed"] and "_deterministic" not in site["infer"] and shape != tuple(site["value"].shape):
                yield Finding(
                    "error",
                    f"site {name!r}: the distribution is over {shape}, the value is {tuple(site['value'].shape)}; "
                    "they would broadcast silently: give them one shape",
                )
            if site["scale"] != 1.0:
                yield Finding("warning", f"site {name!r} of the {kind} is scaled by {float(site['scale']):g}")


def _trains(pair: Pair, probe: Batch, objective: Objective) -> Iterator[Finding]:
    """The objective takes this pair, its value is finite, and what the loss depends on is what is trained."""
    try:
        estimate = objective.estimate(pair.model, pair.guide, probe)
    except InputError as error:
        yield Finding("error", str(error))
        return
    t = estimate.terms
    for site, log_prob in {**t.log_prior, **t.log_lik, **t.log_q}.items():
        if not torch.isfinite(log_prob).all():
            yield Finding("warning", f"site {site!r}: its log-probability is not finite at the first parameters")
    trained = {id(p): name for name, p in parameters(pair.model, pair.guide, pair.borrower).items()}
    leaves = _leaves(estimate.surrogate)
    for leaf in leaves:
        if id(leaf) not in trained:
            name = pyro.get_param_store().param_name(leaf)
            what = f"pyro.param {name!r}" if name else f"a tensor of shape {tuple(leaf.shape)}"
            yield Finding(
                "error",
                f"the loss depends on {what}, which is not among the programs' parameters and would never be trained: "
                "make it an nn.Parameter of the module, or write the program as a plain function",
            )
    unused = [name for key, name in trained.items() if key not in {id(leaf) for leaf in leaves}]
    if not trained:
        yield Finding("error", "neither program has a parameter: nothing to train")
    elif unused:
        yield Finding("warning", f"the loss does not depend on {', '.join(unused)}: not trained")


def _many_samples(pair: Pair, probe: Batch) -> Iterator[Finding]:
    """More than one sample per row, of which multi-sample objectives and `export` make use."""
    try:
        with torch.no_grad():
            terms(pair.model, pair.guide, probe, 3)
    except Exception as error:
        path = pair.sources["model"].path
        yield Finding(
            "warning",
            f"the pair fails with 3 samples per row ({blame(error, path)}): if a program takes no leading dimension, "
            "as a convolution, say `vectorized = False` in its class",
        )


def _support(pair: Pair, dataset: Dataset) -> Iterator[Finding]:
    """Every row of the data lies in the support of its likelihood."""
    seen: set[str] = set()
    for split, numbers in dataset.rows.items():
        for rows, chunk in zip(numbers.split(CHUNK_ROWS), batches(getattr(dataset, split), CHUNK_ROWS), strict=True):
            with torch.no_grad():
                guide_trace = poutine.trace(pair.guide).get_trace(*chunk)
                model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(*chunk)
            for name, site in model_trace.nodes.items():
                if site["type"] != "sample" or not site["is_observed"] or name in seen:
                    continue
                if outside := _outside(site):
                    (row, *column), what = outside
                    seen.add(name)
                    where = f"row {rows[row]}" + (f", column {', '.join(map(str, column))}" if column else "")
                    mend = "binarize or rescale the data, or swap the likelihood"
                    yield Finding("error", f"site {name!r}: {where} of the data is {what}: {mend}")


def _outside(site: dict) -> tuple[list[int], str] | None:
    """Index of the first value outside the support of its distribution, and what is wrong with it."""
    fn, value = site["fn"], site["value"]
    try:
        support = fn.support
    except NotImplementedError:
        return None
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    bad = ~support.check(value)
    if site["mask"] is not None:
        mask = torch.as_tensor(site["mask"]).expand(fn.batch_shape)
        bad &= mask.reshape(fn.batch_shape + (1,) * (bad.dim() - mask.dim()))
    if not bad.any():
        return None
    index = bad.nonzero()[0].tolist()
    family = fn
    while hasattr(family, "base_dist"):
        family = family.base_dist
    return index, f"{value[tuple(index)]}, outside the support of {type(family).__name__}, {support}"


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors that `loss` would send gradients to."""
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


def _shapes(batch: Batch) -> str:
    return ", ".join(str(tuple(x.shape)) for x in batch)
