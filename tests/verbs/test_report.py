"""The verb `report`: what stands on the page, that it needs nothing else, and how it is in a browser."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import browser

import ppl_vae
from ppl_vae import cli
from ppl_vae.core.errors import InputError
from ppl_vae.reports.repeat import command

SMALL = {"latent_dim": 3, "hidden": 8}
BITS = (np.random.default_rng(0).random((120, 16)) < 0.4).astype("float32")
LIGHT: dict[str, Any] = {
    "rows": 10, "num_samples": 40, "gap_rows": 3, "annealed_rows": 0, "simulations": 0, "calibrations": 40,
}  # fmt: skip


def fitted(
    folder: Path, model: str = "bernoulli", guide: str = "diagonal_normal", rows: Any = None, **options: Any
) -> Any:
    options = {"epochs": 2, "set": SMALL} | options
    np.save(folder.with_suffix(".npy"), BITS.reshape(-1, 4, 4) if rows is None else rows)
    return ppl_vae.fit(model, guide, str(folder.with_suffix(".npy")), folder, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on pictures of 4 × 4 that was evaluated and compared."""
    run = fitted(tmp_path_factory.mktemp("report") / "a run <of mine>")
    ppl_vae.evaluate(run, **LIGHT)
    ppl_vae.compare(run, draws=4)
    return run


@pytest.fixture(scope="module")
def page(run: Any) -> Path:
    made = ppl_vae.report(run, rows=12)
    assert made.left_out == {}
    assert made["bytes"] == made.file.stat().st_size < 2e6
    assert made.file == run.folder / "report.html"
    return made.file


def titles(page: Path) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page.read_text())


def test_the_sections_and_their_numbers(run: Any, page: Path) -> None:
    assert titles(page) == [
        "What was fitted", "Learning", "How tight the bound is", "What the latent carries",
        "Reconstructions and samples", "Estimators compared", "Calibration", "How to repeat it",
    ]  # fmt: skip
    text = page.read_text()
    told = json.loads((run.folder / "evaluate.json").read_text())
    for name in ("elbo", "log_px", "gap"):
        assert f"<td>{told[name]:.2f}</td>".replace("-", "−") in text
    assert f"validation ELBO {run.best.elbo!s} nats".replace("-", "−").replace(" ± ", "\u00a0±\u00a0") in text
    assert run.record["programs"]["model"]["sha256"] in text
    assert "Report on a run &lt;of mine&gt;" in text
    assert "<of mine>" not in text


def test_its_command_makes_the_run_again(run: Any, tmp_path: Path) -> None:
    words = shlex.split(command(run))
    assert words[:2] == ["ppl-vae", "fit"]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert cli.main(words[1:]) == 0
    first, again = (
        [{name: x for name, x in line.items() if name != "seconds"} for line in ppl_vae.Run(folder).metrics]
        for folder in (run.folder, tmp_path / "again")
    )
    assert first == again


def test_a_quick_page_says_what_is_missing_and_computes_nothing(tmp_path: Path) -> None:
    run = fitted(tmp_path / "run")
    made = ppl_vae.report(run, quick=True, rows=12, out=tmp_path / "page.html")
    assert made.left_out[str(run.folder)] == {
        "bounds": f"ppl-vae evaluate {run.folder} adds it", "estimators": f"ppl-vae compare {run.folder} adds it",
    }  # fmt: skip
    assert not (run.folder / "evaluate.json").exists()
    assert f"ppl-vae evaluate {run.folder} adds it" in (tmp_path / "page.html").read_text()


def test_what_is_of_another_step_is_not_shown(tmp_path: Path) -> None:
    run = fitted(tmp_path / "run")
    ppl_vae.evaluate(run, **LIGHT, checkpoint="first")
    made = ppl_vae.report(run, quick=True, rows=12)
    assert "bounds" in made.left_out[str(run.folder)]
    assert "log p(x) is" not in made.file.read_text().split("<main")[0]


