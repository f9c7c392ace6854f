"""Figures of calibration: ranks of latents against uniform ones, and statistics of rows beside those drawn anew."""

import math

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.evidence.calibration import LEVEL, LOG_JOINT, LOG_LIK, Calibration
from ppl_vae.evidence.predictive import PredictiveCheck
from ppl_vae.evidence.uniform import bands, counts
from ppl_vae.reports.labels import shortened, wrapped
from ppl_vae.reports.style import BLACK, BLUE, GREY, RED, SKY, SMALL, WIDTH, figure, styled

COLUMNS, MOST_PANELS = 4, 12
MOST_CURVES = 30


@styled()
def calibration(found: Calibration) -> Figure:
    """For each quantity, the fraction of ranks below r less r/(L + 1), with its band, in a panel of its own.

    Uniform ranks of all quantities stay in their bands together with a probability of 95 %. A line that leaves its
    band, in red, is a rejection by Holm's rule, whose levels the bands have. The densities come first, then the numbers
    of z, the least uniform before others.

    A line that is above 0 on the left and below it on the right is a q that is too narrow, the reverse one too wide. A
    line below 0 throughout is a q that draws too low, one above 0 a q that draws too high.

    Source: Säilynoja, Bürkner & Vehtari 2022.
    """
    names = sorted(found.quantities, key=lambda name: (name not in (LOG_LIK, LOG_JOINT), found.quantities[name].p))
    shown = names[:MOST_PANELS]
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    drawn = figure(min(WIDTH, 2.0 * columns + 2.5), 1.75 * lines + 0.9)
    panels = drawn.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    uniform = np.arange(1, found.draws + 1) / (found.draws + 1)
    rejected = found.rejected
    order = list(rejected)
    for axes, name in zip(panels, shown, strict=False):
        before = order.index(name) if name in rejected else len(order)
        level = LEVEL / (len(names) - before)  # Holm's
        low, high = (edge.numpy() - uniform for edge in bands(found.simulations, found.draws, level, found.repeats))
        q = found.quantities[name]
        below = counts(q.ranks.unsqueeze(-1), found.draws)[0].numpy() / found.simulations
        axes.fill_between(uniform, low, high, step="mid", color=GREY, alpha=0.2, lw=0)
        axes.axhline(0, color=GREY, lw=0.6)
        axes.step(uniform, below - uniform, where="mid", color=RED if name in rejected else BLUE, lw=1.3)
        axes.set_title(f"{shortened(name, 26)}\n{q.looks}".rstrip(), fontsize=SMALL)
    for axes in panels[len(shown) :]:
        axes.remove()
    drawn.supxlabel("rank among the draws of q(z|x), as a fraction")
    drawn.supylabel("ECDF − uniform")
    left_out = f"; {len(shown)} shown" if len(names) > len(shown) else ""
    drawn.suptitle(f"{len(rejected)} of {len(names)} quantities leave their band (95 % for all together){left_out}")
    return drawn


@styled()
def predictive(found: PredictiveCheck) -> Figure:
    """For each statistic T, its distribution over the rows, and over each of some draws of x_rep, in its own panel.

    p is P(T(x_rep) ≥ T(x)) of a row.

    Source: Gelman, Meng & Stern 1996.
    """
    names = list(found.statistics)
    columns = min(COLUMNS, len(names))
    lines = math.ceil(len(names) / columns)
    drawn = figure(min(WIDTH, 3.0 * columns + 0.4), 2.2 * lines + 0.4)
    panels = drawn.subplots(lines, columns, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        checked = found.statistics[name]
        again = checked.replicated[:MOST_CURVES].cpu().numpy()
        for draw in again:
            axes.ecdf(draw, color=SKY, lw=0.5, alpha=0.4)
        axes.ecdf(checked.observed.cpu().numpy(), color=BLACK, lw=1.4)
        axes.set(xlabel=wrapped(f"{shortened(name, 40)} of a row", 20), title=f"mean p {checked.p.mean():z.2f}")
    for axes in panels[len(names) :]:
        axes.remove()
    panels[0].set_ylabel("fraction of rows below")
    panels[0].plot([], [], color=BLACK, label="x")
    panels[0].plot([], [], color=SKY, label="x_rep")
    panels[0].legend(loc="lower right")
    return drawn
