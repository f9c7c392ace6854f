"""The picture of the rooms shows the contract that `make check` reads, and the contract has every room."""

import re
import tomllib
from pathlib import Path

from support.pages import Page

ROOT = Path(__file__).parents[2]
PICTURES = [block.text for block in Page("architecture.md").blocks if block.language == "mermaid"]


def contract() -> list[set[str]]:
    """Sets of rooms of one height, the highest first, without those that need not be there and are not."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each["layers"] for each in configuration["contracts"] if each["type"] == "layers"]
    there = [layer for layer in layers if not layer.startswith("(") or (ROOT / "ppl_vae" / layer.strip("()")).exists()]
    return [{room.strip(" ()") for room in layer.split("|")} for layer in there]


def test_the_picture_is_the_contract() -> None:
    rooms, way = PICTURES
    (chain,) = [line for line in rooms.splitlines() if "-->" in line]
    assert [{room.strip() for room in height.split("&")} for height in chain.split("-->")] == contract()
    flat = {room for height in contract() for room in height}
    assert set(re.findall(r'^ +(\w+)\["\1<br/>', rooms, re.MULTILINE)) == flat, "each room is a box with its name"
    assert set(re.findall(r"subgraph (\w+)", way)) < flat


def test_every_arrow_is_between_boxes() -> None:
    for picture in PICTURES:
        boxes = set(re.findall(r"^ +(\w+)\[", picture, re.MULTILINE))
        arrows = [re.sub(r'-- ".*?" -->', "-->", line) for line in picture.splitlines() if "-->" in line]
        ends = {end.strip() for line in arrows for end in re.split("-->|&", line)}
        assert ends == boxes


def test_every_room_is_in_the_contract() -> None:
    folders = {path.parent.name for path in (ROOT / "ppl_vae").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "ppl_vae").glob("[!_]*.py")}
    assert {room for height in contract() for room in height} == folders | modules
