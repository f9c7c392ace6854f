"""From what a user names to programs, and what is said when it can't be."""

import os
import sys
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from support.programs import D, Z, normal, rows
from torch import Tensor, nn

from ppl_vae.core.errors import InputError
from ppl_vae.guides import diagonal_normal, linear_gaussian
from ppl_vae.models import bernoulli
from ppl_vae.programs import Pair, Program, resolve, resolve_pair, terms
from ppl_vae.programs.find import Finder
from ppl_vae.programs.resolution import parse_settings

BATCH = (torch.rand(7, D).round(),)
SHIPPED = Path(bernoulli.__file__).resolve().parent

FILE = '''
"""Model, Guide, both of one class, an instance, and functions."""
import pyro
import pyro.distributions as dist
import torch
from torch import nn

EXECUTIONS.append(__name__)

class VAE(nn.Module):
    def __init__(self, data_shape, latent_dim: int = 2, rate: float = 0.5, name: str = "a", flag: bool = False,
                 sizes: tuple[int, ...] = (4,), plain=3, maybe: int | None = None):
        super().__init__()
        self.settings = dict(latent_dim=latent_dim, rate=rate, name=name, flag=flag, sizes=sizes, plain=plain)
        self.decoder = nn.Linear(latent_dim, data_shape[0])
        self.encoder = nn.Linear(data_shape[0], latent_dim)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.decoder.in_features), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))

class Model(VAE):
    def forward(self, x):
        self.model(x)

class Guide(VAE):
    def forward(self, x):
        self.guide(x)

class Lender(Model):
    pass

class Borrower(Guide):
    def __init__(self, data_shape, model, hidden: int = 3):
        super().__init__(data_shape)
        self.partner = model

class BorrowingModel(Model):
    def __init__(self, data_shape, guide):
        super().__init__(data_shape)
        self.partner = guide

class Reader(Model):
    def __init__(self, data, data_shape):
        super().__init__(data_shape)
        self.seen = data, data_shape

class Needs(nn.Module):
    def __init__(self, data_shape, width):
        super().__init__()

class NoModule:
    pass

class Fails(nn.Module):
    def __init__(self, data_shape, latent_dim: int = 2):
        super().__init__()
        raise RuntimeError("no luck")  # FAILS

vae = VAE((3,))
number = 3

def model(x):
    vae.model(x)

def guide(x):
    vae.guide(x)

def broken(x):
    with pyro.plate("data", x.shape[0]):
        raise RuntimeError("no shape")  # BROKEN
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds everything; `builtins.EXECUTIONS` counts its executions."""
    monkeypatch.setattr("builtins.EXECUTIONS", [], raising=False)
    (tmp_path / "both.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "both.py"


def executions() -> list[str]:
    import builtins

    return builtins.EXECUTIONS  # type: ignore[attr-defined]


def line(file: Path, mark: str) -> int:
    return next(i for i, text in enumerate(file.read_text().splitlines(), 1) if text.endswith(f"# {mark}"))


def works(pair: Pair) -> None:
    t = terms(pair.model, pair.guide, BATCH, 3)
    assert t.log_lik["x"].shape == (3, len(BATCH[0]))


# ---- every form of a spec ----

SPECS: dict[str, tuple[Any, Any]] = {
    "name": ("bernoulli", "diagonal_normal"),
    "name:Name": ("bernoulli:Model", "diagonal_normal:Guide"),
    "path": ("{dir}/both.py", "{dir}/both.py"),
    "relative path": ("both.py", "both.py"),
    "Path": (Path("both.py"), Path("both.py")),
    "file:Class": ("both.py:Model", "both.py:Guide"),
    "file:function": ("both.py:model", "both.py:guide"),
    "file:instance.method": ("both.py:vae.model", "both.py:vae.guide"),
    "file:Class.method": ("both.py:VAE.model", "both.py:VAE.guide"),
    "pkg.mod": ("tmp_package.both:Model", "tmp_package.both:Guide"),
    "pkg.mod, relative import": ("tmp_package.relative:Model", "tmp_package.relative:Guide"),
    "shipped module": ("ppl_vae.models.bernoulli", "ppl_vae.guides.diagonal_normal"),
    "class": (bernoulli.Model, diagonal_normal.Guide),
    "instance": (bernoulli.Model((D,), Z), diagonal_normal.Guide((D,), Z)),
    "mixed": ("both.py:vae.model", "both.py:Guide"),
}


@pytest.fixture
def package(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = file.parent / "lib" / "tmp_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "both.py").write_text(FILE)
    (folder / "relative.py").write_text("from .both import Guide, Model\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    for name in [n for n in sys.modules if n.partition(".")[0] == "tmp_package"]:
        monkeypatch.delitem(sys.modules, name)
    return "tmp_package"


@pytest.mark.parametrize(("model", "guide"), SPECS.values(), ids=SPECS.keys())
def test_every_form_of_a_spec_gives_a_pair_that_runs(model: Any, guide: Any, file: Path, package: str) -> None:
    model, guide = (s.format(dir=file.parent) if isinstance(s, str) else s for s in (model, guide))
    works(resolve_pair(model, guide, BATCH))
    for spec, kind in ((model, "model"), (guide, "guide")):
        if ":" in str(spec) or not isinstance(spec, str | Path):
            assert isinstance(resolve(spec, data=BATCH), nn.Module), kind


def test_a_function_becomes_a_program() -> None:
    def model(x: Tensor) -> None:
        with rows(x):
            pyro.sample("x", normal(pyro.param("loc", torch.ones(D))), obs=x)

    program = resolve(model, data_shape=(D,))
    assert isinstance(program, Program)
    assert list(program.state_dict()) == ["free.loc"]


def test_a_name_is_first_one_of_the_users_then_a_shipped_one(file: Path) -> None:
    assert resolve_pair("bernoulli", "diagonal_normal", BATCH).sources["model"].path == SHIPPED / "bernoulli.py"
    (file.parent / "models").mkdir()
    (file.parent / "models" / "bernoulli.py").write_text(FILE)
    own = resolve_pair("bernoulli", "diagonal_normal", BATCH, {"guide.latent_dim": 2}).sources["model"]
    assert own.path == file.parent / "models" / "bernoulli.py"
    assert not own.shipped


def test_a_name_alone_is_found_where_it_is_unique(file: Path) -> None:
    assert resolve("bernoulli", data_shape=(D,)).latent_dim == 20
    with pytest.raises(InputError, match="both a model and a guide: say linear_gaussian:Model"):
        resolve("linear_gaussian", data_shape=(D,))


# ---- execution ----


@pytest.mark.parametrize("spec", ["both.py", "tmp_package.both"])
def test_a_file_is_executed_once_per_pair_and_pairs_do_not_share(spec: str, file: Path, package: str) -> None:
    pairs = []
    for times in (1, 2):
        pairs.append(resolve_pair(f"{spec}:vae.model", f"{spec}:vae.guide", BATCH))
        assert len(executions()) == times
    one, two = ({id(p) for module in (pair.model, pair.guide) for p in module.parameters()} for pair in pairs)
    assert one
    assert not one & two


def test_methods_of_a_class_share_one_instance(file: Path) -> None:
    pair = resolve_pair("both.py:VAE.model", "both.py:VAE.guide", BATCH)
    assert pair.model.fn[0].__self__ is pair.guide.fn[0].__self__


def test_classes_of_one_file_are_separate_instances(file: Path) -> None:
    pair = resolve_pair("both.py:Model", "both.py:Guide", BATCH)
    assert not {id(p) for p in pair.model.parameters()} & {id(p) for p in pair.guide.parameters()}


def test_what_is_executed_is_the_file_as_it_is_and_its_hash_says_so(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own cache takes a file of the same size and second for the same file."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    hashes = set()
    for dim in (2, 3, 4):
        file.write_text(FILE.replace("latent_dim: int = 2", f"latent_dim: int = {dim}"))
        os.utime(file, (0, 0))
        pair = resolve_pair("both.py", "both.py", BATCH)
        assert pair.model.settings["latent_dim"] == dim
        hashes.add(pair.sources["model"].sha256)
    assert len(hashes) == 3
    assert not (file.parent / "__pycache__").exists()


def test_shipped_means_byte_equal_to_the_installed_file_of_that_name(file: Path) -> None:
    copy = file.parent / "bernoulli.py"
    copy.write_bytes((SHIPPED / "bernoulli.py").read_bytes())
    assert Finder().find(copy, ["model"])[1].shipped
    copy.write_text(copy.read_text() + "\n")
    assert not Finder().find(copy, ["model"])[1].shipped


def test_functions_of_a_pair_share_a_param_of_one_name_as_in_svi() -> None:
    def model(x: Tensor) -> None:
        with rows(x):
            pyro.sample("z", normal(pyro.param("loc", torch.zeros(Z))))
            pyro.sample("x", normal(torch.zeros(D)), obs=x)

    def guide(x: Tensor) -> None:
        with rows(x):
            pyro.sample("z", normal(pyro.param("loc", torch.zeros(Z))))

    pair = resolve_pair(model, guide, BATCH)
    assert [id(p) for p in pair.model.parameters()] == [id(p) for p in pair.guide.parameters()]


# ---- settings ----


@pytest.mark.parametrize(
    ("settings", "model", "guide"),
    [
        ({}, 2, 2),
        ({"latent_dim": 5}, 5, 5),
        ({"model.latent_dim": 5}, 5, 2),
        ({"guide.latent_dim": 5}, 2, 5),
        ({"latent_dim": 5, "guide.latent_dim": 4}, 5, 4),
        ({"guide.latent_dim": 4, "latent_dim": 5}, 5, 4),
    ],
)
def test_settings_reach_the_constructors_they_name(settings: dict, model: int, guide: int, file: Path) -> None:
    pair = resolve_pair("both.py", "both.py", BATCH, settings)
    assert (pair.model.settings["latent_dim"], pair.guide.settings["latent_dim"]) == (model, guide)


def test_a_bare_setting_reaches_only_constructors_that_have_it(file: Path) -> None:
    pair = resolve_pair("both.py:Model", "diagonal_normal", BATCH, {"hidden": 5, "latent_dim": 2})
    assert pair.guide.encoder[0].out_features == 5


@pytest.mark.parametrize("key", ["latent_dim", "model.latent_dim", "guide.latent_dim"])
def test_methods_of_one_class_share_its_settings(key: str, file: Path) -> None:
    pair = resolve_pair("both.py:VAE.model", "both.py:VAE.guide", BATCH, {key: 5})
    assert pair.model.fn[0].__self__.settings["latent_dim"] == 5


GOOD = [
    {"model.rate": 1},
    {"model.rate": 0.1},
    {"model.name": "b"},
    {"model.flag": True},
    {"model.sizes": (3, 4)},
    {"model.plain": 4},
    {"model.maybe": None},
    {"model.maybe": 3},
]


@pytest.mark.parametrize("settings", GOOD, ids=str)
def test_settings_of_their_type_are_taken(settings: dict, file: Path) -> None:
    resolve_pair("both.py", "both.py", BATCH, settings)


BAD = [
    ({"model.latent_dim": 1.5}, "model.latent_dim is 1.5: expected int"),
    ({"model.latent_dim": "abc"}, "model.latent_dim is 'abc': expected int"),
    ({"model.latent_dim": True}, "model.latent_dim is True: expected int"),
    ({"latent_dim": "abc"}, "latent_dim is 'abc': expected int"),
    ({"model.rate": True}, "model.rate is True: expected float"),
    ({"model.rate": "x"}, "model.rate is 'x': expected float"),
    ({"model.flag": 1}, "model.flag is 1: expected bool"),
    ({"model.name": 1}, "model.name is 1: expected str"),
    ({"model.sizes": 3}, "model.sizes is 3: expected tuple"),
    ({"model.sizes": (1, "a")}, r"model.sizes is \(1, 'a'\): expected tuple"),
    ({"model.plain": "a"}, "model.plain is 'a': expected int"),
    ({"model.maybe": 1.5}, "model.maybe is 1.5"),
    ({"model.latnt_dim": 5}, "model has no setting 'latnt_dim'.*did you mean latent_dim"),
    ({"latnt_dim": 5}, "no program has a setting 'latnt_dim'.*did you mean latent_dim"),
    ({"modle.latent_dim": 5}, "no program has a setting 'modle.latent_dim'.*did you mean latent_dim"),
    ({"data_shape": (3,)}, "no program has a setting 'data_shape'"),
    ({"model.data_shape": (3,)}, "model has no setting 'data_shape'"),
    ({"model.guide": 1}, "model has no setting 'guide'"),
]


@pytest.mark.parametrize(("settings", "says"), BAD, ids=[str(s) for s, _ in BAD])
def test_settings_that_do_not_fit_are_refused(settings: dict, says: str, file: Path) -> None:
    with pytest.raises(InputError, match=says):
        resolve_pair("both.py", "both.py", BATCH, settings)


@pytest.mark.parametrize("kind", ["function", "method of an instance"])
def test_what_has_no_constructor_has_no_settings(kind: str, file: Path) -> None:
    spec = {"function": "both.py:model", "method of an instance": "both.py:vae.model"}[kind]
    with pytest.raises(InputError, match="has no setting 'latent_dim': it has none"):
        resolve_pair(spec, "both.py:Guide", BATCH, {"model.latent_dim": 3})


def test_an_annotation_for_type_checkers_alone_is_no_obstacle(file: Path) -> None:
    text = FILE.replace("data_shape, latent_dim: int", "data_shape: Nowhere, latent_dim: int")
    file.write_text("from __future__ import annotations\n" + text)
    assert resolve_pair("both.py", "both.py", BATCH, {"latent_dim": 3}).model.settings["latent_dim"] == 3
    with pytest.raises(InputError, match="expected int"):
        resolve_pair("both.py", "both.py", BATCH, {"latent_dim": "a"})


def test_arguments_gathered_by_stars_are_no_settings() -> None:
    class Stars(nn.Module):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()

    with pytest.raises(InputError, match="it has none"):
        resolve(Stars, kwargs=3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("model.a=16", {"model.a": 16}),
        ("a=0.5", {"a": 0.5}),
        ("a=(1, 2)", {"a": (1, 2)}),
        ("a=relu", {"a": "relu"}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=None", {"a": None}),
    ],
)
def test_settings_are_python_literals_or_text(text: str, value: dict) -> None:
    assert parse_settings((text,)) == value


@pytest.mark.parametrize("text", ["a", "=3", ""])
def test_a_setting_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write it as name=value"):
        parse_settings((text,))


# ---- the reserved arguments ----


def test_data_and_its_shape_are_given_to_constructors_that_ask(file: Path) -> None:
    program = resolve_pair("both.py:Reader", "both.py:Guide", BATCH).model
    assert program.seen[0] is BATCH[0]
    assert program.seen[1] == (D,)
    alone = resolve("both.py:Reader", data_shape=(D,))
    assert not alone.seen[0].any(), "without data they are zeros"


def test_a_partner_is_lent_in_either_direction(file: Path) -> None:
    pair = resolve_pair("both.py:Model", "both.py:Borrower", BATCH)
    assert (pair.guide.partner is pair.model, pair.borrower) == (True, "guide")
    pair = resolve_pair("both.py:BorrowingModel", "both.py:Guide", BATCH)
    assert (pair.model.partner is pair.guide, pair.borrower) == (True, "model")


def test_partners_that_both_borrow_are_refused(file: Path) -> None:
    with pytest.raises(InputError, match="drop one of the two"):
        resolve_pair("both.py:BorrowingModel", "both.py:Borrower", BATCH)


def test_resolve_alone_takes_the_partner() -> None:
    model = resolve("linear_gaussian:Model", data_shape=(D,))
    assert resolve("linear_gaussian:Guide", data_shape=(D,), model=model).model is model
    with pytest.raises(InputError, match="Guide's constructor needs 'model', which nobody gives: pass it"):
        resolve(linear_gaussian.Guide, data_shape=(D,))


# ---- what is wrong, where, and what to do ----

WRONG: dict[str, tuple[Any, str]] = {
    "no such name": ("bernouli", "no model is called 'bernouli'.*did you mean 'bernoulli'"),
    "no such file": ("nowhere.py", "no such file: nowhere.py"),
    "no such folder": ("no/where.py", "no such file: no/where.py"),
    "no Python": ("./text.txt", "a Python file"),
    "no such module": ("tmp_package.nowhere:Model", "no Python module is called 'tmp_package.nowhere'"),
    "built-in module": ("os.path:join", "no Python module is called 'os.path'"),
    "dots": ("..", "no Python module is called '..'"),
    "empty": ("", "no model is called ''"),
    "no such attribute": ("both.py:Nothing", "both.py has no 'Nothing'.*Model"),
    "no such method": ("both.py:vae.nothing", "both.py has no 'vae.nothing'"),
    "nested too deep": ("both.py:VAE.model.nothing", "both.py has no 'VAE.model.nothing'"),
    "not callable": ("both.py:number", "number in .*both.py is no program"),
    "no program": (3, "3 is no program"),
    "no module": ("both.py:NoModule", "NoModule is no nn.Module"),
    "missing default": ("both.py:Needs", "Needs's constructor needs 'width', which nobody gives: give it a default"),
    "empty file": ("empty.py", "empty.py holds no Model or model: .*empty.py:Name"),
    "syntax": ("syntax.py", r"syntax.py:2: SyntaxError"),
    "import": ("raises.py", r"raises.py:3: ZeroDivisionError"),
    "constructor": ("both.py:Fails", r"Fails can't be built: .*both.py:{FAILS}: RuntimeError: no luck"),
    "function": ("both.py:broken", r"both.py:broken fails on data: .*both.py:{BROKEN}: RuntimeError: no shape"),
    "import in a package": ("tmp_package.raises:Model", r"raises.py:3: ZeroDivisionError"),
    "package that fails": ("raising.model:Model", r"raising.model can't be imported: ZeroDivisionError"),
}


@pytest.mark.parametrize(("spec", "says"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_in_a_line_or_two(spec: Any, says: str, file: Path, package: str) -> None:
    raises = "import torch\n\nx = 1 / 0\n"
    files = {"text.txt": "", "empty.py": "", "syntax.py": "x = 1\nx = = 2\n", "raises.py": raises}
    files |= {"lib/tmp_package/raises.py": raises, "lib/raising/__init__.py": raises}
    (file.parent / "lib" / "raising").mkdir()
    for name, text in files.items():
        (file.parent / name).write_text(text)
    says = says.replace("{FAILS}", str(line(file, "FAILS"))).replace("{BROKEN}", str(line(file, "BROKEN")))
    with pytest.raises(InputError, match=says) as refusal:
        resolve_pair(spec, "diagonal_normal", BATCH)
    assert len(str(refusal.value).splitlines()) <= 2


def test_a_file_with_a_model_and_a_guide_wants_to_be_told_which(file: Path) -> None:
    with pytest.raises(InputError, match=r"holds a model and a guide: say both\.py:Model or both\.py:guide"):
        resolve("both.py", data=BATCH)


def test_a_function_without_data_asks_for_it(file: Path) -> None:
    with pytest.raises(InputError, match="give data= or data_shape="):
        resolve("both.py:model")
