"""The picture of a collapse: what each panel shows, for latents of every kind."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from PIL import Image
from support import figures as made
from torch import Tensor

from ppl_vae.evidence.collapse import collapse
from ppl_vae.objectives.dimensions import ACTIVE
from ppl_vae.reports.evidence_figures import aggregate_posterior, evaluation, khat
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
    assert bars.lines[0].get_ydata()[0] == ACTIVE
    (image,) = correlations.images
    assert image.get_array().shape == (10, 10)
    assert image.get_array().count() == 9, "three dimensions vary, and the others have no correlation"


DRAWN = {
    "30 rows": lambda: evaluation(made.evaluation(30)),
    "one row": lambda: evaluation(made.evaluation(1)),
    "no parts": lambda: evaluation(made.evaluation(12, gap=False)),
    "bounds": lambda: evaluation(made.evaluation(9, reliable=False)),
    "a dimension": lambda: aggregate_posterior(made.collapse(1)),
    "100 dimensions": lambda: aggregate_posterior(made.collapse(100)),
    "12 long names": lambda: aggregate_posterior(made.collapse(12, [f"{made.LONG}{i}" for i in range(12)])),
}


@pytest.mark.parametrize("name", DRAWN)
def test_all_of_it_is_inside_of_the_frame(name: str) -> None:
    drawn = DRAWN[name]()
    assert made.beyond(drawn) < 1
    assert made.overlapping(drawn) == []


def test_bars_reach_from_the_elbo_to_log_px() -> None:
    found = made.evaluation(12)
    each, average = evaluation(found).axes
    order = found.found.value.argsort()
    value, elbo = found.found.value[order].numpy(), found.found.weighted.elbo[order].numpy()
    approximation, amortization, points, *_ = each.containers
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in approximation], value, rtol=1e-5)
    np.testing.assert_allclose([bar.get_y() for bar in approximation], value - found.gap.approximation[order].numpy())
    np.testing.assert_allclose([bar.get_y() for bar in amortization], elbo, rtol=1e-5)
    np.testing.assert_allclose(points.lines[0].get_ydata(), value)
    errors = [segment[:, 1] for segment in points.lines[2][0].get_segments()]
    np.testing.assert_allclose(np.ptp(errors, 1), 2 * found.found.se[order].numpy(), rtol=1e-4)
    assert [text.get_text() for text in each.texts] == ["log p(x)", "approximation", "amortization", "ELBO"]
    means = [bar.get_height() for container in average.containers[1::2] for bar in container]
    assert sorted(means) == pytest.approx(sorted(m.value for m in found.gap_means.values()))


def with_khat(by_guide: list[float], used: list[float]) -> Any:
    weighted = SimpleNamespace(khat=torch.tensor(by_guide))
    return SimpleNamespace(found=SimpleNamespace(weighted=weighted, khat=torch.tensor(used)))


def test_khat_of_each_row_in_order_and_at_the_edges_what_lies_beyond() -> None:
    drawn = khat(with_khat([0.9, 0.2, math.inf, 0.6, -math.inf], [0.3, 0.2, 0.55, math.nan, -math.inf]))
    (axes,) = drawn.axes
    points = {line.get_marker(): [] for line in axes.lines}
    for line in axes.lines:
        points[line.get_marker()] += np.asarray(line.get_ydata()).tolist()
    assert points["."] == pytest.approx([0.2, 0.6, 0.9, 0.2, 0.3, 0.55])
    low, high = axes.get_ylim()
    assert points["v"] == pytest.approx([low + 0.05] * 2)
    assert points["^"] == pytest.approx([high - 0.05])
    said = " ".join(text.get_text() for text in axes.texts)
    assert "the guide's draws:\n40% below 0.5" in said
    assert "draws used for log p(x):\n75% below 0.5" in said
    assert made.beyond(drawn) < 1
    assert made.overlapping(drawn) == []


@pytest.mark.parametrize("used", [[0.2, 0.4], [math.nan, math.nan]])
def test_khat_of_the_guide_alone(used: list[float]) -> None:
    drawn = khat(with_khat([0.2, 0.4], used))
    assert [text.get_text() for text in drawn.axes[0].texts][2:] == ["the guide's draws:\n100% below 0.5"]
