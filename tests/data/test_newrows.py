"""New rows go by the rules of the run: its columns, scale, binarization and support; or they are refused in words."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.runs import SMALL, D, binary_rows, fitted

import ppl_vae
from ppl_vae.blocks.likelihoods.base import moments
from ppl_vae.cli import main
from ppl_vae.core.errors import InputError
from ppl_vae.data import open_data
from ppl_vae.data.newrows import rows_in_order
from ppl_vae.data.summary import Running

KINDS = "real,categorical:3,count"
COLUMNS = ["height", "class", "visits"]


def table(rows: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cells = [rng.normal(10, 2, rows), rng.integers(0, 3, rows), rng.poisson(4, rows)]
    return pd.DataFrame(dict(zip(COLUMNS, cells, strict=True)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ppl_vae.Run:
    """A run on a csv with named columns."""
    folder = tmp_path_factory.mktemp("table")
    table().to_csv(folder / "table.csv", index=False)
    return fitted(folder, model="table", guide="table", data=folder / "table.csv", set=SMALL | {"kinds": KINDS})


def write(frame: pd.DataFrame, folder: Path, **options: Any) -> Path:
    frame.to_csv(folder / "new.csv", index=False, **options)
    return folder / "new.csv"


def old(run: ppl_vae.Run) -> None:
    """Strip the record of what earlier versions did not write."""
    path = run.folder / "config.json"
    record = json.loads(path.read_text())
    for key in ("columns", "range", "image", "given"):
        record["data"].pop(key)
    path.write_text(json.dumps(record))


# ---- columns


def test_columns_go_by_their_names_in_any_order(run: ppl_vae.Run, tmp_path: Path) -> None:
    own = ppl_vae.encode(run)["z_mean"]
    new = write(table()[["visits", "height", "class"]], tmp_path)
    np.testing.assert_array_equal(ppl_vae.encode(run, new)["z_mean"], own)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (table().rename(columns={"height": "size"}), "has no column 'height'"),
        (table().drop(columns="class"), "has no column 'class'"),
        (table().assign(age=1), "has a column 'age', which the run does not know"),
    ],
)
def test_other_columns_are_refused(run: ppl_vae.Run, tmp_path: Path, frame: pd.DataFrame, words: str) -> None:
    with pytest.raises(InputError, match=f"{words}: the run's columns are height, class, visits") as error:
        ppl_vae.encode(run, write(frame, tmp_path))
    assert "\n" not in str(error.value)


def test_rows_without_names_go_by_position_and_it_is_said(run: ppl_vae.Run, tmp_path: Path) -> None:
    own = ppl_vae.encode(run)["z_mean"]
    for new in (table().to_numpy(), write(table(), tmp_path, header=False)):
        with pytest.warns(UserWarning, match="no column names: taken in the order of the run, height, class, visits"):
            np.testing.assert_allclose(ppl_vae.encode(run, new)["z_mean"], own, rtol=1e-6)
    with pytest.raises(InputError, match=r"a datum is \(2,\).*the run was fitted to \(3,\)"):
        ppl_vae.encode(run, table().to_numpy()[:, :2])


def test_one_row_is_enough(run: ppl_vae.Run, tmp_path: Path) -> None:
    own = ppl_vae.encode(run)["z_mean"]
    np.testing.assert_allclose(ppl_vae.encode(run, write(table()[7:8], tmp_path))["z_mean"], own[7:8], rtol=1e-5)
    with pytest.raises(InputError, match=r"reshape"):
        ppl_vae.encode(run, table().to_numpy()[0])


# ---- support


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("class", 3, r"row 5, column 1 \('class'\) .* is 3, .*\(categorical: 0, ..., 2\): the run does not know it"),
        ("class", -1, r"\('class'\) .* is -1, .*the run does not know it"),
        ("class", 1.5, r"\('class'\) .* is 1.5, .*it is not a whole number"),
        ("visits", -2, r"\('visits'\) .* is -2, .*a count is 0 or more"),
        ("visits", 0.5, r"\('visits'\) .* is 0.5, .*it is not a whole number"),
    ],
)
def test_a_row_out_of_the_support_is_named(
    run: ppl_vae.Run, tmp_path: Path, column: str, value: float, words: str
) -> None:
    frame = table().astype(float)
    frame.loc[5, column] = value
    for verb in (ppl_vae.encode, ppl_vae.reconstruct, ppl_vae.export):
        with pytest.raises(InputError, match=words) as error:
            verb(run, data=write(frame, tmp_path))
        assert "binarize" not in str(error.value)
        assert "\n" not in str(error.value)


def test_check_names_the_column_and_its_own_mend(tmp_path: Path) -> None:
    frame = table().assign(**{"class": 3})
    (error,) = ppl_vae.check("table", "table", write(frame, tmp_path), set={"kinds": KINDS}).errors
    assert "column 1 ('class') of the data is 3" in str(error)
    assert "set more levels" in str(error)


@pytest.mark.filterwarnings("ignore:the gradient of model.p_x.parts.2.log_theta is exactly 0")
def test_columns_that_say_nothing_are_named_once(tmp_path: Path) -> None:
    frame = table().astype(float).assign(height=3.0, empty=np.nan, visits=np.nan)
    data = write(frame, tmp_path)
    options = {"set": SMALL | {"kinds": KINDS + ",real"}, "missing": "nan"}
    report = ppl_vae.check("table", "table", data, **options)
    assert report.passed
    nothing, constant, *_ = [f.message for f in report.findings if "column" in f.message]
    assert nothing.startswith("columns 'visits', 'empty' of field 'x' hold no value in any training row")
    assert constant.startswith("column 'height' of field 'x' holds one value as float32 in all training rows")
    with pytest.warns(UserWarning, match="column") as seen:
        fitted(tmp_path, model="table", guide="table", data=data, epochs=1, **options)
    told = [str(each.message) for each in seen]
    assert [message for message in told if "column" in message] == [nothing, constant]


def test_a_column_far_from_0_is_measured_and_marked_where_it_is_rounded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(200, 1))
    (near, spread), (center, same) = (moments(torch.tensor(x)) for x in (noise, noise * 1e-3 + 2e4))
    torch.testing.assert_close(torch.cat([near * 1e-3 + 2e4, spread * 1e-3]), torch.cat([center, same]))
    streamed = Running.of(torch.tensor(noise * 1e-3 + 2e4)).moments()
    torch.testing.assert_close((center, same), streamed)
    constant = torch.tensor([[0.1, torch.nan]]).expand(1000, 2)
    for _, one in (moments(constant), Running.of(constant).with_(Running.of(constant)).moments()):
        assert one.tolist() == [1, 1]
    frame = pd.DataFrame({"day": 2e4 + noise[:, 0] * 1e-2, "year": 2e3 + noise[:, 0], "bit": 1e6 + (noise[:, 0] > 0)})
    told = "columns 'day', 'bit' of field 'x' hold numbers too far from 0 for their range, in which float32 has fewer"
    data = write(frame, tmp_path)
    report = ppl_vae.check("gaussian", "diagonal_normal", data, set=SMALL)
    assert [f.message[: len(told)] for f in report.findings if "column" in f.message] == [told]
    fitted(tmp_path, model="gaussian", data=data, precision="float64", epochs=1)  # without a warning


@pytest.mark.parametrize(
    ("dtype", "unit"), [(torch.float32, 2.0**80), (torch.float32, 2.0**-100), (torch.float64, 2.0**900)]
)
def test_columns_whose_squares_a_dtype_can_not_hold_are_measured(dtype: torch.dtype, unit: float) -> None:
    noise = torch.randn(200, 3, dtype=dtype)
    noise[0] = torch.nan
    for ours, theirs in zip(moments(noise * unit), moments(noise), strict=True):
        assert torch.equal(ours / unit, theirs)
    theirs = noise[1:].mean(0), noise[1:].std(0, correction=0)
    torch.testing.assert_close(moments(noise), theirs)


@pytest.mark.parametrize("power", [83, -83])
def test_columns_whose_squares_float32_can_not_hold_are_marked_and_fitted_all_the_same(
    tmp_path: Path, power: int
) -> None:
    """log p(x) of x in another unit differs by the logarithm of the unit for each column."""
    rows = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    large = np.ldexp(rows, power)
    pair = {"model": "vae", "guide": "diagonal_normal", "set": SMALL | {"likelihood": "student_t"}}
    (found,) = ppl_vae.check(**pair, data=large).findings
    told = "columns 0, 1 of field 'x' hold numbers whose squares are too large or too small for float32"
    assert found.message.startswith(told)
    assert ppl_vae.check(**pair, data=large, standardize=True).findings == ()
    one = fitted(tmp_path, out=tmp_path / "one", data=rows, **pair)
    with pytest.warns(UserWarning, match="squares are too large or too small"):
        other = fitted(tmp_path, out=tmp_path / "other", data=large, **pair)
    for ours, theirs in zip(other.metrics, one.metrics, strict=True):
        found = ours["valid"]["elbo"] + 2 * power * math.log(2)
        assert found == pytest.approx(theirs["valid"]["elbo"], abs=1e-3)


def test_a_column_whose_squares_float64_can_not_hold_is_not_measured_in_one_pass(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    rows[20:50, 2] = 1e300
    np.save(tmp_path / "large.npy", rows)
    for stream in ("off", "on"):
        options = {"data": str(tmp_path / "large.npy"), "precision": "float64", "standardize": True, "stream": stream}
        with pytest.raises(InputError, match="column 2 holds numbers whose squares are too large for float64"):
            fitted(tmp_path, model="gaussian", out=tmp_path / stream, **options)


def test_the_margin_of_a_flat_picture_is_no_fault() -> None:
    assert (
        ppl_vae.check("bernoulli", "diagonal_normal", "digits", binarize="threshold", set={"hidden": 8}).findings == ()
    )
    pixels = open_data("digits", binarize="threshold").train[0].numpy()
    assert (pixels.max(0) == 0).any()
    assert ppl_vae.check("bernoulli", "diagonal_normal", pixels, set={"hidden": 8}).findings == ()


def test_a_code_that_is_none_is_not_taken_for_another() -> None:
    features = ppl_vae.blocks.TableFeatures((1,), "categorical:3", torch.zeros(2, 1))
    for code in (3.0, 7.0, -1.0, 1.5):
        assert (features(torch.tensor([[code]]))[:, :3] == 0).all()


# ---- scale and binarization


def grey(rows: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, D)).astype(np.uint8)


@pytest.mark.parametrize("binarize", ["once", "threshold", "epoch"])
def test_new_rows_are_scaled_and_binarized_as_the_runs(tmp_path: Path, binarize: str) -> None:
    np.save(tmp_path / "grey.npy", grey())
    run = fitted(tmp_path, data=tmp_path / "grey.npy", binarize=binarize, scale=255)
    own = ppl_vae.encode(run)
    np.testing.assert_array_equal(ppl_vae.encode(run, grey())["z_mean"], own["z_mean"])
    np.save(tmp_path / "new.npy", grey()[:9])
    again = ppl_vae.reconstruct(run, data=tmp_path / "new.npy", num=9)
    bits = rows_in_order(open_data(grey(), scale=255, binarize=binarize.replace("epoch", "once"))).batch[0]
    np.testing.assert_array_equal(again["x"], bits[:9])
    np.testing.assert_allclose(ppl_vae.encode(run, grey() / 255, scale=1)["z_mean"], own["z_mean"], atol=1e-6)
    with pytest.warns(UserWarning, match="is divided by 255, but is no larger than 1 before: --scale 1"):
        ppl_vae.encode(run, grey() / 255)


def test_pixels_that_are_not_scaled_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "grey.npy", grey() / 255)
    np.save(tmp_path / "pixels.npy", grey())
    run = fitted(tmp_path, data=tmp_path / "grey.npy", binarize="once")
    with pytest.raises(InputError, match=r"binarize once needs values in \[0, 1\].*\n.*--scale 255"):
        ppl_vae.encode(run, grey())
    pixels = ["encode", str(run.folder), "--data", str(tmp_path / "pixels.npy")]
    assert main(pixels) == 2
    assert main([*pixels, "--scale", "255"]) == 0
    with np.load(run.folder / "encoding.npz") as file:
        np.testing.assert_allclose(file["z_mean"], ppl_vae.encode(run)["z_mean"], atol=1e-6)
    assert main(["encode", str(run.folder), "--scale", "255"]) == 2
    assert "--data" in capsys.readouterr().err


def test_grey_rows_of_a_run_on_bits_are_refused(tmp_path: Path) -> None:
    run = fitted(tmp_path)
    with pytest.raises(
        InputError, match=r"site 'x': row 0, column \d+ of the data is 0\.\d+, outside the support of Be"
    ):
        ppl_vae.encode(run, grey() / 255)


def test_other_units_are_doubted(tmp_path: Path) -> None:
    run = fitted(tmp_path, model="gaussian", data=torch.rand(100, D))
    with pytest.warns(UserWarning, match="reaches from .* the run's data from .* are the units the same"):
        ppl_vae.encode(run, grey())
    ppl_vae.encode(run, np.float32(2 * np.random.default_rng(0).random((9, D))))


# ---- fields


def labelled(folder: Path, **options: Any) -> ppl_vae.Run:
    rows = binary_rows()
    np.savez(folder / "rows.npz", x=rows, y=rows[:, 0].astype(int) + 2)
    pair = {"model": "conditional", "guide": "conditional", "set": SMALL | {"y_dim": 4}}
    data = [f"x={folder / 'rows.npz'}:x", f"label={folder / 'rows.npz'}:y"]
    return fitted(folder, **(pair | {"data": data} | options))


def test_fields_go_by_their_names(tmp_path: Path) -> None:
    run = labelled(tmp_path)
    own = ppl_vae.encode(run)["z_mean"]
    file = tmp_path / "rows.npz"
    np.testing.assert_array_equal(ppl_vae.encode(run, [f"label={file}:y", f"x={file}:x"])["z_mean"], own)
    np.testing.assert_array_equal(ppl_vae.encode(run, [f"{file}:x", f"{file}:y"])["z_mean"], own)
    with pytest.raises(InputError, match="has the fields x, kind, the run x, label"):
        ppl_vae.encode(run, [f"x={file}:x", f"kind={file}:y"])


def test_labels_are_whole_numbers_that_the_model_knows(tmp_path: Path) -> None:
    run, rows = labelled(tmp_path), binary_rows()[:4]
    own = ppl_vae.encode(run, (rows, np.array([2, 3, 2, 3])))["z_mean"]
    np.testing.assert_array_equal(ppl_vae.encode(run, (rows, np.array([2.0, 3, 2, 3])))["z_mean"], own)
    with pytest.raises(InputError, match=r"row 1 holds 3\.5; the run was fitted to whole numbers here"):
        ppl_vae.encode(run, (rows, np.array([2, 3.5, 2, 3])))
    for call in (
        lambda: ppl_vae.encode(run, (rows, np.array([2, 9, 2, 3]))),
        lambda: ppl_vae.sample(run, given={"label": 9}),
    ):
        with pytest.raises(InputError, match=r"y holds labels from . to 9, outside 0 to 3") as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "words"), [(np.arange(20) % 10 + 1, "to 10, outside 0 to 9"), (np.ones(20), "labels are integers")]
)
def test_wrong_labels_are_one_line_of_check(labels: np.ndarray, words: str) -> None:
    report = ppl_vae.check("conditional", "conditional", (binary_rows(20), labels), set={"hidden": 8})
    assert words in report.errors[0].message
    assert "\n" not in report.errors[0].message


# ---- given


def test_samples_are_of_what_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = labelled(tmp_path)
    assert run.record["data"]["given"] == ["label"]
    with pytest.raises(InputError, match="is given label: say what, as in --given label=0"):
        ppl_vae.sample(run)
    values = ppl_vae.sample(run, num=5, show="means", given={"label": 2})
    model = run.pair().model
    with torch.no_grad():
        exact = model.likelihood(torch.tensor(values["z"]), torch.full((5,), 2)).mean
    np.testing.assert_allclose(values["x"], exact, atol=1e-6)
    np.testing.assert_array_equal(values["label"], [2] * 5)
    each = ppl_vae.sample(run, num=3, given={"label": [0, 3, 1]})
    np.testing.assert_array_equal(each["label"], [0, 3, 1])
    assert main(["sample", str(run.folder), "--given", "label=3", "--num", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["given"] == {"label": [3, 3]}
    for given, words in (
        ({"label": 1.5}, "1.5 is no whole number"),
        ({"label": [1, 2]}, r"shape \(2,\): give one datum"),
        ({"label": "blue"}, "is no number"),
        ({"x": 1}, "is given label; leave x out"),
    ):
        with pytest.raises(InputError, match=words):
            ppl_vae.sample(run, num=3, given=given)


def test_covariates_are_given_by_their_numbers(tmp_path: Path) -> None:
    rows, y = binary_rows(), np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    run = fitted(tmp_path, model="conditional", guide="conditional", data=(rows, y), set=SMALL | {"y_dim": 2})
    assert main(["sample", str(run.folder), "--given", "y=0.5,-1", "--num", "2"]) == 0
    with np.load(run.folder / "samples.npz") as file:
        np.testing.assert_array_equal(file["y"], [[0.5, -1], [0.5, -1]])
    assert main(["sample", str(run.folder), "--given", "y=a"]) == 2


# ---- runs whose data moved, tables, old runs, pictures


def test_a_run_whose_data_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fitted(tmp_path)
    (tmp_path / "rows.npy").rename(tmp_path / "moved.npy")
    assert main(["sample", str(run.folder)]) == 0
    for verb in ("reconstruct", "encode", "export"):
        assert main([verb, str(run.folder)]) == 2
        assert "give --data FILE" in capsys.readouterr().err
        assert main([verb, str(run.folder), "--data", str(tmp_path / "moved.npy")]) == 0
    with np.load(run.folder / "reconstructions.npz") as file:
        np.testing.assert_array_equal(file["x"], binary_rows()[:12])


def test_samples_of_a_table_are_rows_of_it(run: ppl_vae.Run) -> None:
    x = ppl_vae.sample(run, num=50)["x"]
    assert set(x[:, 1]) <= {0, 1, 2}
    assert (x[:, 2] == x[:, 2].round()).all()
    assert not (run.folder / "samples.png").exists()


def test_runs_of_an_earlier_version_open_with_every_verb(tmp_path: Path) -> None:
    frame = table()
    frame.to_csv(tmp_path / "table.csv", index=False)
    run = fitted(tmp_path, model="table", guide="table", data=tmp_path / "table.csv", set=SMALL | {"kinds": KINDS})
    own = ppl_vae.encode(run)["z_mean"]
    old(run)
    run = ppl_vae.Run(run.folder)
    np.testing.assert_array_equal(ppl_vae.encode(run, tmp_path / "table.csv")["z_mean"], own)
    ppl_vae.sample(run)
    ppl_vae.reconstruct(run)
    ppl_vae.export(run, rows=2, draws=2).close()
    ppl_vae.compare(run, draws=2)
    ppl_vae.fit(out=run.folder, resume=True, epochs=3)
    (tmp_path / "given").mkdir()
    conditional = labelled(tmp_path / "given")
    old(conditional)
    assert ppl_vae.sample(ppl_vae.Run(conditional.folder), given={"label": 3}, num=2)["label"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((4, 4), (4, 4)),
        ((1, 4, 4), (4, 4)),
        ((3, 4, 4), (4, 4, 3)),
        ((4, 4, 3), (4, 4, 3)),
        ((16,), None),
        ((5, 4, 5), None),
    ],
)
def test_a_picture_is_what_the_data_say_is_one(
    shape: tuple[int, ...], image: tuple[int, ...] | None, tmp_path: Path
) -> None:
    from ppl_vae.reports import figures
    from ppl_vae.reports.style import save

    data = open_data(np.random.default_rng(0).random((20, *shape)).astype(np.float32))
    images = figures.as_images(data.train[0].numpy(), data.image)
    assert (None if images is None else images.shape[1:]) == image
    if images is not None:
        save(figures.image_grid(images, ""), tmp_path / "grid.png")
        save(figures.reconstructions(images, images, ""), tmp_path / "pairs.png")
    if shape == (3, 4, 4):
        np.testing.assert_array_equal(images[0, :, :, 1], data.train[0][0, 1])


def test_built_in_sets_are_pictures() -> None:
    assert open_data("digits").image == (8, 8)
    assert open_data("mnist-5k").image == (28, 28)
