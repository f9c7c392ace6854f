"""Figures of what the data say of a fitted model."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_vae.evidence.collapse import Collapse
from ppl_vae.evidence.evaluation import Evaluation
from ppl_vae.evidence.khat import MOST_KHAT
from ppl_vae.objectives.dimensions import ACTIVE
from ppl_vae.reports.labels import name_ends, shortened
from ppl_vae.reports.style import BLACK, BLUE, GREY, ORANGE, SMALL, WIDTH, figure, log_scale, styled

WHOSE = {
    "gap": "gap,\nKL(q(z|x) ‖ p(z|x))",
    "approximation": "approximation,\nthe family's",
    "amortization": "amortization,\nthe encoder's",
}
MOST_BARS, MOST_NAMES, MOST_CELLS, MANY = 60, 12, 60, 2000
LOWEST_KHAT, HIGHEST_KHAT = -0.25, 1.5  # of the panel


@styled()
def aggregate_posterior(collapse: Collapse) -> Figure:
    """Rates and the aggregated posterior, in three panels, dimensions in the order of their rate.

    The rate of each dimension, with the threshold of an active one (where rates are not known, the variance of the
    mean); draws of q(z) beside those of p(z), in the two dimensions of the highest rate; the correlations of E_q[z|x].
    """
    order = np.array(collapse.by_rate())
    drawn = figure(WIDTH, 3.0)
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
    for chosen, color in ((active, BLUE), (~active, GREY)):
        if chosen.any():
            axes.bar(places[chosen], np.nan_to_num(shown[chosen]), color=color, width=0.8)
    axes.axhline(ACTIVE, color=BLACK, ls="--", lw=1.0)
    axes.annotate(
        f"active above {ACTIVE}", (1, ACTIVE), (0, 2), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
        ha="right", va="bottom", fontsize=SMALL, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip
    cut = "" if len(values) <= MOST_BARS else f",\nthe first {MOST_BARS} of {len(values)}"
    axes.set(title=title + cut, ylabel=unit, xlim=(-0.7, max(len(shown), 2) - 0.3))
    if positive := [value for value in shown if value > 0]:
        low = min(ACTIVE, *positive) / 2
        log_scale(axes, "y")
        axes.set_ylim(max(low, 1e-5), 2.5 * max(max(positive), ACTIVE))
    _name_dimensions(axes, [collapse.dimensions[j] for j in order[: len(shown)]])


def _name_dimensions(axes: Axes, names: list[str]) -> None:
    """Names under the bars where there is room for them, else their places."""
    if len(names) <= MOST_NAMES:
        axes.set_xticks(
            range(len(names)), [shortened(name, 16) for name in names], rotation=90 if len(names) > 3 else 0
        )
    else:
        axes.set_xlabel("place of the dimension")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _samples(axes: Axes, collapse: Collapse, two: np.ndarray) -> None:
    samples = {"z ~ q(z)": (collapse.posterior, BLUE, "o"), "z ~ p(z)": (collapse.prior, ORANGE, "x")}
    title = f"q(z) against p(z): p = {collapse.two_sample.p:.2g}"
    if len(two) == 1:
        everything = np.concatenate([z[:, two[0]].numpy() for z, *_ in samples.values()])
        bins = np.histogram_bin_edges(everything, 30).tolist()
        for name, (z, color, mark) in samples.items():
            dashes = "-" if mark == "o" else "--"
            axes.hist(z[:, two[0]].numpy(), bins, color=color, histtype="step", lw=1.5, ls=dashes, label=name)
        axes.set(xlabel=shortened(collapse.dimensions[two[0]], 30), ylabel="draws", title=title)
    else:
        axes.set_rasterization_zorder(len(collapse.posterior) > MANY)
        for name, (z, color, mark) in samples.items():
            x, y = z[:, two].numpy().T
            axes.scatter(x, y, s=9, alpha=0.8, lw=0.8 * (mark == "x"), color=color, marker=mark, label=name, zorder=0)
        first, second = (shortened(collapse.dimensions[j], 30) for j in two)
        axes.set(xlabel=first, ylabel=second, title=title)
    axes.legend(ncols=2, columnspacing=1, handletextpad=0.3, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _correlations(axes: Axes, collapse: Collapse, order: np.ndarray) -> None:
    known = order[~collapse.mean_variance.isnan().numpy()[order]][:MOST_CELLS]
    axes.set_title("correlation of E[z|x]")
    if not len(known):
        axes.set_axis_off()
        axes.text(0.5, 0.5, "not defined for\nthis kind of latent", transform=axes.transAxes, ha="center", va="center")
        return
    image = axes.imshow(collapse.correlation.numpy()[np.ix_(known, known)], cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_facecolor("#77777744")  # seen where a correlation is not defined
    axes.figure.colorbar(image, ax=axes, shrink=0.6, ticks=[-1, 0, 1])
    names = [shortened(collapse.dimensions[j], 16) for j in known]
    if len(names) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
    else:
        axes.set_xlabel("place of the dimension")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))


@styled()
def evaluation(found: Evaluation) -> Figure:
    """log p(x) and the ELBO of each row, with the parts of the gap between them; and the same in the mean.

    Errors: of log p(x) of a row over draws, of the means over rows, one standard error each.
    """
    rows = found.gap_rows if found.gap is not None else torch.arange(min(len(found.numbers), 50))
    log_px = found.found.value[rows]
    order = log_px.argsort()
    top, se = log_px[order].numpy(), found.found.se[rows][order].nan_to_num().numpy()
    elbo = found.found.weighted.elbo[rows][order].numpy()
    drawn = figure(WIDTH, 3.2)
    each, average = drawn.subplots(1, 2, width_ratios=(2.2, 1))
    each.use_sticky_edges = False
    x = np.arange(len(rows))
    parts = [("gap", top - elbo, BLUE)]
    if found.gap is not None:
        amortization = found.gap.amortization[order].numpy()
        approximation = found.gap.approximation[order].numpy()
        parts = [("approximation", approximation, BLUE), ("amortization", amortization, ORANGE)]
    below, ends = top, {}
    for name, height, color in parts:
        below = below - height
        each.bar(x, height, bottom=below, width=0.9, color=color)
        ends[name] = (below[-1] + height[-1] / 2, color)
    reliable = found.found.reliable[rows][order].numpy()
    for chosen, mark in ((reliable, "o"), (~reliable, "^")):
        each.errorbar(x[chosen], top[chosen], se[chosen], fmt=mark, color=BLACK, ms=2.2, lw=0.8, capsize=0)
    each.plot(x, elbo, "_", color=BLACK, ms=4, mew=1.2)
    ends = {"log p(x)": (top[-1], BLACK), **ends, "ELBO": (elbo[-1], BLACK)}
    bound = "" if reliable.all() else "; ▲ a lower bound on it"
    each.set(xlabel=f"{len(rows)} rows, by log p(x){bound}", ylabel="nats", title="each row", xticks=[])
    each.margins(x=0.02, y=0.05)
    _mean_gap(average, found)
    name_ends(each, {name: end for name, end in ends.items() if np.isfinite(end[0])})
    return drawn


def _mean_gap(axes: Axes, found: Evaluation) -> None:
    """The gap's parts in the mean, as bars with their errors over data."""
    shown = {"gap": found.log_px_gap} if found.gap is None else found.gap_means
    for i, (name, m) in enumerate(shown.items()):
        error = m.over_data.se if m.over_data.se == m.over_data.se else 0.0
        axes.bar([i], [m.value], yerr=[error], width=0.6, color={"amortization": ORANGE}.get(name, BLUE))
        axes.annotate(
            f"{m.value:z.2f}", (i, m.value + error), (0, 3), textcoords="offset points", ha="center", fontsize=SMALL
        )
    axes.set_xticks(range(len(shown)), [WHOSE[name] for name in shown])
    axes.set(ylabel="nats per datum", title="mean over rows ± s.e.")
    axes.margins(y=0.15)


