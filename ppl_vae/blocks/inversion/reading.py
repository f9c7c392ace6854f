"""What the networks of an automatic guide read: the fields of a batch, and what is known of partly observed sites."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.blocks import networks
from ppl_vae.blocks.conditions import as_features, as_row, concat
from ppl_vae.blocks.inversion.structure import Latent, Structure, observed
from ppl_vae.blocks.likelihoods.table import TableFeatures
from ppl_vae.blocks.networks.dense import mlp
from ppl_vae.blocks.parts import Choice, Part, needs
from ppl_vae.blocks.standardized import Standardized


class Inputs(nn.Module):
    """The fields of a batch as `size` numbers for each row.

    The first field is standardized, see `Standardized`. Where the model bears missing cells, these are 0, and beside
    them stands which they are; of a table as in `TableFeatures`. Of further fields integers are labels, one-hot, and
    other numbers are standardized.

    Args:
        found: which fields are read, and the kinds of a table's columns.
        example: up to 1000 rows, by which columns are standardized.
        y_dim: the number of classes of labels.
        kinds: those of a table's columns, in place of what is found.
    """

    def __init__(
        self, found: Structure, example: tuple[Tensor, ...], y_dim: int = 10, kinds: str | None = None
    ) -> None:
        super().__init__()
        found = replace(found, kinds=kinds or found.kinds)
        self.fields, self.shape = found.fields, tuple(example[0].shape[1:])
        self.reads_image = 0 in self.fields and not found.kinds
        self.images = found.images and self.reads_image and networks.is_image(self.shape)
        parts = [_part(found, i, example[i], y_dim) for i in self.fields]
        self.parts, self.size = nn.ModuleList(parts), sum(part.size for part in parts)
        self.first = prod(self.shape) if self.reads_image else parts[0].size

    def forward(self, *batch: Tensor) -> Tensor:
        read = [part(batch[i]) for i, part in zip(self.fields, self.parts, strict=True)]
        return concat(*read)


def _part(found: Structure, field: int, x: Tensor, y_dim: int) -> Any:
    """What makes rows of numbers of one field."""
    shape = tuple(x.shape[1:])
    if field == 0 and found.kinds is not None:
        return TableFeatures(shape, found.kinds, x)
    if field and not x.is_floating_point():
        return Labels(y_dim)
    return Numbers(
        shape, x if x.is_floating_point() else x.to(torch.get_default_dtype()), masked=field == 0 and found.masked
    )


class Numbers(Standardized):
    """Standardized numbers as rows, `(..., *data_shape)` to `(..., size)`.

    Args:
        masked: put 0 in the place of missing cells (NaN), and beside all a 1 for each cell that is there.
    """

    def __init__(self, data_shape: tuple[int, ...], data: Tensor, *, masked: bool) -> None:
        super().__init__(data_shape, data)
        self.masked, self.size = masked, prod(data_shape) * (1 + masked)

    def forward(self, x: Tensor) -> Tensor:
        rows = as_row(super().forward(x), self.center.dim())
        return concat(rows.nan_to_num(), (~rows.isnan()).to(rows.dtype)) if self.masked else rows


class Labels(nn.Module):
    """Integers from 0 to width − 1 as one-hot rows; raises as `as_features`."""

    unit: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = width
        self.register_buffer("unit", torch.ones(()), persistent=False)

    def forward(self, y: Tensor) -> Tensor:
        return as_features(y, self.size, like=self.unit)


class BySite(nn.Module):
    """A module for each site, by the name of the site; an `nn.ModuleDict` minds dots in it."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.places = {name: i for i, name in enumerate(modules)}
        self.each = nn.ModuleList(modules.values())

    def __getitem__(self, name: str) -> Any:
        return self.each[self.places[name]]


