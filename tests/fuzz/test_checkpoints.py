"""A checkpoint's file by itself, under a manifest that lists the hash of whatever it holds: only its bytes can tell."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load
from support.fuzzing import called, damages, few_or, for_all

VALUES = st.one_of(st.integers(-3, 10**20), st.none(), st.text(max_size=3), st.lists(st.integers(-1, 9), max_size=3))


def shapes(tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Of the programs' own: the optimizer's are not for sampling."""
    return {name: x.shape for name, x in tensors.items() if name.startswith(("model.", "guide."))}


@few_or(500, few=12)
def test_safetensors_that_are_damaged(place: Path, count: int) -> None:
    """What is accepted is, for safetensors' own reader, tensors of the programs' names and shapes."""
    run, out = place / "hashed", place / "hashed.npz"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(place / "run", run)
    manifest = json.loads((run / "manifest.json").read_text())
    step = f"step-{manifest['best']}"
    file = run / "checkpoints" / step / "state.safetensors"
    content = file.read_bytes()
    size, whole = int.from_bytes(content[:8], "little"), load(content)
    header = json.loads(content[8 : 8 + size])

    def edited(case: tuple[str, str, object]) -> bytes:
        name, key, value = case
        text = json.dumps({**header, name: {**header[name], key: value}}).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + size :]

    def holds(damaged: bytes) -> None:
        file.write_bytes(damaged)
        manifest["checkpoints"][step]["state.safetensors"] = hashlib.sha256(damaged).hexdigest()
        (run / "manifest.json").write_text(json.dumps(manifest))
        out.unlink(missing_ok=True)
        found = called("sample", run, "--num", "3", "--out", out, names=(str(run), step, "programs that were saved"))
        if found.code == 2:
            assert not out.exists()
            return
        try:
            read = load(damaged)
        except SafetensorError as error:
            raise AssertionError("it was accepted, and is no such file") from error
        assert shapes(read) == shapes(whole)
        with np.load(out) as arrays:
            assert all(len(x) == 3 for x in arrays.values())

    keys = st.sampled_from(["dtype", "shape", "data_offsets", "more"])
    edits = st.tuples(st.sampled_from(sorted(set(header) - {"__metadata__"})), keys, VALUES).map(edited)
    for_all(
        st.one_of(
            edits,
            damages(content[: 8 + size]).map(lambda x: x + content[8 + size :]),
            st.integers(0, len(content)).map(lambda n: content[:n]),
            st.binary(max_size=60),
        ),
        holds,
        count,
    )
