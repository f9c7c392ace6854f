"""A run as sections of a page. It renders what the verbs have found, and computes nothing."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from ppl_vae.core.statistics import Estimate
from ppl_vae.programs.notation import Factor
from ppl_vae.reports import mathematics, style
from ppl_vae.reports.html import Section, commands, definitions, figure, note, table
from ppl_vae.runs.run import Run
from ppl_vae.training.config import FitConfig

MOST_QUANTITIES = 12
PARTS = {
    "elbo": "ELBO",
    "log_px": "log p(x)",
    "gap": "gap, KL(q(z|x) ‖ p(z|x))",
    "approximation_gap": "of it the family's (approximation)",
    "amortization_gap": "of it the encoder's (amortization)",
}


@dataclass
class Shown:
    """What there is to show of a run.

    Args:
        factors: of the model and of the guide.
        drawn: figures with what each shows, by the section that they stand in.
        interactive: likewise, as markup.
        unlikely: of a table, its least likely rows as `score` tells them.
        left_out: sections that are missing, and why.
    """

    run: Run
    factors: tuple[Sequence[Factor], Sequence[Factor]]
    evaluation: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None
    drawn: dict[str, list[tuple[Figure | Path, str]]] = field(default_factory=dict)
    interactive: dict[str, Markup] = field(default_factory=dict)
    unlikely: Sequence[Mapping[str, Any]] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def sections(shown: Shown, prefix: str = "") -> list[Section]:
    """The sections of one run, in the order of the questions that are asked of it.

    Args:
        prefix: of their anchors, where a page shows several runs.
    """
    made = [
        _fitted(shown), _learning(shown), _bounds(shown), _latent(shown), _pictures(shown), _rows(shown),
        _estimators(shown), _calibration(shown), _repeat(shown.run),
    ]  # fmt: skip
    found = [section for section in made if section is not None]
    for section in found:
        section.parts += [_figure(each, text, prefix + section.anchor) for each, text in shown.drawn.get(section.anchor, ())]
        section.parts += [shown.interactive[section.anchor]] if section.anchor in shown.interactive else []
        section.parts += [note(shown.left_out[section.anchor])] if section.anchor in shown.left_out else []
        section.anchor = prefix + section.anchor
    return found


def headline(shown: Shown) -> str:
    """The run in a sentence or two."""
    best, found = shown.run.best, shown.evaluation
    said = f"Best step {best.step}: validation ELBO {best.elbo} nats per datum (± standard error over data)."
    if found is not None:
        bound = " at least" if found["log_px_is"] != "estimate" else ""
        said += f" On {found['rows']} {found['split']} rows log p(x) is{bound} {_estimate(found, 'log_px')}"
        said += f", {_estimate(found, 'gap')} above the ELBO."
        said += f" {_sentence(found['verdict'])}" if "verdict" in found else ""
    return said


def _fitted(shown: Shown) -> Section:
    run, (p, q) = shown.run, shown.factors
    record, config = run.record, run.config
    section = Section("fitted", "What was fitted", "The programs in mathematics, as they were read from a pass through them.")
    section.add(mathematics.factors(p, "p"), mathematics.factors(q, "q"))
    sizes = ", ".join(f"{name} {shape or 'one number'}" for name, shape in _sizes((*p, *q)).items())
    data = record["data"]
    train, valid, test = data["rows"]
    told = {
        "Model": f"{record['programs']['model']['spec']} ({Path(record['programs']['model']['path']).name})",
        "Guide": f"{record['programs']['guide']['spec']} ({Path(record['programs']['guide']['path']).name})",
        "Shapes": sizes,
        "Data": f"{data['name']}: {train} training, {valid} validation and {test} test rows, binarize {data['binarize']}",
        "Objective": f"{config.objective}, an estimate of {run.target}",
        "Training": f"{config.epochs} epochs of Adam, learning rate {config.lr:g} ({config.schedule}), batches of {config.batch_size}",
    }
    settings = ", ".join(_said(entry) for entry in config.set)
    return section.add(definitions(told | ({"Settings": settings} if settings else {})))


def _learning(shown: Shown) -> Section:
    best = shown.run.best
    section = Section(
        "learning", "Learning",
        "The ELBO is minus distortion minus rate: how well x is coded, and what z says of it. Higher is better.",
    )  # fmt: skip
    rows = [("ELBO", best.elbo), ("rate, KL(q(z|x) ‖ p(z))", best.rate), ("distortion, −E log p(x|z)", best.distortion)]
    how = "at draws that it was not selected by" if best.fresh else "at the draws that it was selected by, so optimistic"
    return section.add(table(f"Validation rows at the best step, {best.step}, {how}", ("nats per datum", "± s.e. over data"), rows))


def _bounds(shown: Shown) -> Section | None:
    found = shown.evaluation
    section = Section(
        "bounds", "How tight the bound is",
        "log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)). The gap between them has two parts: what no q of this family could do, "
        "and what the encoder could do better.",
    )  # fmt: skip
    if found is None:
        return section if "bounds" in shown.left_out else None
    bound = found["log_px_is"] != "estimate"
    rows = []
    for name, title in PARTS.items():
        if name in found:
            least = " (at least)" if bound and name in ("log_px", "gap") else ""
            rows.append((title + least, _number(found[name]), _number(found[f"{name}_se_data"]), _number(found.get(f"{name}_se_mc"))))
    section.add(table(
        f"{found['rows']} {found['split']} rows of {found['data']}, step {found['step']}, nats per datum",
        ("", "mean", "± s.e. over data", "± s.e. over draws"), rows,
    ))  # fmt: skip
    bits = Estimate(found["bits_per_dim"], _nan(found["bits_per_dim_se_data"]), "data")
    section.add(f"That is {bits:.4f} bits per dimension." + _optional(found["change_of_variables"], " They are {}."))
    methods = ", ".join(f"{count} by {method}" for method, count in found["methods"].items())
    reliable = f"{found['reliable_rows']} of {found['rows']} rows have an error that can be relied on"
    section.add(f"log p(x) was had of the rows as follows: {methods}; {reliable}.")
    if found.get("khat") is not None:
        section.add(
            f"k-hat of the guide's own importance weights is {found['khat']:.2f} in the median, and below 0.5 in "
            f"{found['khat_below_half']:.0%} of the rows: where it is not, their standard error is not to be believed."
        )
    return section


def _latent(shown: Shown) -> Section:
    section = Section("latent", "What the latent carries")
    found = shown.evaluation
    if found is not None and "verdict" in found:
        section.lead = _sentence(found["verdict"])
        section.add(_sentence(f"advice: {found['advice']}"))
        units = found["active_units"]
        rows = [
            ("variance of E[z|x] over data", units["covariance"]["active"], units["covariance"]["of"]),
            ("rate", units["rate"]["active"], units["rate"]["of"]),
        ]
        section.add(table("Active dimensions by two measures", ("measure", "active", "of"), rows))
    return section


def _pictures(shown: Shown) -> Section | None:
    if "pictures" not in shown.drawn and "pictures" not in shown.left_out:
        return None
    return Section("pictures", "Reconstructions and samples")


def _rows(shown: Shown) -> Section | None:
    if not shown.unlikely and "rows" not in shown.drawn:
        return None
    section = Section("rows", "Columns and rows", "How the columns are modelled, and which rows the model finds unlikely.")
    if shown.unlikely:
        rows = [
            (row["row"], _number(row["log_px"]), ", ".join(f"{name} {x:z.1f}" for name, x in row.get("surprising", {}).items()) or "–")
            for row in shown.unlikely
        ]
        section.add(table(
            "The least likely rows; beside each column, −log p(x_j | the other columns) where it is above its mean",
            ("row", "log p(x)", "because of"), rows,
        ))  # fmt: skip
    return section


def _estimators(shown: Shown) -> Section | None:
    found = shown.comparison
    if found is None:
        return Section("estimators", "Estimators compared") if "estimators" in shown.left_out else None
    section = Section("estimators", "Estimators compared", _sentence(f"advice: {found['advice']}") if found.get("advice") else "")
    rows = [
        (
            name, e["target"], Estimate(e["value"], _nan(e["value_se"]), "draws"),
            *(_number(e["gradient_variance"].get(which), 3) for which in ("model", "guide")), f"{1e3 * e['seconds_per_step']:.2f}",
        )
        for name, e in found["estimators"].items()
    ]  # fmt: skip
    caption = f"{found['draws']} draws each, at the same parameters, rows and noise, step {found['step']}"
    head = ("estimator", "of", "nats per datum ± s.e. over draws", "variance of the model's gradient", "of the guide's", "ms per step")
    return section.add(table(caption, head, rows))


def _calibration(shown: Shown) -> Section | None:
    found = (shown.evaluation or {}).get("calibration")
    checked = (shown.evaluation or {}).get("predictive")
    if found is None and checked is None:
        return None
    section = Section("calibration", "Calibration", "Is q(z|x) the posterior, for rows that the model draws itself?")
    if found is not None:
        rejected = {name: q for name, q in found["quantities"].items() if q["looks"]}
        verdict = f"{len(rejected)} of {len(found['quantities'])} quantities have ranks that are not uniform"
        section.add(f"{found['simulations']} rows drawn from the model, ranks among {found['draws']} draws of q(z|x): {verdict}.")
        rows = [(name, q["looks"], f"{q['p_holm']:.2g}") for name, q in list(rejected.items())[:MOST_QUANTITIES]]
        if rows:
            more = len(rejected) - len(rows)
            section.add(table("Where q(z|x) is not the posterior", ("q(z|x) of", "is", "corrected p"), rows))
            section.add(f"And {more} more.") if more else section
    return section


def _repeat(run: Run) -> Section:
    section = Section("repeat", "How to repeat it")
    versions = run.record["versions"]
    section.add(commands(command(run)))
    section.add(definitions({name: version for name, version in versions.items()}))
    programs = {f"sha256 of the {kind}": program["sha256"] for kind, program in run.record["programs"].items()}
    return section.add(definitions(programs | {"sha256 of the data": run.record["data"]["sha256"]}))


def command(run: Run) -> Iterable[str]:
    """The `fit` that makes this run again, with the options that are not at their defaults."""
    config, words = run.config, ["ppl-vae fit"]
    for each in fields(FitConfig):
        value = getattr(config, each.name)
        if value == each.default:
            continue
        flag = f"--{each.name.replace('_', '-')}"
        if each.name == "set":
            words += [f"{flag} {_quoted(_said(entry))}" for entry in value]
        elif isinstance(value, bool):
            words.append(flag)
        else:
            values = value if isinstance(value, tuple) else (value,)
            words.append(" ".join((flag, *map(_quoted, map(str, values)))))
    return [" ".join((*words, "--out", _quoted(str(run.folder))))]


# ---- numbers and words


def _figure(drawn: Figure | Path, text: str, anchor: str) -> Markup:
    if isinstance(drawn, Path):
        return figure(style.inline(drawn.read_text(encoding="utf-8"), text, prefix=f"{anchor}-{drawn.stem}"), text)
    return figure(style.as_svg(drawn, text, prefix=anchor), text)


def _sizes(found: Iterable[Factor]) -> dict[str, str]:
    return {factor.site: " × ".join(map(str, factor.shape)) for factor in found}


def _said(entry: Any) -> str:
    return entry if isinstance(entry, str) else f"{entry['name']}={entry.get('note', '…')}"


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w./:,=@%+-]+", word) else "'" + word.replace("'", "'\\''") + "'"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _estimate(found: Mapping[str, Any], name: str) -> Estimate:
    return Estimate(_nan(found[name]), _nan(found[f"{name}_se_data"]), "data")


def _nan(x: float | None) -> float:
    return math.nan if x is None else x


def _number(x: float | None, digits: int | None = None) -> str:
    if x is None or math.isnan(x):
        return "–"
    return f"{x:z.2f}" if digits is None else f"{x:.{digits}g}"


def _optional(text: str, form: str) -> str:
    return form.format(text) if text else ""
