"""The picture of a collapse: what each panel shows, for latents of every kind."""

import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from PIL import Image
from torch import Tensor

from ppl_vae.evidence.collapse import collapse
from ppl_vae.reports.evidence_figures import aggregate_posterior
from ppl_vae.reports.style import save


def found(q: Any, prior: Any, rows: int = 60) -> Any:
    def model(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(torch.zeros_like(x), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", q(x))

    return collapse(model, guide, torch.randn(rows, 10))


def used(k: int, of: int = 10) -> Any:
    def q(x: Tensor) -> Any:
        is_used = torch.arange(of) < k
        mean = torch.where(is_used, math.sqrt(0.75) * x[:, :1], 0.0)
        return dist.Normal(mean, torch.where(is_used, 0.5, 1.0)).to_event(1)

    return found(q, dist.Normal(torch.zeros(of), 1.0).to_event(1))


def full() -> Any:
    tril = torch.eye(3) + 0.5 * torch.ones(3, 3).tril(-1)
    return found(
        lambda x: dist.MultivariateNormal(x[:, :3], scale_tril=tril), dist.Normal(torch.zeros(3), 1.0).to_event(1)
    )


def classes() -> Any:
    return found(lambda x: dist.Categorical(logits=x[:, :4]), dist.Categorical(logits=torch.zeros(4)))


KINDS = {
    "ten": lambda: used(3),
    "none used": lambda: used(0),
    "one": lambda: used(1, 1),
    "full": full,
    "class": classes,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "collapse.png"
    save(aggregate_posterior(KINDS[kind]()), path)
    assert {file.name for file in path.parent.iterdir()} == {"collapse.png", "collapse.svg"}
    with Image.open(path) as image:
        image.verify()
        assert image.format == "PNG"
        assert image.width > 1000


def test_the_panels() -> None:
    c = used(3)
    bars, samples, correlations, _ = aggregate_posterior(c).axes
    active, idle = bars.containers
    heights = [bar.get_height() for bar in active]
    assert heights == sorted(heights, reverse=True)
    assert heights == pytest.approx(sorted(c.rate_by_dimension[:3].tolist(), reverse=True))
    assert len(idle) == 7
    assert [len(points.get_offsets()) for points in samples.collections] == [60, 60]
    assert samples.get_xlabel() == c.dimensions[c.by_rate()[0]]
    (image,) = correlations.images
    assert image.get_array().shape == (10, 10)
    assert image.get_array().count() == 9, "three dimensions vary, and the others have no correlation"
