"""A run as sections of a page. It renders what verbs have found, and computes nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from ppl_vae.core.results import counted, number
from ppl_vae.core.statistics import Estimate
from ppl_vae.programs.notation import Factor
from ppl_vae.reports import mathematics, style
from ppl_vae.reports.html import Section, definitions, figure, note, table
from ppl_vae.reports.repeat import how_to_repeat, setting
from ppl_vae.reports.result_sections import bounds, calibration, estimate, estimators, latent, sentence
from ppl_vae.runs.run import Run


@dataclass
class Shown:
    """What there is to show of a run.

    Args:
        factors: of the model and of the guide.
        evaluation, comparison: what `evaluate` and `compare` have written.
        plane: the id of its plane, once in a page.
        scores: of a table, what `score` says of its test rows.
        drawn: figures with what each shows, by the section that they stand in.
        interactive: likewise, as markup.
        left_out: sections that are missing, and why.
    """

    run: Run
    factors: tuple[Sequence[Factor], Sequence[Factor]]
    evaluation: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    plane: str = "plane"
    drawn: dict[str, list[tuple[Figure | Path, str]]] = field(default_factory=dict)
    interactive: dict[str, Markup] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def draw(self, section: str, drawn: Figure | Path, text: str) -> None:
        """Put a figure into a section, with what it shows."""
        self.drawn.setdefault(section, []).append((drawn, text))

    def is_empty(self, section: Section) -> bool:
        """Is there nothing to show in it, and nothing to say of that?"""
        elsewhere = (self.drawn, self.interactive, self.left_out)
        return not section.parts and not any(section.anchor in each for each in elsewhere)


def sections(shown: Shown, prefix: str = "", name: str = "") -> list[Section]:
    """The sections of one run, in the order of the questions that are asked of it.

    Args:
        prefix: of their anchors, where a page shows several runs.
        name: of the run, which stands before their titles there.
    """
    made = [
        _fitted(shown), _learning(shown), bounds(shown.evaluation), latent(shown.evaluation),
        Section("pictures", "Reconstructions and samples"), _rows(shown), estimators(shown.comparison),
        calibration(shown.evaluation), how_to_repeat(shown.run),
    ]  # fmt: skip
    found = [section for section in made if section is not None and not shown.is_empty(section)]
    for section in found:
        section.title = f"{name}: {section.title}" if name else section.title
        if section.anchor in shown.interactive:
            section.add(shown.interactive[section.anchor])
        section.add(*(drawn_in(each, text, section.title) for each, text in shown.drawn.get(section.anchor, ())))
        if section.anchor in shown.left_out:
            section.add(note(sentence(f"left out: {shown.left_out[section.anchor]}")))
        section.anchor = prefix + section.anchor
    return found


def drawn_in(drawn: Figure | Path, text: str, title: str) -> Markup:
    """A figure, drawn now or by a verb before, with what it shows below."""
    svg = style.inline(drawn.read_bytes(), title, text) if isinstance(drawn, Path) else style.as_svg(drawn, title, text)
    return figure(svg, text)


def headline(shown: Shown) -> str:
    """The run in a few sentences."""
    best, found = shown.run.best, shown.evaluation
    by = f" by {shown.run.target}" if "objective" in _validated(shown.run) else ""
    said = f"Best step{by} {best.step}: validation ELBO {best.elbo!s} nats per datum (± standard error over data)."
    if found is not None:
        bound = " at least" if found["log_px_is"] != "estimate" else ""
        said += f" On {found['rows']} {found['split']} rows log p(x) is{bound} {estimate(found, 'log_px')}"
        said += f", {estimate(found, 'gap')} above the ELBO."
        said += f" {sentence(found['verdict'])}" if "verdict" in found else ""
    return said


def _fitted(shown: Shown) -> Section:
    (p, q), record, config = shown.factors, shown.run.record, shown.run.config
    data, (train, valid, test) = record["data"], record["data"]["rows"]
    rows = f"{train} training, {valid} validation and {test} test rows"
    how = f"learning rate {config.lr:g} ({config.schedule}), batches of {config.batch_size}"
    told = {
        **{kind.capitalize(): _program(one) for kind, one in record["programs"].items()},
        "Settings": ", ".join(map(setting, config.set)) or "as they come",
        "Size of a datum's values": "; ".join(f"{factor.site}: {_size(factor)}" for factor in p),
        "Data": f"{data['name']}: {rows}, binarize {data['binarize']}",
        "Objective": f"{config.objective}, an estimate of {shown.run.target}",
        "Training": f"{_epochs(shown.run)} of Adam, {how}, seed {config.seed}",
    }
    section = Section("fitted", "What was fitted", "The programs in mathematics, as a pass through them shows them.")
    return section.add(mathematics.factors(p, "p"), mathematics.factors(q, "q"), definitions(told))


def _program(one: Mapping[str, Any]) -> str:
    return f"{one['spec']} ({Path(one['path']).name})" if one["path"] else f"{one['spec']} (from Python)"


def _epochs(run: Run) -> str:
    """How many were trained, of those that were asked for."""
    done, asked = max((line["epoch"] for line in run.metrics), default=0), run.config.epochs
    return counted(asked, "epoch") if done == asked else f"{done} of {counted(asked, 'epoch')}"


def _validated(run: Run) -> Mapping[str, Any]:
    """The validation numbers of the best step, as `Run.best` has them."""
    return run.fresh or run.summary.valid


def _size(factor: Factor) -> str:
    return " × ".join(map(str, factor.shape)) or "1"


def _learning(shown: Shown) -> Section:
    best = shown.run.best
    section = Section(
        "learning", "Learning",
        "The ELBO is minus distortion minus rate: how badly x is decoded, and how much z says of x. Higher is better.",
    )  # fmt: skip
    how = (
        "draws that it was not selected by" if best.fresh else "the draws that it was selected by, which is optimistic"
    )
    rows = [("ELBO", best.elbo), ("rate, KL(q(z|x) ‖ p(z))", best.rate), ("distortion, −E log p(x|z)", best.distortion)]
    if "objective" in (valid := _validated(shown.run)):
        rows.append((shown.run.target, Estimate(valid["objective"], valid["objective_se_data"], "data")))
    caption = f"Validation rows at the best step, {best.step}, at {how}"
    return section.add(table(caption, ("", "nats per datum ± s.e. over data"), rows))


def _rows(shown: Shown) -> Section:
    section = Section(
        "rows", "Columns and rows", "How the columns look beside those of rows that the model draws, and unlikely rows."
    )
    if shown.scores is None:
        return section
    rows = []
    for row in shown.scores["least_likely"]:
        cells = ", ".join(f"{name} {x:z.1f}" for name, x in row.get("surprising", {}).items())
        log_px, se = (math.nan if row[name] is None else row[name] for name in ("log_px", "log_px_se"))
        value = f"{number(log_px, '.2f')} ± {number(se, '.2f')}" if row["reliable"] else f"≥ {number(log_px, '.2f')}"
        rows.append((row["row"], value, cells or "–"))
    caption = (
        f"The least likely of {counted(shown.scores['rows'], 'test row')}, nats ± s.e. over draws, and the columns "
        "whose −log p(x_j | the other columns) is most above its mean over these rows"
    )
    return section.add(table(caption, ("row", "log p(x)", "because of"), rows))
