"""How a run is made again: the command, the versions, and the hashes of what went into it."""

import re
from dataclasses import fields, replace
from typing import Any

from ppl_vae.reports.html import Section, commands, definitions, note
from ppl_vae.runs.run import Run
from ppl_vae.training.config import FitConfig


def how_to_repeat(run: Run) -> Section:
    section = Section(
        "repeat", "How to repeat it",
        "The same command with as many threads on the same machine makes the same run, bit for bit, in a new folder.",
    )  # fmt: skip
    programs = {f"sha256 of the {kind}": program["sha256"] or "–" for kind, program in run.record["programs"].items()}
    hashes = programs | {"sha256 of the data": run.record["data"]["sha256"]}
    section.add(commands([command(run)]))
    if given := _from_python(run):
        section.add(
            note(f"It can't be typed as it stands: {', '.join(given)} came from Python. Give them to ppl_vae.fit.")
        )
    section.add("This makes it again from its folder, and says whether the bits are the same:")
    section.add(commands([f"ppl-vae rerun {_quoted(str(run.folder))}"]))
    return section.add(definitions(dict(run.record["versions"]) | _machine(run) | hashes))


def _machine(run: Run) -> dict[str, str]:
    """On what it was trained, as far as the run tells it."""
    told = run.record.get("machine", {})
    return {name: ", ".join(map(str, x)) if isinstance(x, list) else str(x) for name, x in told.items() if x}


def _from_python(run: Run) -> list[str]:
    """What was given to `fit` as an object that has no text."""
    programs = [kind for kind, program in run.record["programs"].items() if program["path"] is None]
    noted = [entry["name"] for entry in run.config.set if not isinstance(entry, str)]
    return ["the data"] * (not run.config.data) + [f"the {each}" for each in programs] + noted


def command(run: Run) -> str:
    """The `fit` that makes this run, with the options that are not at their defaults.

    Of a table that was fitted by its columns, what follows from these is left out; they are in RUN/columns.toml.
    """
    several = f"torchrun --nproc-per-node={run.processes} -m ppl_vae"
    words, usual = (
        [f"{'ppl-vae' if run.processes == 1 else several} fit"],
        {field.name: field.default for field in fields(FitConfig)},
    )
    config = run.config
    if run.schema is not None:
        usual |= {"model": "table", "guide": "table", "missing": "nan"}
        kept = tuple(entry for entry in config.set if not re.match(r"(\w+\.)*kinds=", setting(entry)))
        config = replace(config, set=kept)
        words += ["--columns", _quoted(str(run.folder / "columns.toml"))]
        words += ["--label", _quoted(run.schema.label)] if run.schema.label else []
    cells = dict(run.record.get("cells", {}))
    if any(":layers/" in source for source in config.data):  # FILE:layers/NAME says the layer itself
        cells.pop("layer", None)
    words += [f"--{name} {_quoted(cells[name])}" for name in ("layer", "library", "batch") if cells.get(name)]
    for field in fields(FitConfig):
        value = getattr(config, field.name)
        if value == usual[field.name]:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if field.name == "set":
            words += [f"{flag} {_quoted(setting(entry))}" for entry in value]
        elif isinstance(value, bool):
            words.append(flag)
        else:
            words += [flag, *map(_quoted, map(str, value if isinstance(value, tuple) else (value,)))]
    return " ".join((*words, "--out", _quoted(str(run.folder))))


def setting(entry: Any) -> str:
    """A setting as it was typed; one that was given from Python has only a note of it."""
    return entry if isinstance(entry, str) else f"{entry['name']}={entry.get('note', '…')}"


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w./:,=@%+-]+", word) else "'" + word.replace("'", "'\\''") + "'"
