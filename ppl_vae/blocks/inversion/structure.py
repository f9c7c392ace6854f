"""What a guide has to draw, and of what: the latent sites of a model, found by a trace of it.

Which draws a site of the guide has to see follows from the model's graph (Webb et al. 2018, "Faithful inversion of
generative models for effective amortized inference"). Sites that have a child in common become neighbours, for given
the child they depend on each other. Then the sites are taken out, last one of the guide's order first: what is around a
site is what q has to see, and becomes neighbours of each other. So q leaves out no dependence that p(z|x) has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.inspect import is_sample_site
from pyro.ops.provenance import ProvenanceTensor, detach_provenance, get_provenance
from torch import Tensor, nn

from ppl_vae.blocks.likelihoods.table import Cells
from ppl_vae.core.errors import InputError
from ppl_vae.distributions.wrappers import family, mask_of

Order = Literal["model", "inverted"]
FIELD, OBSERVED, UNOBSERVED = "field ", "_observed", "_unobserved"


@dataclass(frozen=True)
class Latent:
    """A latent site.

    Args:
        parents: the latents that its q sees, each of which is drawn before it.
        knows: the partly observed sites drawn after it that its q sees where they are observed.
        sees_data: does its q see the data?
    """

    name: str
    parents: tuple[str, ...] = ()
    knows: tuple[str, ...] = ()
    sees_data: bool = True


@dataclass(frozen=True)
class Structure:
    """What a trace of a model shows.

    Args:
        latents: the latent sites in the order of the guide.
        priors: the distribution of each in the model.
        fields: which fields of a batch the guide reads; not one that a partly observed site stands for.
        kinds: of the columns, where the model's likelihood is that of a table.
        masked: does the model leave out cells of the first field, so that there may be missing ones?
        images: does the model work with images, by convolutions?
    """

    latents: list[Latent]
    priors: dict[str, Any]
    fields: list[int]
    kinds: str | None = None
    masked: bool = False
    images: bool = False


def structure(
    model: Callable[..., Any] | None, example: tuple[Tensor, ...], order: Order = "model", latent_dim: int = 20
) -> Structure:
    """The latents of a model and what each has to see.

    Args:
        model: if there is none yet, one latent `z` of `latent_dim` real numbers is taken.
        example: a batch; its values do not count.
        order: that of the model (q(z2|x) q(z1|x, z2), where z1 depends on z2), or `inverted` (q(z1|x) q(z2|x, z1)).

    Raises:
        InputError: no latent site, one outside the plate `data` or in another plate, or no field to read.
    """
    if model is None:
        z = dist.Normal(torch.zeros(latent_dim), 1.0).to_event(1)
        return Structure([Latent("z")], {"z": z}, list(range(len(example))))
    sites, observes = _sites(model, example)
    latents = {name: site["fn"] for name, site in sites.items() if not site["is_observed"]}
    if not latents:
        raise InputError("the model has no latent site that a guide could draw")
    for name in latents:
        _check_plates(sites[name])
    graph = {name: _parents(site) & (sites.keys() | _fields(example)) for name, site in sites.items()}
    names = list(latents) if order == "model" else list(latents)[::-1]
    around = inverse(graph, names)
    found = []
    for i, name in enumerate(names):
        parents = tuple(before for before in names[:i] if before in around[name])
        knows = tuple(after for after in names[i + 1 :] if observed(after) in around[name])
        sees_data = not parents or bool(around[name] - latents.keys() - set(map(observed, names)))
        found.append(Latent(name, parents, knows, sees_data))
    explains = [sites[name] for name, tags in observes.items() if f"{FIELD}0" in tags]
    masked = any(mask_of(site) is not None for site in explains)
    fields = _read(example, graph, observes, latents)
    return Structure(found, latents, fields, _kinds(explains), masked, _convolves(model))


def observed(name: str) -> str | None:
    """What the observed part of a partly observed site is called (`obs_mask=` in the model), by its latent part."""
    return name.removesuffix(UNOBSERVED) + OBSERVED if name.endswith(UNOBSERVED) else None


def inverse(graph: Mapping[str, Iterable[str]], order: list[str]) -> dict[str, set[str]]:
    """Of each latent, the nodes that p(latent | those before it in `order`, all that is observed) depends on.

    Args:
        graph: the parents of each node of the model, latent or observed.
        order: the latents, each once.
    """
    neighbours: dict[str, set[str]] = {}
    for node, parents in graph.items():
        _connect(neighbours, {node, *parents})
    around = {}
    for name in reversed(order):
        around[name] = neighbours.pop(name)
        _connect(neighbours, around[name])
        for other in around[name]:
            neighbours[other].discard(name)
    return around


def _connect(neighbours: dict[str, set[str]], nodes: set[str]) -> None:
    for node in nodes:
        neighbours.setdefault(node, set())
    for a, b in combinations(nodes, 2):
        neighbours[a].add(b)
        neighbours[b].add(a)


class _Tags(poutine.messenger.Messenger):
    """Tag the value of each site with its name alone, and keep what an observed value was tagged with.

    What a few functions of torch return has lost its tag (`vmap`). So each draw is also a leaf of autograd's graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observes: dict[str, frozenset[str]] = {}
        self.leaves: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: dict) -> None:
        if is_sample_site(msg):
            value = detach_provenance(msg["value"]).detach()
            if msg["is_observed"]:
                self.observes[msg["name"]] = get_provenance(msg["value"])
            elif value.is_floating_point():
                self.leaves[msg["name"]] = value.requires_grad_()
            msg["value"] = ProvenanceTensor(value, frozenset({msg["name"]}))

    def behind(self, x: Tensor) -> set[str]:
        """The sites that x depends on."""
        found, x = set(get_provenance(x)), detach_provenance(x)
        if self.leaves and x.requires_grad:
            names, leaves = zip(*self.leaves.items(), strict=True)
            slopes = torch.autograd.grad(x.sum(), leaves, allow_unused=True, retain_graph=True)
            found |= {name for name, slope in zip(names, slopes, strict=True) if slope is not None}
        return found


