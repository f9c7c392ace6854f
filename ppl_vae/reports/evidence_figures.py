"""Figures of what the data say of a fitted model."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.evidence.collapse import Collapse
from ppl_vae.evidence.evaluation import Evaluation
from ppl_vae.objectives.dimensions import ACTIVE
from ppl_vae.reports.style import BLACK, BLUE, GREY, ORANGE, SKY, figure, styled

MOST_BARS, MOST_NAMES, MOST_CELLS = 60, 12, 60


@styled()
def aggregate_posterior(collapse: Collapse) -> Figure:
    """Rates and the aggregated posterior, in three panels, dimensions in the order of their rate.

    The rate of each dimension, with the threshold of an active one (where rates are not known, the variance of the
    mean); draws of q(z) beside those of p(z), in the two dimensions of the highest rate; the correlations of E_q[z|x].
    """
    order = np.array(collapse.by_rate())
    drawn = figure(13.2, 4.2)
    left, middle, right = drawn.subplots(1, 3, width_ratios=[1.15, 1, 1.1])
    _bars(left, collapse, order)
    _samples(middle, collapse, order[:2])
    _correlations(right, collapse, order)
    return drawn


def _bars(axes: Axes, collapse: Collapse, order: np.ndarray) -> None:
    known = not bool(collapse.rate_by_dimension.isnan().all())
    values = (collapse.rate_by_dimension if known else collapse.mean_variance).numpy()[order]
    title, unit = (
        ("rate of each dimension", "nats per datum") if known else ("variance of E[z|x]", "unit of z, squared")
    )
    shown = values[:MOST_BARS]
    active = shown > ACTIVE
    places = np.arange(len(shown))
    for chosen, color, name in ((active, BLUE, "active"), (~active, GREY, "not active")):
        if chosen.any():
            axes.bar(places[chosen], np.nan_to_num(shown[chosen]), color=color, width=0.8, label=name)
    axes.axhline(ACTIVE, color=ORANGE, ls="--", lw=1.2, label=f"threshold, {ACTIVE}")
    cut = "" if len(values) <= MOST_BARS else f", the first {MOST_BARS} of {len(values)}"
    axes.set(title=title + cut, ylabel=unit, xlim=(-0.7, max(len(shown), 2) - 0.3))
    if positive := [value for value in shown if value > 0]:
        low = min(ACTIVE, *positive) / 2
        axes.set_yscale("log")
        axes.set_ylim(max(low, 1e-5), 2.5 * max(max(positive), ACTIVE))
    _name_dimensions(axes, [collapse.dimensions[j] for j in order[: len(shown)]])
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _name_dimensions(axes: Axes, names: list[str]) -> None:
    """Names under the bars where there is room for them, else their places."""
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 4 else 0, fontsize=8)
    else:
        axes.set_xlabel("place of the dimension in this order")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _samples(axes: Axes, collapse: Collapse, two: np.ndarray) -> None:
    samples = {"z ~ q(z)": (collapse.posterior, BLUE), "z ~ p(z)": (collapse.prior, ORANGE)}
    title = f"q(z) against p(z), p = {collapse.two_sample.p:.2g}"
    if len(two) == 1:
        everything = np.concatenate([z[:, two[0]].numpy() for z, _ in samples.values()])
        bins = np.histogram_bin_edges(everything, 30).tolist()
        for name, (z, color) in samples.items():
            axes.hist(z[:, two[0]].numpy(), bins, color=color, alpha=0.55, label=name)
        axes.set(xlabel=collapse.dimensions[two[0]], ylabel="draws", title=title)
    else:
        for name, (z, color) in samples.items():
            x, y = z[:, two].numpy().T
            axes.scatter(x, y, s=9, alpha=0.45, lw=0, color=color, label=name)
        first, second = (collapse.dimensions[j] for j in two)
        axes.set(xlabel=first, ylabel=second, title=title)
    axes.legend(frameon=False, fontsize=8, ncols=2, markerscale=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _correlations(axes: Axes, collapse: Collapse, order: np.ndarray) -> None:
    known = order[~collapse.mean_variance.isnan().numpy()[order]][:MOST_CELLS]
    axes.set_title("correlation of E[z|x] over data")
    if not len(known):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "not defined for\nthis kind of latent", transform=axes.transAxes, ha="center", va="center")
        return
    image = axes.imshow(collapse.correlation.numpy()[np.ix_(known, known)], cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_facecolor("0.85")  # seen where a correlation is not defined
    axes.figure.colorbar(image, ax=axes, shrink=0.8, ticks=[-1, -0.5, 0, 0.5, 1])
    names = [collapse.dimensions[j] for j in known]
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 4 else 0, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
    else:
        axes.set_xlabel("dimensions, in the order of the first panel")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))


@styled()
def evaluation(found: Evaluation) -> Figure:
    """log p(x) and the ELBO of each row, with the parts of the gap between them; and the same in the mean."""
    rows = found.gap_rows if found.gap is not None else torch.arange(min(len(found.numbers), 50))
    log_px = found.found.value[rows]
    order = log_px.argsort()
    top = log_px[order].numpy()
    elbo = found.found.weighted.elbo[rows][order].numpy()
    drawn = figure(10.5, 3.8)
    each, average = drawn.subplots(1, 2, width_ratios=(3, 1))
    x = np.arange(len(rows))
    if found.gap is None:
        each.bar(x, top - elbo, bottom=elbo, width=0.9, color=SKY, label="the gap, KL(q(z|x) ‖ p(z|x))")
    else:
        amortization = found.gap.amortization[order].numpy()
        approximation = found.gap.approximation[order].numpy()
        start = top - approximation - amortization
        each.bar(x, amortization, bottom=start, width=0.9, color=ORANGE, label="amortization gap: the encoder's")
        each.bar(
            x, approximation, bottom=start + amortization, width=0.9, color=SKY, label="approximation gap: the family's"
        )
    reliable = found.found.reliable[rows][order].numpy()
    each.plot(x[reliable], top[reliable], "o", color=BLACK, ms=3.5, label="log p(x)")
    each.plot(x[~reliable], top[~reliable], "^", color=BLACK, ms=3.5, label="log p(x), a lower bound")
    each.plot(x, elbo, "_", color=BLUE, ms=6, mew=1.6, label="ELBO")
    each.set(xlabel=f"{len(rows)} rows, by log p(x)", ylabel="nats", title="each row")
    each.legend(frameon=False, fontsize=8, loc="lower right")
    _mean_gap(average, found)
    return drawn


def _mean_gap(axes: Axes, found: Evaluation) -> None:
    """The gap's parts in the mean, as bars with their errors over data."""
    shown = {"gap": found.log_px_gap} if found.gap is None else found.gap_means
    for i, (name, m) in enumerate(shown.items()):
        error = m.over_data.se if m.over_data.se == m.over_data.se else 0.0
        axes.bar([i], [m.value], yerr=[error], width=0.6, color={"amortization": ORANGE}.get(name, SKY), capsize=4)
        axes.annotate(
            f"{m.value:z.2f}", (i, m.value + error), (0, 3), textcoords="offset points", ha="center", fontsize=9
        )
    axes.set_xticks(range(len(shown)), list(shown))
    axes.set(ylabel="nats per datum", title="mean over rows")
    axes.margins(y=0.15)
