"""Data beyond memory: rows that are read from files while they train, in a process that is given little memory.

    large    an .npy and a folder of Parquet files of so many GiB, one epoch of each
    beside   the same rows in memory and as a stream: seconds for each row of an epoch
    rows     the memory of the process against the number of rows

Each training is a process of its own. Its private memory is limited (RLIMIT_DATA), its resident memory is read from
/proc/self/status at each step, and each wait of a step for its batch is timed. What is made is deleted.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

GIB = 2**30
PART = 2**16
"""Rows that are made at a time."""
OPTIONS: dict[str, Any] = {"epochs": 1, "lr": 1e-3, "threads": 1, "compile": "off"}


def make(kind: str, place: Path, rows: int, columns: int) -> Path:
    """A file `.npy`, or a folder of Parquet files, of float32: rows that have ten directions."""
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(10, columns)).astype("f4")

    def parts() -> Iterator[tuple[int, np.ndarray]]:
        for first in range(0, rows, PART):
            z = generator.normal(size=(min(PART, rows - first), 10)).astype("f4")
            yield first, z @ directions + generator.normal(size=(len(z), columns)).astype("f4")

    if kind == "npy":
        path = place / "rows.npy"
        into = np.lib.format.open_memmap(path, "w+", np.float32, (rows, columns))
        for first, x in parts():
            into[first : first + len(x)] = x
            into.flush()
        return path
    import pyarrow
    from pyarrow import parquet

    path = place / "rows"
    path.mkdir()
    names = [f"c{i}" for i in range(columns)]
    for first, x in parts():
        table = pyarrow.table({name: pyarrow.array(column) for name, column in zip(names, x.T.copy(), strict=True)})
        group = max(1, 2**19 // columns)
        parquet.write_table(table, path / f"{first:012d}.parquet", row_group_size=group, compression="none")
    return path


def status(name: str) -> float:
    """Bytes of a line of /proc/self/status, such as VmRSS or VmHWM."""
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def trained(path: Path, stream: str, batch_size: int, limit: float, hidden: int) -> dict[str, Any]:
    """Train an epoch in this process, and what it took."""
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    import ppl_vae
    from ppl_vae.training.loop import Loop

    waits, times, resident = list[float](), list[float](), list[float]()
    batches, step, begun = Loop.batches, Loop.step, time.perf_counter()

    def timed_batches(loop: Loop, *part: Any) -> Iterator[Any]:
        found = batches(loop, *part)
        while True:
            before = time.perf_counter()
            batch = next(found, None)
            waits.append(time.perf_counter() - before)
            if batch is None:
                return
            yield batch

    def timed_step(loop: Loop, batch: Any) -> None:
        before = time.perf_counter()
        step(loop, batch)
        times.append(time.perf_counter() - before)
        if len(times) % 20 == 0:
            resident.append(status("VmRSS"))

    Loop.batches, Loop.step = timed_batches, timed_step  # type: ignore[method-assign]
    run = ppl_vae.fit(
        "gaussian", "diagonal_normal", str(path), batch_size=batch_size, stream=stream,
        set={"latent_dim": 10, "hidden": hidden}, **OPTIONS,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    warm = max(resident[: max(1, len(resident) // 4)], default=float("nan"))
    return {
        "rows": sum(run.record["data"]["rows"]),
        "steps": len(times),
        "opening": seconds - run.metrics[-1]["seconds"],
        "epoch": run.metrics[-1]["seconds"],
        "waiting": sum(waits) / (sum(waits) + sum(times)),
        "per_row": (sum(waits) + sum(times)) / run.record["data"]["rows"][0],
        "resident": max(resident, default=float("nan")),
        "peak": status("VmHWM"),
        "growth": max(resident, default=float("nan")) / warm - 1,
        "elbo": run.metrics[-1]["valid"]["elbo"],
    }


def in_process(path: Path, stream: str, batch_size: int, limit: float, hidden: int) -> dict[str, Any]:
    """`trained` in a new process."""
    options = ["--stream", stream, "--batch-size", str(batch_size), "--hidden", str(hidden)]
    options += ["--limit", str(limit)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "one", "--path", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def told(name: str, found: dict[str, Any]) -> str:
    return (
        f"{name:28} {found['rows']:>11,} rows  opened in {found['opening']:6.1f} s, epoch {found['epoch']:6.1f} s, "
        f"{1e6 * found['per_row']:6.2f} µs a row, {100 * found['waiting']:5.2f} % waiting; resident "
        f"{found['resident'] / 2**20:6.0f} MiB, peak {found['peak'] / 2**20:6.0f} MiB, "
        f"growth {100 * found['growth']:5.2f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["large", "beside", "rows", "one"])
    parser.add_argument("--gib", type=float, default=8.0, help="of large, and a quarter of it of beside")
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--limit", type=float, default=2 * GIB, help="bytes of private memory; 0 for any")
    parser.add_argument("--kinds", nargs="+", default=["npy", "parquet"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--folder", type=Path, help="where the files are made; by default a temporary one")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--stream", default="on")
    parser.add_argument("--out", type=Path, help="write what was found as JSON")
    asked = parser.parse_args()
    if asked.what == "one":
        print(json.dumps(trained(asked.path, asked.stream, asked.batch_size, asked.limit, asked.hidden)))
        return
    found: dict[str, Any] = {}
    place = Path(tempfile.mkdtemp(dir=asked.folder))

    def measure(name: str, path: Path, stream: str, limit: float) -> None:
        found[name] = in_process(path, stream, asked.batch_size, limit, asked.hidden)
        print(told(name, found[name]), flush=True)

    try:
        for kind in asked.kinds:
            share = 0.25 if asked.what == "beside" else 1
            rows = int(share * asked.gib * GIB / 4 / asked.columns)
            for size in asked.sizes if asked.what == "rows" else [rows]:
                path = make(kind, place, size, asked.columns)
                if asked.what == "beside" and kind == "npy":
                    measure(f"{kind}, in memory", path, "off", 0)
                measure(f"{kind}, {size:,} rows", path, "on", asked.limit)
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        shutil.rmtree(place)
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