@pytest.mark.parametrize(
    ("model", "guide", "settings", "why"),
    [
        ("hierarchical", "ladder", {"top_dim": 2}, None),
        ("bernoulli", "iaf", {"flow_hidden": 8}, None),
        ("spherical", "power_spherical", {}, "no vector of any real numbers"),
        ("categorical", "categorical", {"classes": 3, "latent_dim": 3}, ""),
    ],
)
def test_pairs_of_all_kinds(tmp_path: Path, model: str, guide: str, settings: Any, why: str | None) -> None:
    settings = SMALL | settings
    if model == "categorical":
        settings.pop("latent_dim")
    run = fitted(tmp_path / "run", model, guide, set=settings)
    made = ppl_vae.report(run, quick=True, rows=12)
    left_out = made.left_out[str(run.folder)]
    assert ("latent" in left_out) == (why is not None)
    assert why is None or why in left_out["latent"]
    assert "Reconstructions and samples" in titles(made.file)


def test_a_table_has_its_columns_and_unlikely_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["height,colour,mark"] + [
        f"{rng.normal(170, 9):.1f},{rng.choice(['red', 'blue'])},{rng.integers(1, 5)}" for _ in range(90)
    ]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    run = ppl_vae.fit(data=str(tmp_path / "my.csv"), out=tmp_path / "run", epochs=1)
    made = ppl_vae.report(run, quick=True, rows=12)
    assert "Columns and rows" in titles(made.file)
    text = made.file.read_text()
    assert text.count('scope="row"') > 5
    assert "height" in text
    words = shlex.split(command(run))
    assert words == [
        "ppl-vae",
        "fit",
        "--data",
        str(tmp_path / "my.csv"),
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]


def test_several_runs_are_side_by_side(run: Any, tmp_path: Path) -> None:
    other = ppl_vae.fit(
        "bernoulli", "diagonal_normal", str(run.config.data[0]), tmp_path / "other", epochs=1, set=SMALL
    )
    made = ppl_vae.report([run, other], quick=True, rows=12, out=tmp_path / "both.html")
    assert titles(made.file)[0] == "Side by side"
    assert titles(made.file).count("other: Learning") == 1
    told = ppl_vae.compare([run, other])
    text = re.sub("<[^>]*>", " ", made.file.read_text()).replace("−", "-").replace("\u00a0", " ")
    assert str(told.pairs[0].difference) in text
    ids = re.findall(r' id="([^"]*)"', made.file.read_text())
    assert len(ids) == len({*ids})


def test_bad_input_is_an_error_and_nothing_is_written(run: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run"):
        ppl_vae.report(tmp_path, out=tmp_path / "page.html")
    with pytest.raises(InputError, match="needs the folder of a run"):
        ppl_vae.report([], out=tmp_path / "page.html")
    with pytest.raises(InputError, match="rows"):
        ppl_vae.report(run, rows=1, out=tmp_path / "page.html")
    with pytest.raises(InputError, match="no folder"):
        ppl_vae.report(run, out=tmp_path / "nowhere" / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_in_a_browser(page: Path) -> None:
    with browser.chromium() as chromium:
        for width, dark in ((1280, False), (390, True)):
            with browser.opened(chromium, page, width, dark) as shown:
                assert shown.evaluate("document.documentElement.scrollWidth") == width
                assert browser.axe(shown) == []
                assert shown.locator("math").count() >= 3
                assert shown.locator("figure svg[role=img]").count() >= 6
                shown.click("nav >> text=Calibration")
                assert "calibration" in shown.url
                plane = shown.locator(".vega-plot svg").first
                plane.scroll_into_view_if_needed()
                box = plane.bounding_box()
                assert box is not None
                said = plane.text_content()
                shown.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 0.4 * box["height"])
                shown.wait_for_function("s => document.querySelector('.vega-plot svg').textContent !== s", arg=said)
                shown.emulate_media(media="print")
                assert not shown.locator("nav").is_visible()
