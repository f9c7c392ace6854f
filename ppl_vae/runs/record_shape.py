"""What stands in `config.json`, by which a damaged one is found."""

from typing import Any, NotRequired, TypedDict


class Program(TypedDict):
    spec: str
    path: str | None
    attribute: str
    sha256: str
    shipped: bool
    source: str | None
    imports: NotRequired[dict[str, str]]


class Programs(TypedDict):
    model: Program
    guide: Program


class Objectives(TypedDict):
    target: str
    program: Program | None


class Rows(TypedDict):
    fields: list[str]
    rows: int
    shapes: list[list[int]]
    dtypes: list[str]


class Streamed(TypedDict):
    files: int
    bytes: int
    state: str
    blocks: str
    missing: list[int]
    converted: NotRequired[list[str]]


class About(TypedDict):
    name: str
    sha256: str
    rows: list[int]
    binarize: str
    columns: NotRequired[dict[str, list[str]]]
    range: NotRequired[list[float | None]]
    image: NotRequired[list[int] | None]
    given: NotRequired[list[str]]
    stream: NotRequired[Streamed]


class Machine(TypedDict):
    system: str
    processor: str
    cores: int
    vectors: str
    threads: int
    devices: list[str]


class How(TypedDict):
    captured: bool
    products: NotRequired[str]
    threads: NotRequired[list[list[int]]]
    eager_from: NotRequired[int]
    processes: NotRequired[int]


class Change(TypedDict):
    """Options that a run had before it went on with others from `step` on."""

    step: int
    before: dict[str, Any]


class Record(TypedDict):
    """`config.json`; what older versions did not write need not be there."""

    format: int
    versions: NotRequired[dict[str, str]]
    machine: NotRequired[Machine]
    fit: dict[str, Any]
    programs: Programs
    objective: NotRequired[Objectives]
    batch: Rows
    data: About
    schema: NotRequired[dict[str, Any]]
    cells: NotRequired[dict[str, Any]]
    step: NotRequired[How]
    launchers: NotRequired[list[str]]
    tracked: NotRequired[dict[str, str]]
    changed: NotRequired[list[Change]]
