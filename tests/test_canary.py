"""A pickle that touches a canary file, offered wherever a file is read: the canary is never touched."""

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from support.runs import PAIR_ARGUMENTS, fitted

from ppl_vae.cli import main


class Touch:
    """Whoever unpickles it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("canary")
    fitted(place, epochs=1)
    return place


@pytest.fixture
def canary(place: Path) -> Iterator[Path]:
    path = place / "canary"
    yield path
    assert not path.exists(), "the pickle was executed"


def pickled(canary: Path, protocol: int = 4) -> bytes:
    return pickle.dumps(Touch(canary), protocol)


def objects(canary: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Touch(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def archive(canary: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, x=np.array([[Touch(canary)]], dtype=object))
    return buffer.getvalue()


def by_torch(canary: Path, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": Touch(canary)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def extension(canary: Path) -> bytes:
    """An extension type of pyarrow that old versions unpickled when they read the schema (CVE-2023-47248)."""
    meta = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickled(canary)}
    field = pyarrow.field("x", pyarrow.int64(), metadata=meta)
    schema = pyarrow.schema([field], metadata={"pandas": pickled(canary)})
    table = pyarrow.table([pyarrow.array([0, 1, 1])], schema=schema)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def cells(canary: Path) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as store:
        store.create_dataset("X", data=np.frombuffer(pickled(canary), dtype=np.uint8)[None])
        store.attrs["encoding-type"] = np.void(pickled(canary))
        for group in ("obs", "var"):
            store.create_group(group).attrs["_index"] = np.void(pickled(canary))
    return buffer.getvalue()


def mixed(canary: Path) -> bytes:
    """A zip of numpy with a pickle beside, as torch writes one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("data.pkl", pickled(canary))
        made.writestr("x.npy", objects(canary))
    return buffer.getvalue()


OFFERED: dict[str, Callable[[Path], bytes]] = {
    **{f"pickle {protocol}": lambda canary, p=protocol: pickled(canary, p) for protocol in (0, 2, 5)},  # type: ignore[misc]
    "npy": objects,
    "npz": archive,
    "torch": by_torch,
    "torch, old": lambda canary: by_torch(canary, zipped=False),
    "parquet": extension,
    "h5ad": cells,
    "zip": mixed,
}
ENDINGS = (".npy", ".npz", ".csv", ".parquet", ".h5ad", ".pkl", ".pt", ".pth", ".joblib", ".safetensors", "")


def offer(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(args)
    told = capsys.readouterr()
    assert code in (0, 2), args
    assert "Traceback" not in told.out + told.err


def test_the_pickle_does_work(tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    for content in (pickled(tmp_path / "a"), by_torch(tmp_path / "b"), objects(tmp_path / "c")):
        for load in (pickle.load, partial(torch.load, weights_only=False), partial(np.load, allow_pickle=True)):
            try:
                load(io.BytesIO(content))
            except Exception:
                continue
    assert {path.name for path in tmp_path.iterdir()} >= {"a", "c"}


@pytest.mark.parametrize("what", OFFERED)
@pytest.mark.parametrize("ending", ENDINGS)
def test_as_data(place: Path, canary: Path, what: str, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / f"offered{ending}"
    file.write_bytes(OFFERED[what](canary))
    run, out = str(place / "run"), str(place / "out.npz")
    for name in (str(file), f"{file}:x", f"x={file}"):
        offer(["encode", run, "--data", name, "--out", out], capsys)
    offer(["describe", str(file)], capsys)
    offer(["fit", *PAIR_ARGUMENTS, "--data", str(file), "--out", str(place / "new")], capsys)


@pytest.mark.parametrize("what", ["pickle 5", "torch"])
def test_as_any_file_of_a_run(place: Path, canary: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The hashes of the manifest are made to agree, as who offers it would do."""
    content, run = OFFERED[what](canary), place / "broken"
    whole = sorted(path.relative_to(place / "run") for path in (place / "run").rglob("*") if path.is_file())
    extra = [Path("evaluate.json"), Path("compare.json"), Path("estimator.json"), Path("columns.toml"), Path(".lock")]
    for name in [*whole, *extra]:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(place / "run", run)
        (run / name).write_bytes(content)
        manifest = json.loads((place / "run" / "manifest.json").read_text())
        if name.parts[0] == "checkpoints":
            manifest["checkpoints"][name.parts[1]][name.name] = hashlib.sha256(content).hexdigest()
            (run / "manifest.json").write_text(json.dumps(manifest))
        checkpoint = name.parts[1].removeprefix("step-") if name.parts[0] == "checkpoints" else "best"
        offer(["sample", str(run), "--num", "2", "--checkpoint", checkpoint], capsys)
        if name.name in ("config.json", "metrics.jsonl", "best.json", "manifest.json", ".lock"):
            offer(["resume", str(run), "--quiet"], capsys)


@pytest.mark.parametrize("what", OFFERED)
def test_as_a_program_or_a_file_of_columns(
    place: Path, canary: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "table.csv").write_text("a,b\n" + "".join(f"{i / 7},{i % 2}\n" for i in range(20)))
    data = ["--data", str(place / "rows.npy"), "--out", str(place / "new")]
    for ending in (".py", ".pkl", ".pt", ".pyc", ".toml"):
        file = place / f"offered{ending}"
        file.write_bytes(OFFERED[what](canary))
        for option in (["--model", str(file)], ["--guide", f"{file}:Guide"], ["--objective", f"{file}:Own"]):
            offer(["fit", *PAIR_ARGUMENTS, *data, *option], capsys)
        offer(["describe", str(place / "table.csv"), "--columns", str(file)], capsys)
        offer(["sample", str(place / "run"), "--model", str(file)], capsys)


def test_as_a_saved_estimator(place: Path, canary: Path) -> None:
    from ppl_vae.sklearn import VAEDensity

    for what, offered in OFFERED.items():
        folder = place / "estimator"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(place / "run", folder)
        (folder / "estimator.json").write_bytes(offered(canary))
        with pytest.raises(ValueError, match="estimator"):
            VAEDensity.load(folder)
        assert not canary.exists(), what
