"""Results made by hand, to be drawn, and where the words of a figure lie."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from ppl_vae.core.statistics import Estimate
from ppl_vae.diagnostics.results import Estimator, SideBySide
from ppl_vae.evidence.calibration import LOG_LIK, Calibration, Quantity
from ppl_vae.evidence.collapse import Collapse
from ppl_vae.evidence.mean import mean
from ppl_vae.evidence.predictive import Checked, PredictiveCheck
from ppl_vae.reports.style import styled

LONG = "a_site_with_a_name_that_nobody_would_choose.but_somebody_has[17]"


def metrics(epochs: int, splits: Sequence[str] = ("train", "valid")) -> list[dict[str, Any]]:
    """What a run's log holds of so many epochs, and of none before the first step."""
    made: list[dict[str, Any]] = [{"step": 0, "epoch": 0, "valid": {"elbo": -500.0, "rate": 1.0, "distortion": 499.0}}]
    for epoch in range(1, epochs + 1):
        numbers = {"elbo": -100 - 90 / epoch, "rate": 20.0 - 9 / epoch, "distortion": 80 + 99 / epoch}
        valid = {"elbo_se_data": 1.5 + 1 / epoch, "rate_se_data": 0.25 / epoch}
        each = {"train": numbers, "valid": {name: 1.01 * x for name, x in numbers.items()} | valid}
        made.append({"step": 10 * epoch, "epoch": epoch} | {split: each[split] for split in splits})
    return made


def estimator(target: str = "ELBO", value: float = -100.0, se: float = 0.1, **found: Any) -> Estimator:
    variance, error = found.pop("variance", 10.0), found.pop("error", 1.0)
    both = ("model", "guide")
    rest: dict[str, Any] = {
        "over_data": Estimate(value, 1.0, "data"), "bias": None, "variance": 1.0, "gradient_bias": None,
        "gradient_variance": dict.fromkeys(both, Estimate(variance, error, "draws")),
        "gradient_snr": dict.fromkeys(both, 1.0), "gradient_cosine": dict.fromkeys(both, 1.0),
        "gradient_variance_by_tensor": {}, "gradient_snr_by_tensor": {}, "num_samples": 1, "seconds_per_step": 5e-3,
        "compiled": False, "peak_bytes_per_step": 1, "sites": {},
    }  # fmt: skip
    return Estimator(target=target, value=Estimate(value, se, "draws"), **rest | found)


def side_by_side(estimators: Mapping[str, Estimator], advice: str = "take the first") -> SideBySide:
    return SideBySide(estimators, (), advice, {})


def evaluation(rows: int, gap: bool = True, reliable: bool = True) -> Any:
    """What the figure of an evaluation reads of one."""
    torch.manual_seed(rows)
    value = -100 + 20 * torch.randn(rows)
    parts = {"amortization": 1 + torch.rand(rows), "approximation": 2 + torch.rand(rows)}
    elbo = value - sum(parts.values())
    found = SimpleNamespace(
        value=value,
        se=torch.rand(rows),
        reliable=torch.tensor([reliable or i % 2 == 0 for i in range(rows)]),
        weighted=SimpleNamespace(elbo=elbo),
    )
    means = {name: mean(parts[name], torch.zeros(rows)) for name in ("approximation", "amortization")}
    return SimpleNamespace(
        numbers=torch.arange(rows),
        found=found,
        gap_rows=torch.arange(rows),
        gap=SimpleNamespace(**parts) if gap else None,
        gap_means=means if gap else {},
        log_px_gap=mean(value - elbo, torch.zeros(rows)),
    )


def collapse(dims: int, names: Sequence[str] | None = None, draws: int = 60) -> Any:
    """What the figure of the latent's use reads of a `Collapse`."""
    torch.manual_seed(dims)
    rate = torch.linspace(2, 0, dims) if dims > 1 else torch.tensor([1.5])
    spread = torch.eye(dims) * rate.clamp(max=1)
    given = {
        "dimensions": tuple(names or (f"z[{i}]" for i in range(dims))), "rate_by_dimension": rate,
        "mean_covariance": spread, "posterior": torch.randn(draws, dims), "prior": torch.randn(draws, dims),
        "two_sample": SimpleNamespace(p=0.013),
    }  # fmt: skip
    unread = dict.fromkeys(("rows", "rate", "rate_how", "information", "notes", "verdict"))
    return Collapse(**given | unread)  # type: ignore[arg-type]


def calibration(names: Sequence[str], draws: int = 19, simulations: int = 100) -> Calibration:
    torch.manual_seed(0)
    ranks = torch.randint(0, draws + 1, (simulations, len(names) + 1))
    ranks[:, 0] = 0
    looks = "too low, too narrow"
    quantities = {
        name: Quantity(r, 1e-9 if i == 0 else 0.5, 1e-9 if i == 0 else 1.0, looks if i == 0 else "")
        for i, (name, r) in enumerate(zip([LOG_LIK, *names], ranks.T, strict=True))
    }
    return Calibration(quantities, draws, 2000)


def predictive(names: Sequence[str], rows: int = 40) -> PredictiveCheck:
    torch.manual_seed(0)
    made = {name: Checked(torch.randn(rows), torch.randn(50, rows), torch.rand(rows)) for name in names}
    return PredictiveCheck(made)


def beyond(figure: Figure) -> float:
    """By how many pixels what is drawn reaches over the frame; 0 where all of it is inside."""
    with styled():
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return 0.0 + figure.dpi * max(0, -box.x0, -box.y0, box.x1 - width, box.y1 - height)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """The names in one panel that lie on each other."""
    figure.draw_without_rendering()
    return [
        (a.get_text(), b.get_text())
        for axes in figure.axes
        for a, b in combinations(axes.findobj(Annotation), 2)
        if Text.get_window_extent(a).overlaps(Text.get_window_extent(b))  # and not of the lines that lead to them
    ]
