"""What docs/write_your_own.md says of constructors, of plain functions and of what names a program."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from support.own import DIGITS, PAGE, B, K, changed, pair
from support.pages import DOCS, code
from torch import Tensor

import ppl_vae
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.programs import parameters, terms
from ppl_vae.programs.find import Finder

pytestmark = pytest.mark.usefixtures("here")
# the classes in examples/vae/vae.py of Pyro 1.9.1: SHA-256
PYRO_VAE = "02d6c4811909511327f2312428df1641b799141bfb3202932e3fc7b6cd8ae986"


# ---- constructors ----

ASKS = """
from torch import nn

class Model(nn.Module):
    def __init__(self, data_shape, data, {asks}):
        super().__init__()
        self.given = dict(locals())

Guide = Model
"""


BORROWS = """
class Borrower(Model):
    def __init__(self, data_shape, guide):
        super().__init__(data_shape)
        self.encoder = guide.encoder
"""


def asking(asks: str) -> str:
    Path("asks.py").write_text(ASKS.format(asks=asks))
    return "asks.py"


def test_what_a_constructor_gets() -> None:
    x, y = torch.rand(1000, 8, 8), torch.zeros(1000)
    p = pair(asking("example, width=3"), "mine.py:Guide", (x, y))
    assert p.model.given["data_shape"] == (8, 8)
    assert p.model.given["data"] is x
    assert all(a is b for a, b in zip(p.model.given["example"], (x, y), strict=True))
    assert p.model.given["width"] == 3


def test_a_constructor_gets_a_thousand_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    PAGE.says("Up to 1000 training rows of the first field, `(rows, *data_shape)`, to start a parameter from.")
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr("builtins.SEEN", seen, raising=False)
    asks = changed("mine.py", "(self, data_shape, ", "(self, data_shape, data, ")
    Path(asks).write_text(Path(asks).read_text().replace("__init__()", "__init__(), SEEN.append(tuple(data.shape))"))
    assert ppl_vae.check(asks, asks, **DIGITS).passed
    assert seen == [(1000, 64), (1000, 64)], "of 1437 training rows"


def test_a_run_is_opened_with_an_example_of_zeros(printed: dict[str, str]) -> None:
    PAGE.says("When a run is opened, all are zeros: only shapes and types may count.")
    Path("asks.py").write_text(PAGE.files["mine.py"].replace("(self, data_shape, ", "(self, data_shape, example, "))
    text = Path("asks.py").read_text().replace("__init__()", "__init__(); self.example = example", 1)
    Path("asks.py").write_text(text)
    fit = ["fit", "--model", "asks.py", "--guide", "mine.py", "--data", "digits", "--binarize", "threshold"]
    assert main([*fit, "--epochs", "1", "--out", "runs/asks"]) == 0
    (opened,) = ppl_vae.Run("runs/asks").pair(model="asks.py", guide="mine.py").model.example
    assert opened.shape[1:] == (64,)
    assert not opened.any()


def test_any_other_name_has_a_default() -> None:
    PAGE.says("Its default, or what `--set` says. It must have a default.")
    assert pair(asking("width=3"), "mine.py", width=5).model.given["width"] == 5
    with pytest.raises(InputError, match="needs 'width', which nobody gives: give it a default"):
        pair(asking("width"), "mine.py")


def test_a_setting_is_of_its_type_and_goes_to_those_who_have_it() -> None:
    PAGE.says("A setting is checked against its annotation, or else against the type of its default.")
    for settings, words in (
        ({"hidden": "many"}, "hidden is 'many': expected int"),
        ({"depth": 3}, "no program has a setting 'depth': there are model.latent_dim, model.hidden"),
    ):
        with pytest.raises(InputError, match=words):
            pair(**settings)
    with pytest.raises(InputError, match="width is 'many': expected int"):
        pair(asking("width=3"), "mine.py", width="many")
    widths = lambda p: (p.model.decoder[0].out_features, p.guide.encoder[0].out_features)  # noqa: E731
    assert widths(pair(hidden=32)) == (32, 32)
    assert widths(pair(**{"model.hidden": 32})) == (32, 64)


def test_a_tensor_is_owned_by_the_program_that_made_it(tmp_path: Path) -> None:
    PAGE.says("a parameter belongs to the program that made it, is trained once and is saved once")
    p = pair("mine.py", "tied.py")
    decoder = {f"model.decoder.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")}
    assert set(parameters(p.model, p.guide, p.borrower)) == {*decoder, "guide.log_scale"}
    Path("borrows.py").write_text(PAGE.files["mine.py"] + BORROWS)
    lent = pair("borrows.py:Borrower", "mine.py")
    assert [name for name in parameters(lent.model, lent.guide, lent.borrower) if "encoder" in name] == [
        f"guide.encoder.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")
    ]


def test_one_program_borrows() -> None:
    PAGE.says("At most one of the two may ask for the other.")
    Path("both.py").write_text(PAGE.files["tied.py"] + "\nclass Model(Guide):\n    def __init__(self, guide): pass\n")
    with pytest.raises(InputError, match="drop one of the two"):
        pair("both.py", "both.py")


# ---- plain functions and fields ----


def fields() -> tuple[Tensor, Tensor]:
    return (torch.rand(B, 8, 8) > 0.5).float(), torch.arange(B)


def test_a_plain_function_owns_what_it_declares() -> None:
    PAGE.says("It is run once, on rows of the data, and what it declares is then owned as by a module.")
    counting = changed("labelled.py", "def model(x, y):\n", "CALLS = []\n\n\ndef model(x, y):\n    CALLS.append(x)\n")
    p = pair(counting, counting, fields())
    (calls,) = [f.__globals__["CALLS"] for f in p.model.fn]
    assert len(calls) == 1
    assert set(parameters(p.model, p.guide)) == {
        "model.owned.means.weight", "model.owned.decoder.weight", "model.owned.decoder.bias",
        "guide.owned.encoder.weight", "guide.owned.encoder.bias", "guide.free.scale",
    }  # fmt: skip
    terms(p.model, p.guide, fields(), K)
    assert not pyro.get_param_store().keys()


def test_fields_come_in_the_order_in_which_they_are_named(
    printed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    PAGE.says("in the order in which you name the fields")
    check = ["check", "--model", "labelled.py", "--guide", "labelled.py", "--data"]
    assert main([*check, "b=a.npz:images", "a=a.npz:labels"]) == 0
    with np.load("a.npz") as a:
        np.savez("swapped.npz", labels=a["labels"][:, None], images=a["images"])
    capsys.readouterr()
    assert main([*check, "y=swapped.npz:labels", "x=swapped.npz:images"]) == 2


def test_a_field_that_is_observed_is_not_to_be_read() -> None:
    PAGE.says("A field that no site observes is given: the model may read its values")
    x = (np.random.default_rng(0).random((60, 8, 8)) > 0.5).astype("float32")
    y = np.arange(60) % 10
    assert ppl_vae.check("labelled.py", "labelled.py", (x, y)).findings == ()
    observed = '        pyro.sample("y", dist.Categorical(logits=x.new_zeros(10)), obs=y)\n        z ='
    reads = changed("labelled.py", "        z =", observed)
    assert "changes with the values of 'y'" in str(ppl_vae.check(reads, reads, (x, y)))


# ---- what names a program ----


def test_every_form_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = [code(row[0])[0] for row in PAGE.table("`--model`, `--guide`")]
    shipped = Finder().find("bernoulli", ["model"])[1]
    assert shipped.shipped
    for file in ("mine.py", "vae.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    shutil.copy(str(shipped.path), "models")
    Path("shared.py").write_text(Path("vae.py").read_text() + "\n\nvae = VAE()\n")
    expected = {
        "bernoulli": "models/bernoulli.py", "mine.py": "mine.py", "mine.py:Model": "mine.py",
        "vae.py:VAE.model": "vae.py", "shared.py:vae.model": "shared.py",
    }  # fmt: skip
    assert set(expected) < set(forms)
    for form in forms:
        found = Finder().find(form, ["model"])[1]
        assert found.path == (tmp_path / expected[form] if form in expected else shipped.path)


def test_objects_are_programs_too() -> None:
    PAGE.says("From Python you may also give the class, an instance or the function itself")
    p = pair()
    x = np.eye(40, 64, dtype="float32")
    names: dict[str, Any] = {}
    exec(Path("mine.py").read_text(), names)
    assert ppl_vae.check(names["Model"], names["Guide"], x).passed
    assert ppl_vae.check(p.model, p.guide, torch.from_numpy(x)).passed
    exec(Path("labelled.py").read_text(), names)
    assert ppl_vae.check(names["model"], names["guide"], (x.reshape(40, 8, 8), np.arange(40) % 10)).passed


def test_pyros_tutorial_is_unchanged_and_shares_one_instance() -> None:
    PAGE.says("model and guide of one class share one instance")
    text = (DOCS / "vae.py").read_text()
    assert "Copyright (c) 2017-2019 Uber Technologies, Inc.\n# SPDX-License-Identifier: Apache-2.0" in text
    classes = text[text.index("# define the PyTorch module") :]
    assert hashlib.sha256(classes.encode()).hexdigest() == PYRO_VAE
    p = pair("vae.py:VAE.model", "vae.py:VAE.guide", (torch.zeros(B, 784),), z_dim=3)
    (model,), (guide,) = p.model.fn, p.guide.fn
    assert model.__self__ is guide.__self__
    assert model.__self__.z_dim == 3
    with pytest.raises(InputError, match=r"has no forward: did you mean vae.py:VAE.model"):
        pair("vae.py:VAE", "mine.py")
