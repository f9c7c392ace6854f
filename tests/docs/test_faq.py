"""What docs/faq.md says: its numbers are those that its script prints, and its links lead somewhere."""

import contextlib
import io
import math
import re
from pathlib import Path

import pytest
from support.pages import DOCS, Page, run_command

import ppl_vae

PAGE = Page("faq.md")
TWO = re.compile(r"-?\d+\.\d\d")


def shown() -> dict[str, list[float]]:
    """ELBO, distortion and rate of each row of the table that the page shows."""
    (table,) = [block.text for block in PAGE.blocks if block.language == "text"]
    return {re.split(r" {2,}", line)[0]: [float(x) for x in TWO.findall(line)[-3:]] for line in table.splitlines()[1:]}


def test_its_numbers_are_those_of_its_table() -> None:
    rows = shown()
    assert all(elbo == pytest.approx(-distortion - rate, abs=0.3) for elbo, distortion, rate in rows.values())
    elbo = {name: f"−{-row[0]:.1f}" for name, row in rows.items()}
    PAGE.says(f"{elbo['β = 1']} at β = 1, {elbo['β = 0.1']} at 0.1 and {elbo['β = 4']} at 4")
    PAGE.says(f"batches of 32 came to {elbo['batches of 32']}, batches of 512")
    PAGE.says(f"({elbo['learning rate 0.0001']}), 0.01 the best ({elbo['learning rate 0.01']})")
    PAGE.says(f"0.1 collapsed ({elbo['learning rate 0.1']})")
    for name in ("β = 64", "learning rate 0.1"):
        assert rows[name][2] == 0
    assert f"{rows['β = 4'][2]:.2f} {rows['learning rate 0.0001'][2]:.2f}" == "0.02 0.04"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the latent has collapsed")
def test_its_script_prints_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PAGE.write(tmp_path)
    Path("faq_numbers.py").write_text(PAGE.files["faq_numbers.py"].replace("epochs=100", "epochs=1"))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run_command("python faq_numbers.py")
    printed = out.getvalue().splitlines()[-len(shown()) :]
    assert [re.split(r" {2,}", line)[0] for line in printed] == list(shown())


def test_sums_in_the_text() -> None:
    assert pytest.approx(3.07, abs=0.005) == 0.00025 * 64 * 64 * 3
    assert 784 * math.log(2) == pytest.approx(543, abs=0.5)
    assert math.exp(20 / 2) == pytest.approx(22026, abs=1)
    assert 108.13 / 784 / math.log(2) == pytest.approx(0.199, abs=5e-4)


def test_the_settings_that_it_names_are_there() -> None:
    for name in re.findall(r"`--set likelihood=(\w+)`", PAGE.text):
        assert ppl_vae.resolve("vae", data_shape=(2,), likelihood=name).p_x.name == name
    for name in ("vamp", "mixture"):
        assert name in PAGE.text


@pytest.mark.parametrize("name", ["faq.md", "first_vae.md", "answers.md"])
def test_its_links_lead_to_pages_and_to_heads(name: str) -> None:
    text = Page(name).text
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)", text)
    assert links
    for path, head in links:
        page = DOCS / path if path else DOCS / name
        assert page.is_file(), path
        if head:
            heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
            assert head in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in heads], (path, head)


def test_both_pages_say_which_questions_they_answer() -> None:
    assert "(answers.md)" in PAGE.text
    assert "(faq.md)" in Page("answers.md").text
