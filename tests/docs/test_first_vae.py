"""What docs/first_vae.md says: the lines that it quotes are in the files, its sums are right, and its blocks run."""

import contextlib
import io
import math
import re
from pathlib import Path

import pytest
from support.pages import DOCS, Page, code, run_command

PAGE = Page("first_vae.md")
ROOT = DOCS.parent


def output_of(name: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run_command(f"python {name}")
    return out.getvalue()


@pytest.fixture
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PAGE.write(tmp_path)


def test_each_line_beside_a_formula_is_in_its_file() -> None:
    rows = PAGE.table("Formula")
    assert len(rows) >= 7
    for formula, read, line, where in rows:
        (statement,), (file,) = code(line), code(where)
        assert statement in [text.strip() for text in (ROOT / file).read_text().splitlines()], statement
        assert formula.startswith("$")
        assert read


def test_sums_by_hand() -> None:
    def normal(μ: float, σ: float) -> float:
        return (μ**2 + σ**2 - 1 - math.log(σ**2)) / 2

    assert normal(1, 0.5) == pytest.approx(0.818, abs=5e-4)
    assert normal(1, 0.25) == pytest.approx(1.418, abs=5e-4)
    assert normal(1, 0.25) - normal(1, 0.5) == pytest.approx(0.60, abs=5e-3)
    log_px, elbo = math.log(0.5 * 0.2 + 0.5 * 0.8), (math.log(0.2) + math.log(0.8)) / 2
    gap = (math.log(0.5 / 0.2) + math.log(0.5 / 0.8)) / 2
    assert log_px == pytest.approx(elbo + gap)
    for number in (log_px, elbo, gap):
        PAGE.says(f"{number:.3f}".replace("-", "−"))


@pytest.mark.usefixtures("_in_its_folder")
def test_kl_is_that_of_torch() -> None:
    assert [float(line.split()[-1]) for line in output_of("kl.py").splitlines()] == [0.818, 1.418, 0]


@pytest.mark.usefixtures("_in_its_folder")
def test_the_plates_are_drawn_and_are_the_picture() -> None:
    run_command("python draw_plates.py")
    assert Path("plates.png").stat().st_size > 5_000


@pytest.mark.slow
@pytest.mark.usefixtures("_in_its_folder")
def test_the_numbers_of_a_fit_are_the_identity() -> None:
    Path("first.py").write_text(PAGE.files["first.py"].replace("epochs=20", "epochs=1").replace("rows=20", "rows=5"))
    first, second = output_of("first.py").splitlines()[-2:]
    elbo, distortion, rate = (float(x) for x in re.findall(r"\d+\.\d", first))
    assert -elbo == pytest.approx(-distortion - rate, abs=1.5)
    log_px, bound, gap = (float(x) for x in re.findall(r"-?\d+\.\d\d", second))
    assert log_px == pytest.approx(bound + gap, abs=0.015)
    assert gap > 0
    assert {"samples.png", "reconstructions.png"} <= {path.name for path in Path("runs/first").iterdir()}


def test_its_pictures_are_small() -> None:
    pictures = re.findall(r"\]\((images/\S+)\)", PAGE.text)
    assert len(pictures) == 3
    assert all(5_000 < (DOCS / picture).stat().st_size <= 150_000 for picture in pictures)
