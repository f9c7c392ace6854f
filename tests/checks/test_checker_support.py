"""`check` against the data: each row lies in the support of its likelihood, and is named as the file counts it."""

import numpy as np
import pytest
from support.planted_faults import MODEL_PLATE, MODEL_X, SOUND, binary, check, real

from ppl_vae.checks.pair import CheckReport
from ppl_vae.data import open_data

SMALL = {"latent_dim": 2, "hidden": 4}


def check_text(folder, text: str, data: np.ndarray) -> CheckReport:
    file = folder / "vae.py"
    file.write_text(text)
    return check(str(file), str(file), open_data(data))


def test_data_outside_the_support_by_its_row_in_the_file():
    for row in range(40):  # wherever the split and the shuffle put it
        faulty = binary()
        faulty[row, 3] = 0.5
        (error,) = check("bernoulli", "diagonal_normal", open_data(faulty), **SMALL).errors
        assert f"site 'x': row {row}, column 3 of the data is 0.5, outside the support of Bernoulli" in error.message
        assert "binarize" in error.message


def test_row_of_image_data_and_name_of_a_transformed_family(tmp_path):
    data = np.exp(real())
    text = SOUND.replace(MODEL_X, MODEL_X.replace("dist.Normal", "dist.LogNormal"))
    assert check_text(tmp_path, text, data).passed
    data[11, 2] = -1
    (error,) = check_text(tmp_path, text, data).errors
    assert "row 11, column 2 of the data is -1, outside the support of LogNormal" in error.message
    images = binary()[:, :4].reshape(40, 2, 2)
    images[5, 1, 0] = 2
    (error,) = check("bernoulli", "diagonal_normal", open_data(images), **SMALL).errors
    assert "row 5, column 1, 0 of the data" in error.message


@pytest.mark.parametrize("masked", [".mask(x >= 0).to_event(1)", ".to_event(1).mask((x >= 0).all(-1))"])
def test_masked_entries_need_no_support(tmp_path, masked):
    data = binary()
    data[7, 1] = -1
    likelihood = MODEL_X.replace("dist.Normal(loc, 1.0)", "dist.Bernoulli(logits=loc)")
    assert not check_text(tmp_path, SOUND.replace(MODEL_X, likelihood), data).passed
    assert check_text(tmp_path, SOUND.replace(MODEL_X, likelihood.replace(".to_event(1)", masked)), data).passed


def test_row_where_an_inner_plate_stands_left_of_the_data(tmp_path):
    data = binary()
    data[9, 4] = 0.5
    inner = "pyro.plate('columns', 5)"
    text = SOUND.replace(MODEL_X, f"with {inner}: pyro.sample('x', dist.Bernoulli(logits=loc.T), obs=x.T)")
    (error,) = check_text(tmp_path, text, data).errors
    assert "row 9, column 4 of the data is 0.5" in error.message


def test_each_site_is_named_once(tmp_path):
    other = "pyro.sample('y', dist.Poisson(loc.exp()).to_event(1), obs=x)"
    text = SOUND.replace(MODEL_X, MODEL_X.replace("dist.Normal(loc, 1.0)", "dist.Bernoulli(logits=loc)") + "; " + other)
    assert [error.site for error in check_text(tmp_path, text, real()).errors] == ["x", "y"]


def test_grey_values_that_are_binarized_in_each_epoch_are_no_fault():
    grey = np.random.default_rng(0).uniform(size=(40, 5)).astype("float32")
    assert check("bernoulli", "diagonal_normal", open_data(grey, binarize="epoch"), hidden=4).findings == ()
    assert not check("bernoulli", "diagonal_normal", open_data(grey), hidden=4).passed


def test_a_deterministic_site_has_no_support_to_keep(tmp_path):
    nothing = "pyro.deterministic('nothing', torch.tensor(float('nan')))\n        "
    assert check_text(tmp_path, SOUND.replace(MODEL_PLATE, nothing + MODEL_PLATE), real()).findings == ()