class Encoder(nn.Module):
    """From the inputs and the features of other draws to the numbers that a family asks for.

    A network that reads images, such as `convolutional`, sees the first field alone; what it makes of it goes with all
    the rest through a dense one.

    Args:
        families: of all sites.
        network: `convolutional` or `mlp` where it is None, by whether the model convolves images.
    """

    def __init__(self, inputs: Inputs, site: Latent, families: Any, hidden: int, network: Part | None = None) -> None:
        super().__init__()
        n_out = families[site.name].width
        chosen = _chosen(network, inputs.images)
        drawn = sum(families[name].size for name in site.parents) + sum(families[name].size + 1 for name in site.knows)
        beside = drawn + inputs.size - inputs.first
        eye = needs("network", chosen, "reads") and inputs.reads_image
        self.sees_data, self.split = site.sees_data, 0
        if not (site.sees_data and eye):
            dense = "mlp" if needs("network", chosen, "reads") else chosen
            self.network: Any = networks.build(dense, drawn + inputs.size * site.sees_data, n_out, hidden)
        elif beside:
            self.split = inputs.first
            self.eye = networks.encoder(chosen, inputs.shape, hidden, hidden)
            self.network = mlp(hidden + beside, hidden, n_out)
        else:
            self.network = networks.encoder(chosen, inputs.shape, n_out, hidden)

    def forward(self, x: Tensor, *drawn: Tensor) -> Tensor:
        if not self.sees_data:
            return self.network(concat(*drawn))
        if self.split:
            x = concat(self.eye(x[..., : self.split]), x[..., self.split :])
        return self.network(concat(x, *drawn))


def _chosen(network: Part | None, images: bool) -> Part:
    default = "convolutional" if images else "mlp"
    if isinstance(network, Choice) and network.part is None:
        return Choice(default, network.settings)
    return default if network is None else network


class Known(NamedTuple):
    """Of a partly observed site: for which rows it is observed, `(B,)`, and its value, which counts only there."""

    rows: Tensor
    value: Tensor


class _Enough(Exception):
    """All that was looked for is found."""


class _Look(poutine.messenger.Messenger):
    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.missing, self.found = set(names), dict[str, Known]()

    def _pyro_post_sample(self, msg: dict) -> None:
        if msg["name"] in self.missing:
            self.missing.remove(msg["name"])
            self.found[msg["name"]] = Known(msg["mask"], msg["value"])
            if not self.missing:
                raise _Enough


def known(model: Callable[..., Any] | None, batch: tuple[Tensor, ...], sites: Iterable[Latent]) -> dict[str, Known]:
    """What a batch says of the sites that are observed for some rows (`obs_mask=` in the model).

    The model runs until it has observed the last of them.
    """
    names = {name: site.name for site in sites if (name := observed(site.name))}
    if model is None or not names:
        return {}
    run = model.forward if isinstance(model, nn.Module) else model  # torch.export minds a module call that is left
    with torch.no_grad(), poutine.block(), suppress(_Enough), _Look(names) as look:
        run(*batch)
    return {names[name]: found for name, found in look.found.items()}


def seen(site: Latent, families: Any, drawn: Mapping[str, Tensor], known: Mapping[str, Known]) -> Iterator[Tensor]:
    """What the encoder of a site sees besides the data: the features of other sites, `(..., numbers)`.

    Args:
        families: of all sites.
        drawn: the draws of the site's parents.
        known: what is known of partly observed sites, which comes with a 1 where it is known, else with zeros.
    """
    for name in site.parents:
        yield families[name].features(drawn[name])
    for name in site.knows:
        rows, value = known[name]
        there = rows.unsqueeze(-1)
        features = families[name].features(value)
        yield concat(torch.where(there, features, torch.zeros_like(features)), there.to(features.dtype))


def draw(site: Latent, q: Any, known: Mapping[str, Known], infer: Any = None) -> Tensor:
    """`pyro.sample`; where the site is observed its value is what is known, and the draw does not count.

    Args:
        infer: how the site is inferred, such as `{"enumerate": "parallel"}`.
    """
    if site.name not in known:
        return pyro.sample(site.name, q, infer=infer)
    rows, value = known[site.name]
    with poutine.mask(mask=~rows):
        drawn = pyro.sample(site.name, q, infer=infer)
    return torch.where(rows.reshape(rows.shape + (1,) * q.event_dim), value, drawn)
