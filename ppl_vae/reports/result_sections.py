"""Sections of a page from what `evaluate` and `compare` have written: `evaluate.json` and `compare.json`."""

import math
from collections.abc import Mapping
from typing import Any

from ppl_vae.core.results import counted, number
from ppl_vae.core.statistics import Estimate
from ppl_vae.evidence.evaluation import WORDS
from ppl_vae.reports.html import Section, table

Found = Mapping[str, Any]
MOST_QUANTITIES = 12
PARTS = {
    "elbo": "ELBO",
    "log_px": "log p(x)",
    "gap": "gap, KL(q(z|x) ‖ p(z|x))",
    "approximation_gap": "of it the family's (approximation)",
    "amortization_gap": "of it the encoder's (amortization)",
}


def bounds(found: Found | None) -> Section:
    """log p(x), the ELBO, and the parts of the gap between them."""
    section = Section(
        "bounds", "How tight the bound is",
        "log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)). This gap has two parts: what no q of the family could close, and what "
        "the encoder leaves open.",
    )  # fmt: skip
    if found is None:
        return section
    least = {"log_px", "gap"} if found["log_px_is"] != "estimate" else set()
    rows = []
    for name, title in PARTS.items():
        if name in found:
            if name.endswith("_gap") and found["gap_rows"] < found["rows"]:
                title += f", in the first {counted(found['gap_rows'], 'row')}"
            forms = {"": ".2f", "_se_data": ".2f", "_se_mc": ".3f"}
            numbers = (number(_nan(found.get(name + end)), form) for end, form in forms.items())
            rows.append((title + " (at least)" * (name in least), *numbers))
    of = f"{counted(found['rows'], found['split'] + ' row')} of {found['data']}"
    section.add(
        table(
            f"{of}, step {found['step']}; nats per datum", ("", "mean", "± s.e. over data", "± s.e. over draws"), rows
        )
    )
    said = f"That is {estimate(found, 'bits_per_dim')} bits per dimension."
    if found["change_of_variables"]:
        said += f" They are {found['change_of_variables']}."
    methods = "; ".join(f"of {counted(count, 'row')} {WORDS[method]}" for method, count in found["methods"].items())
    reliable = f"In {found['reliable_rows']} of {found['rows']} rows its error can be relied on."
    section.add(said, f"log p(x) is computed {methods}. {reliable}")
    if found.get("khat") is not None:
        section.add(
            f"k-hat of the guide's own importance weights is {found['khat']:z.2f} in the median, and below 0.5 in "
            f"{found['khat_below_half']:.0%} of the rows. Where it is not, the error of a mean over these weights "
            "can't be relied on, and another method is taken."
        )
    return section.add(*(f"{what} is left out: {why}" for what, why in found["refused"].items()))


def latent(found: Found | None) -> Section:
    """What the latent carries, and whether it has collapsed."""
    section = Section("latent", "What the latent carries")
    if found is None or "verdict" not in found:
        return section
    section.lead = sentence(found["verdict"])
    units = found["active_units"]
    measures = {"covariance": "variance of E[z|x] over data", "rate": "rate"}
    rows = [(said, units[name]["active"], units[name]["of"]) for name, said in measures.items()]
    return section.add(
        table("Dimensions that are active, by two measures", ("", "active", "of"), rows),
        sentence(f"advice: {found['advice']}"),
    )


def estimators(found: Found | None) -> Section:
    """Estimators at the same parameters, rows and noise."""
    section = Section("estimators", "Estimators compared")
    if found is None:
        return section
    section.lead = sentence(f"advice: {found['advice']}")
    rows = []
    for name, e in found["estimators"].items():
        variances = (number(_nan(e["gradient_variance"].get(which)), ".3g") for which in ("model", "guide"))
        value = Estimate(_nan(e["value"]), _nan(e["value_se"]), "draws")
        rows.append((name, e["target"], value, *variances, f"{1e3 * e['seconds_per_step']:z.2f}"))
    caption = (
        f"{counted(found['rows'], found['split'] + ' row')} of {found['data']}, {found['draws']} draws each, at the "
        f"same parameters and noise, step {found['step']}"
    )
    numbers = ("nats per datum ± s.e. over draws", "variance of the model's gradient", "of the guide's", "ms per step")
    section.add(table(caption, ("", "of", *numbers), rows))
    return section.add(*(f"{name} is left out: {why}" for name, why in found["left_out"].items()))


def calibration(found: Found | None) -> Section | None:
    """Is q the posterior, and do rows drawn anew look like the data? None where neither was asked."""
    simulated, checked = ((found or {}).get(name) for name in ("calibration", "predictive"))
    if simulated is None and checked is None:
        return None
    section = Section("calibration", "Calibration")
    if simulated is None:
        section.lead = "Do rows that are drawn anew from their q(z|x) look like the data?"
        return section
    section.lead = "Is q(z|x) the posterior, for rows that the model draws itself?"
    quantities = simulated["quantities"]
    rejected = {name: q for name, q in quantities.items() if q["looks"]}
    section.add(
        f"{simulated['simulations']} rows were drawn from the model. The z that a row was drawn with is ranked among "
        f"{simulated['draws']} draws of q(z|x): {len(rejected)} of {len(quantities)} quantities have ranks that are "
        "not uniform."
    )
    if rejected:
        rows = [(name, q["looks"], f"{q['p_holm']:.2g}") for name, q in list(rejected.items())[:MOST_QUANTITIES]]
        more = f", the first {MOST_QUANTITIES} of {len(rejected)}" if len(rejected) > MOST_QUANTITIES else ""
        section.add(table(f"Where q(z|x) is not the posterior{more}", ("q(z|x) of", "is", "corrected p"), rows))
    return section


def estimate(found: Found, name: str) -> str:
    """A number with its standard error over data."""
    return str(Estimate(_nan(found[name]), _nan(found[f"{name}_se_data"]), "data"))


def sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _nan(x: float | None) -> float:
    return math.nan if x is None else x
