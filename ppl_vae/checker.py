"""Is this pair a VAE for this data? Each finding names the site, what is wrong and the mend."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.distributions import ExpandedDistribution, Independent, MaskedDistribution
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import constraints

from ppl_vae.data import Dataset
from ppl_vae.errors import InputError
from ppl_vae.objectives import Objective, Trace_ELBO
from ppl_vae.programs import Pair, owned, parameters, terms
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
    dataset = _binary(dataset)
    device = next((t.device for _, t in owned(pair.model, pair.guide, pair.borrower)), torch.device("cpu"))
    probe = tuple(x[:PROBE_ROWS].to(device) for x in dataset.train)
    stages: list[Callable[[], Iterator[Finding]]] = [
        lambda: _plates(pair, probe),
        lambda: _runs(pair, probe),
        lambda: _trains(pair, probe, objective or Trace_ELBO()),
        lambda: _many_samples(pair, probe),
        lambda: _support(pair, dataset, device),
    ]
    with pyro.get_param_store().scope(), torch.random.fork_rng(), pyro.validation_enabled(False), _buffers_kept(pair):
        for stage in stages:
            findings += stage()
            if any(f.level == "error" for f in findings):
                break
    return Report(tuple(findings))


def _binary(dataset: Dataset) -> Dataset:
    """Under `binarize="epoch"`, with 0 and 1 for the grey training values, which no step will see as they are."""
    if dataset.binarize != "epoch":
        return dataset
    grey, *others = dataset.train
    return replace(dataset, train=((grey > 0.5).to(grey.dtype), *others))


@contextlib.contextmanager
def _buffers_kept(pair: Pair) -> Iterator[None]:
    """Undo what passes through the programs do to buffers, as those of a BatchNorm."""
    modules = [*pair.model.modules(), *pair.guide.modules()]
    buffers = [(m, name, b.clone()) for m in modules for name, b in m.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for module, name, before in buffers:
            getattr(module, name).copy_(before)


def _runs(pair: Pair, probe: Batch) -> Iterator[Finding]:
    """Both programs run, there are latent and observed sites, they match, and each log-probability is one per row."""
    for kind in ("guide", "model"):
        try:
            with torch.no_grad():
                poutine.trace(getattr(pair, kind)).get_trace(*probe)
        except Exception as error:
            yield _failure(f"the {kind} fails on {_shapes(probe)}", error, pair.sources[kind].path)
            return
    try:
        with torch.no_grad():
            t = terms(pair.model, pair.guide, probe)
    except InputError as error:
        yield Finding("error", str(error))
    except Exception as error:
        yield _failure("the model fails on the guide's draws", error, pair.sources["model"].path)
    else:
        if not t.log_lik:
            yield Finding("error", "the model observes nothing: give a site of it obs=x")
        if not t.log_prior:
            yield Finding("error", "the model has no latent site: nothing to infer")
        if t.scale != 1:
            yield Finding(
                "warning",
                f"every site is scaled by {t.scale:g}: batches come from outside, so a plate needs no subsample_size",
            )


def _plates(pair: Pair, probe: Batch) -> Iterator[Finding]:
    """The plate `data` is as long as the batch: noted before a site in it fails."""
    for kind in ("guide", "model"):
        with contextlib.suppress(Exception), torch.no_grad(), poutine.trace() as tracer:
            getattr(pair, kind)(*probe)
        node = tracer.trace.nodes.get(DATA)
        if node is not None and site_is_subsample(node):
            plate = node["fn"]
            size = plate.subsample_size or plate.size
            if size != len(probe[0]):
                yield Finding(
                    "error",
                    f"the plate {DATA!r} of the {kind} is of size {size} for a batch of {len(probe[0])} rows: "
                    "make it x.shape[0]",
                )


def _trains(pair: Pair, probe: Batch, objective: Objective) -> Iterator[Finding]:
    """The objective takes this pair, its value is finite, and what the loss depends on is what is trained."""
    try:
        estimate = objective.estimate(pair.model, pair.guide, probe)
    except InputError as error:
        yield Finding("error", str(error))
        return
    except Exception as error:
        yield _failure(f"{type(objective).__name__} fails", error, pair.sources["model"].path)
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
                "make it an nn.Parameter of the module, or, in a plain function, a pyro.param or part of a pyro.module",
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


def _support(pair: Pair, dataset: Dataset, device: torch.device) -> Iterator[Finding]:
    """Every row of the data lies in the support of its likelihood."""
    seen: set[str] = set()
    for split, numbers in dataset.rows.items():
        for rows, chunk in zip(numbers.split(CHUNK_ROWS), batches(getattr(dataset, split), CHUNK_ROWS), strict=True):
            batch = tuple(x.to(device) for x in chunk)
            try:
                with torch.no_grad():
                    guide_trace = poutine.trace(pair.guide).get_trace(*batch)
                    model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(*batch)
            except Exception as error:
                yield _failure(f"the pair fails on {_shapes(batch)}", error, pair.sources["model"].path)
                return
            for name, site in model_trace.nodes.items():
                if site["type"] != "sample" or not site["is_observed"] or "_deterministic" in site["infer"]:
                    continue
                if name in seen:
                    continue
                if outside := _outside(site):
                    row, column, what = outside
                    seen.add(name)
                    where = f"row {rows[row]}" + (f", column {', '.join(map(str, column))}" if column else "")
                    mend = "binarize or rescale the data, or swap the likelihood"
                    yield Finding("error", f"site {name!r}: {where} of the data is {what}: {mend}")


def _outside(site: dict) -> tuple[int, list[int], str] | None:
    """Row and column of the first value outside the support of its distribution, and what is wrong with it."""
    fn, value = site["fn"], site["value"]
    try:
        support = fn.support
    except NotImplementedError:
        return None
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    bad = ~support.check(value)
    masks = [] if site["mask"] is None else [(site["mask"], fn.batch_shape)]
    family = fn
    while isinstance(family, Independent | MaskedDistribution | ExpandedDistribution):
        if isinstance(family, MaskedDistribution):
            masks.append((family._mask, family.batch_shape))
        family = family.base_dist
    for mask, shape in masks:
        bad &= torch.as_tensor(mask).expand(shape).reshape(shape + (1,) * (bad.dim() - len(shape)))
    if not bad.any():
        return None
    index = bad.nonzero()[0].tolist()
    allowed = "0 or 1" if support is constraints.boolean else str(support)
    what = f"{value[tuple(index)]}, outside the support of {type(family).__name__} ({allowed})"
    plate = next(frame.dim for frame in site["cond_indep_stack"] if frame.name == DATA)
    return index.pop(value.dim() - fn.event_dim + plate), index, what


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


def _failure(what: str, error: Exception, path: Path | None) -> Finding:
    why = blame(error, path)
    hint = "; add .to_event(n) for the dimensions of one datum" if "Shape mismatch inside plate" in why else ""
    return Finding("error", f"{what}: {why}{hint}")


def _shapes(batch: Batch) -> str:
    return ", ".join(str(tuple(x.shape)) for x in batch)