@styled()
def khat(found: Evaluation) -> Figure:
    """The k-hat of each row, in order: of the guide's weights, and of those that log p(x) rests on, if they are others.

    Lines stand at 0.5, below which the error of a mean over the weights holds, and at 0.7, above which the mean itself
    can be far off. What lies beyond the panel, as that of weights without a tail, is a triangle at its edge.

    Source: Vehtari, Simpson, Gelman, Yao & Gabry 2024.
    """
    drawn = figure(WIDTH, 2.5)
    axes = drawn.subplots()
    by_guide, used = (x.khat.double().cpu().numpy() for x in (found.found.weighted, found.found))
    curves = {"the guide's draws": (by_guide, GREY), "draws used for log p(x)": (used[~np.isnan(used)], BLUE)}
    if np.array_equal(by_guide, used):
        curves = {"the guide's draws": (by_guide, BLUE)}
    for high, text in ((MOST_KHAT, "the error holds below 0.5"), (0.7, "the mean can be far off above 0.7")):
        axes.axhline(high, color=BLACK, ls="--", lw=0.8)
        axes.annotate(
            text, (0, high), (3, 2), xycoords=axes.get_yaxis_transform(), textcoords="offset points", fontsize=SMALL
        )
    seen = np.concatenate([values[np.isfinite(values)] for values, _ in curves.values()])
    low, top = LOWEST_KHAT, np.clip(seen.max(initial=0), 0.8, HIGHEST_KHAT)
    ends = {}
    for name, (values, color) in curves.items():
        if not len(values):
            continue
        y, x = np.sort(values), (np.arange(len(values)) + 0.5) / len(values)
        for which, mark in (((y >= low) & (y <= top), "."), (y < low, "v"), (y > top, "^")):
            axes.plot(x[which], y[which].clip(low, top), mark, color=color, ms=4)
        ends[f"{name}:\n{(values < MOST_KHAT).mean():.0%} below 0.5"] = (y[-1].clip(low, top), color)
    axes.set(xticks=[0, 1], xticklabels=["lowest", "highest"], xlabel=f"{len(by_guide)} rows, by k-hat")
    axes.set(yticks=[0, 0.5, 1], ylabel="k-hat", xlim=(-0.01, 1.01), ylim=(low - 0.05, top + 0.05))
    name_ends(axes, ends)
    return drawn
