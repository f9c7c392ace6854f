"""Arrays as tables with named columns, and as files of each kind."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ppl_vae.core.errors import InputError
from ppl_vae.core.frames import index_of, is_frame, labels_of, out_file, shortest, to_frame, write_arrays, write_frame

X, Y = np.arange(6.0).reshape(3, 2) / 7, np.arange(3)


def test_columns_are_numbered_or_named() -> None:
    assert list(to_frame({"x": X, "y": Y})) == ["x_1", "x_2", "y"]
    frame = to_frame({"x": X, "y": Y}, {"x": ["a", "b"]}, index=[7, 5, 6])
    assert (list(frame), frame.index.name, list(frame.index)) == (["a", "b", "y"], "row", [7, 5, 6])
    np.testing.assert_array_equal(frame[["a", "b"]], X)
    assert frame["y"].dtype == Y.dtype
    kept = to_frame({"x": X}, index=pd.Index(["p", "q", "r"], name="who"))
    assert kept.index.equals(pd.Index(["p", "q", "r"]))
    assert kept.index.name == "who"


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(InputError, match=r"x holds \(2, 2\) numbers for each row.*write .npz"):
        to_frame({"x": np.zeros((3, 2, 2))})
    with pytest.raises(InputError, match="two columns would be called 'y'"):
        to_frame({"x": X, "y": Y}, {"x": ["a", "y"]})


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_is_read_as_it_was_written(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{ending}"
    read = pd.read_csv if ending == ".csv" else pd.read_parquet
    frame = to_frame({"x": X.astype(np.float32), "y": Y}, index=[7, 5, 6])
    write_frame(frame, path)
    bare = read(path)
    np.testing.assert_array_equal(bare.to_numpy(np.float32), frame.to_numpy(np.float32), "to the last bit")
    assert list(bare) == list(frame)
    write_frame(frame, path, index=True)
    again = read(path) if ending == ".parquet" else read(path, index_col="row")
    assert list(again.index) == [7, 5, 6]
    write_frame(frame.rename(columns={"y": "row"}), path, index=True)
    assert list(read(path).reset_index())[-4:] == ["row_number", "x_1", "x_2", "row"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_arrays({"x": X, "y": Y}, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["x"], X)
        assert set(file) == {"x", "y"}
    write_arrays({"x": X}, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), X)
    with pytest.raises(InputError, match="holds one array, and there are x, y"):
        write_arrays({"x": X, "y": Y}, tmp_path / "b.npy")
    assert not (tmp_path / "b.npy").exists()


def test_whole_numbers_have_no_point_in_a_csv(tmp_path: Path) -> None:
    columns = {"code": [0.0, 2.0], "real": [0.5, 2.0], "zero": [-0.0, 1.0], "gone": [1.0, np.nan], "text": ["a", "b"]}
    write_frame(pd.DataFrame(columns), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == [",".join(columns), "0,0.5,-0.0,1.0,a", "2,2.0,1.0,,b"]


def test_single_precision_has_no_more_digits_than_it_tells() -> None:
    x = np.array([0.1, np.nan, -1e30, 178.4, 1 / 3], dtype=np.float32)
    assert shortest(x)[[0, 3]].tolist() == [0.1, 178.4]
    np.testing.assert_array_equal(shortest(x).astype(np.float32), x)
    assert shortest(X).dtype == np.float64


def test_cells_of_several_types_are_texts_in_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"guess": np.array([1.5, "yes", None], dtype=object), "x": [1, 2, 3]})
    write_frame(frame, tmp_path / "a.parquet")
    read = pd.read_parquet(tmp_path / "a.parquet")
    assert read["guess"].tolist()[:2] == ["1.5", "yes"]
    assert read["guess"].isna().tolist() == [False, False, True]


def test_the_place_is_refused_before_the_work(tmp_path: Path) -> None:
    assert out_file(None, tmp_path / "a.npz") == tmp_path / "a.npz"
    with pytest.raises(InputError, match=r"x.txt: give a name that ends in .csv, .parquet, .npz or .npy"):
        out_file("x.txt", tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"ends in \.csv, by which"):
        out_file("x.npz", tmp_path / "a.csv", [".csv"])
    with pytest.raises(InputError, match="make it first"):
        out_file(tmp_path / "no" / "x.csv", tmp_path / "a.npz")


def test_rows_go_by_their_index_or_number() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=["p", "q"])
    assert is_frame(frame)
    assert not is_frame(X)
    assert list(index_of(frame, [0, 1])) == ["p", "q"]
    assert list(index_of(X, [4, 9])) == [4, 9]
    assert labels_of(np.array([4, 9])) == [4, 9]
    assert labels_of(pd.DatetimeIndex(["2026-01-02"])) == ["2026-01-02 00:00:00"]
