"""What W&B has written offline: records of protobuf in the log format of LevelDB."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER, BEGIN = 2**15, 7, 7
FULL, FIRST, LAST = 1, 2, 4


def records(file: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, whole = file.read_bytes(), BEGIN, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        piece, at = content[at + HEADER : at + HEADER + length], at + HEADER + length
        whole = piece if kind in (FULL, FIRST) else whole + piece
        if kind in (FULL, LAST) and len(piece) == length:
            yield Record.FromString(whole)


def wait_for(file: Path) -> None:
    """Until all is on disk, which W&B writes in a process of its own."""
    until = time.monotonic() + 20
    while "exit" not in [record.WhichOneof("record_type") for record in records(file)]:
        assert time.monotonic() < until, f"{file} has no end"
        time.sleep(0.05)


def history(file: Path) -> Iterator[tuple[int, str, float]]:
    """Step, name and value of each number that was logged."""
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = items.pop("_step", record.history.step.num)
            for name, value in items.items():
                if not name.startswith("_"):
                    yield step, name, math.nan if value in (None, "NaN") else value


def summary(file: Path) -> dict[str, float]:
    """The numbers that were set for the whole run, not those of its last step."""
    found = {}
    for record in records(file):
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                name = item.key or ".".join(item.nested_key)
                if name.startswith("best/"):
                    found[name] = json.loads(item.value_json)
    return found