def _sites(model: Callable[..., Any], example: tuple[Tensor, ...]) -> tuple[dict[str, dict], dict[str, frozenset[str]]]:
    """The sites of a trace, each with what its log-probability depends on, and what each observed value is made of."""
    tagged = [ProvenanceTensor(x[:2], frozenset({f"{FIELD}{i}"})) for i, x in enumerate(example)]
    with (
        _evaluating(model),
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
        pyro.validation_enabled(False),
        pyro.get_param_store().scope(),
        poutine.block(),
        _Tags() as tags,
    ):
        trace = poutine.trace(model).get_trace(*tagged)
        sites = {name: site for name, site in trace.nodes.items() if is_sample_site(site)}
        for site in sites.values():
            site["depends_on"] = tags.behind(site["fn"].log_prob(site["value"]))
    return sites, tags.observes


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """In evaluation mode, so that no batch normalization counts the rows of a trace."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _fields(example: tuple[Tensor, ...]) -> set[str]:
    """The further fields: the first one is what the model explains, and gives it only its shape."""
    return {f"{FIELD}{i}" for i in range(1, len(example))}


def _parents(site: dict) -> set[str]:
    return site["depends_on"] - {site["name"]}


def _check_plates(site: dict) -> None:
    plates = [(frame.name, frame.dim) for frame in site["cond_indep_stack"] if frame.vectorized]
    if plates != [("data", -1)]:
        where = " and ".join(repr(name) for name, _ in plates) or "none"
        raise InputError(
            f"site {site['name']!r} stands in the plates {where}: the guide `auto` needs it in the plate 'data' alone, "
            'with pyro.plate("data", x.shape[0]), and other dimensions of one datum under .to_event(n)'
        )


def _read(
    example: tuple[Tensor, ...],
    graph: Mapping[str, set[str]],
    observes: Mapping[str, frozenset[str]],
    latents: Iterable[str],
) -> list[int]:
    """The fields that the guide reads: those that the model uses, without those of partly observed sites."""
    used = set().union(*graph.values(), *observes.values())
    drawn = set().union(*(observes.get(observed(name) or "", frozenset()) for name in latents))
    fields = [i for i in range(len(example)) if f"{FIELD}{i}" in used - drawn]
    if not fields:
        raise InputError(
            "the model observes no field for all rows, so that a guide has nothing to read: write a guide of your own"
        )
    return fields


def _kinds(explains: Iterable[dict]) -> str | None:
    """The kinds of the columns as `--set kinds=` takes them."""
    for cells in (family(site["fn"]) for site in explains):
        if isinstance(cells, Cells):
            each = {column: str(group).split(" in ")[0] for group in cells.groups for column in group.columns}
            return ",".join(each[column] for column in sorted(each))
    return None


def _convolves(model: Any) -> bool:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return isinstance(model, nn.Module) and any(isinstance(module, kinds) for module in model.modules())
