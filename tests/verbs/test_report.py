"""The verb `report`: what stands on the page, that it needs nothing else, and how it is in a browser."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import browser
from support.h5ad import simulated

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
    assert "The k-hat of each row, lowest first." in text
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
    columns, data, out = (str(path) for path in (run.folder / "columns.toml", tmp_path / "my.csv", run.folder))
    assert words == ["ppl-vae", "fit", "--columns", columns, "--data", data, "--epochs", "1", "--out", out]


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


def test_no_figure_of_an_older_result_is_shown(tmp_path: Path) -> None:
    run = fitted(tmp_path / "run")
    ppl_vae.evaluate(run, **LIGHT, checkpoint="first")
    ppl_vae.compare(run, draws=4, checkpoint="first")
    assert (run.folder / "calibration.svg").is_file()
    made = ppl_vae.report(run, quick=True, rows=12)
    assert "Calibration" not in titles(made.file)
    assert "What each dimension carries" not in made.file.read_text()
    ppl_vae.evaluate(run, BITS[:20].reshape(-1, 4, 4), **LIGHT)  # the best step, and rows that are not the run's
    assert "bounds" in ppl_vae.report(run, quick=True, rows=12).left_out[str(run.folder)]


def test_the_parts_of_the_gap_say_of_which_rows_they_are(page: Path) -> None:
    assert "(approximation), in the first 3 rows" in page.read_text()


def test_data_and_programs_from_python_are_given_again(tmp_path: Path) -> None:
    rows = BITS.reshape(-1, 4, 4)
    run = ppl_vae.fit("bernoulli", "diagonal_normal", rows, tmp_path / "run", epochs=1, set=SMALL)
    with pytest.raises(InputError, match="give data= again"):
        ppl_vae.report(run, quick=True)
    with pytest.raises(InputError, match="its hash differs"):
        ppl_vae.report(run, quick=True, data=rows[:50])
    made = ppl_vae.report(run, quick=True, data=rows)
    assert "Each of the 12 points" in made.file.read_text()  # the test rows, not all
    assert "the data came from Python" in made.file.read_text()
    found = ppl_vae.evaluate(run, run.data(rows), **LIGHT | {"calibrations": 0})
    assert found.split == "test"


def test_a_run_that_was_stopped_and_an_objective_that_is_no_elbo(tmp_path: Path) -> None:
    run = fitted(tmp_path / "run", objective="iwae")
    config = json.loads((run.folder / "config.json").read_text())
    config["fit"]["epochs"] = 7
    (run.folder / "config.json").write_text(json.dumps(config))
    (run.folder / "best.json").unlink()
    made = ppl_vae.report(run.folder, quick=True, rows=12)
    assert "2 of 7 epochs of Adam" in made.file.read_text()
    assert "which is optimistic" in made.file.read_text()
    assert f"Best step by IWAE_5 {run.best.step}" in made.file.read_text()
    assert re.search(r'<th scope="row">IWAE_5</th><td>−\d', made.file.read_text())


def test_a_conditional_model_is_given_what_the_test_rows_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "xy.npz", x=BITS.reshape(-1, 4, 4), y=np.arange(120) % 3)
    fields = [f"{name}={tmp_path / 'xy.npz'}:{name}" for name in "xy"]
    run = ppl_vae.fit("conditional", "conditional", fields, tmp_path / "run", epochs=1, set=SMALL | {"y_dim": 3})
    made = ppl_vae.report(run, quick=True, rows=12)
    assert {*made.left_out[str(run.folder)]} == {"bounds", "estimators"}
    text = made.file.read_text()
    assert "Samples: E[x|z], z ~ p(z), given y of the first test rows." in text
    assert f"What is decoded at a place is given y of row {run.data().numbers('test')[0]}." in text


def test_a_class_that_is_known_for_some_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "xy.npz", x=BITS.reshape(-1, 4, 4), y=np.arange(120) % 4 - 1)
    fields = [f"{name}={tmp_path / 'xy.npz'}:{name}" for name in "xy"]
    run = ppl_vae.fit(
        "semi_supervised", "semi_supervised", fields, tmp_path / "run", epochs=1, set=SMALL | {"classes": 3},
        objective="trace-enum",
    )  # fmt: skip
    made = ppl_vae.report(run, quick=True, rows=12)
    assert "pictures" not in made.left_out[str(run.folder)]
    assert "no vector of any real numbers" in made.left_out[str(run.folder)]["latent"]
    assert "observed</mi>" not in made.file.read_text()


@pytest.mark.parametrize("given", [False, True])
def test_a_table_as_its_cells_are_written(tmp_path: Path, given: bool) -> None:
    rng = np.random.default_rng(0)
    lines = ["a<b,day,name,sick,old"] + [
        f"{rng.normal() if i % 9 else ''},2020-0{1 + i % 9}-1{i % 7},<i>n{i % 20}</i>,{('yes', 'no')[i % 2]},{i % 5}"
        for i in range(120)
    ]
    (tmp_path / "my.csv").write_text("\n".join(lines))
    asked = {"model": "conditional", "guide": "conditional", "label": "sick"} if given else {}
    run = ppl_vae.fit(data=str(tmp_path / "my.csv"), out=tmp_path / "run", epochs=1, drop="old", set=SMALL, **asked)
    made = ppl_vae.report(run, quick=True)
    assert not (run.folder / "scores.csv").exists()
    text = made.file.read_text()
    assert '"2020-0' in text  # in the plane: dates and labels, and not their codes
    assert "\\u003ci\\u003en1" in text
    assert "<i>n1" not in text
    assert "The least likely of 12 test rows" in text
    assert ("given sick of the test rows" in text) == given
    words = shlex.split(command(run))
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert cli.main(words[1:]) == 0
    first, again = (ppl_vae.Run(folder) for folder in (run.folder, tmp_path / "again"))
    assert first.config == again.config
    assert first.best == again.best


def test_the_command_of_a_run_on_cells_names_their_parts(tmp_path: Path) -> None:
    simulated().write_h5ad(tmp_path / "cells.h5ad")
    parts = {"layer": "counts", "library": "size", "batch": "donor"}
    run = ppl_vae.fit("cells", "cells", tmp_path / "cells.h5ad", tmp_path / "run", epochs=1, set=SMALL, **parts)
    text = ppl_vae.report(run, quick=True, rows=5).file.read_text()
    assert "What is decoded at a place is given library, batch of row" in text
    words = shlex.split(command(run))
    assert all(words[words.index(f"--{name}") + 1] == value for name, value in parts.items())
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert cli.main(words[1:]) == 0
    assert ppl_vae.Run(tmp_path / "again").best == run.best


def test_numbers_in_units_of_the_data(tmp_path: Path) -> None:
    rows = 250 * np.random.default_rng(0).random((120, 14), dtype="float32")
    rows[:, 0] = 1234 + np.arange(120) % 2
    run = fitted(tmp_path / "run", "gaussian", rows=rows, scale=2000.0)
    text = ppl_vae.report(run, quick=True, rows=12).file.read_text()
    assert '"x":[["123' in text
    assert '"name":"x_12"' in text
