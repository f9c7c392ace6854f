"""The pages of the reference: what is public, found by the registries, so that a new verb or part is there at once."""

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, get_args

from mkdocs.structure.files import File, Files
from typing_extensions import Doc

import ppl_vae
from ppl_vae import verbs
from ppl_vae.cli import command
from ppl_vae.core.palette import PARTS
from ppl_vae.objectives import OBJECTIVES

RESULTS = ["ppl_vae.runs.run.Run", "ppl_vae.core.results.Result", "ppl_vae.core.statistics.Estimate"]

BARE = "{show_root_heading: false, show_root_toc_entry: false, show_signature: false}"


def on_files(files: Files, config: Any) -> Files:
    for name, make in {"verbs": verb_page, "python": python_page, "objectives": objectives, "blocks": blocks}.items():
        files.append(File.generated(config, f"reference/{name}.md", content="\n\n".join(make()) + "\n"))
    return files


def verb_page() -> Iterator[str]:
    yield "# Verbs"
    yield (
        "Each is a function, `ppl_vae.NAME(…)`, and a command, `ppl-vae NAME`, with the same options: `batch_size=50` "
        "is `--batch-size 50`. Every command has `--json` and `--debug` too."
    )
    for name in verbs.names():
        yield f"## {name}"
        yield f"::: ppl_vae.verbs.{name}.{name}\n    options: {BARE}"
        yield "| Option | Default | |\n|---|---|---|\n" + "\n".join(_options(verbs.get(name)))


def _options(verb: Any) -> Iterator[str]:
    """A line of a table for each option of the command."""
    for option in fields(command(verb)):
        if option.name in ("json", "debug"):
            continue
        text = next(each.documentation for each in get_args(option.type) if isinstance(each, Doc))
        told = "" if option.default in (MISSING, None, ()) else f"`{option.default}`"
        yield f"| `{option.name}` | {told} | {text.replace('|', chr(92) + '|')} |"


def python_page() -> Iterator[str]:
    yield "# In Python"
    yield "Beside the [verbs](verbs.md), `import ppl_vae` has the names below; `ppl_vae.sklearn` has three estimators."
    yield "## A run, and what all results have"
    yield from map(_named, RESULTS)
    yield "## Programs"
    yield from (_named(_place(name)) for name in ("resolve", "terms", "draw", "simulate", "capture", "open_run"))
    yield "## Errors"
    yield from (_named(_place(name)) for name in ("InputError", "NumericalError"))
    yield "## For scikit-learn"
    yield from (_named(f"ppl_vae.adapters.sklearn.{name}") for name in ("VAEDensity", "VAEImputer", "VAETransformer"))


def objectives() -> Iterator[str]:
    yield "# Objectives"
    yield "By their name in `--objective`, with their settings after a colon, as in `iwae:K=5`."
    yield "[Estimators](../estimators.md) derives each. All are a `pyro.infer.ELBO` and have the methods of the first."
    yield _named("ppl_vae.objectives.base.Objective")
    for name, entry in OBJECTIVES.entries.items():
        yield f"## {name}"
        yield _named(f"{entry.module}.{entry.attribute}")


def blocks() -> Iterator[str]:
    yield "# Parts"
    yield "By their name in `--set`, or as a class: `priors.Mixture(latent_dim, components=20)`."
    for kind, registry in PARTS.items():
        yield f"## {kind}"
        for name, entry in registry.entries.items():
            yield _named(f"{entry.module}.{entry.attribute}", f"{kind}={name}")


def _named(path: str, heading: str = "") -> str:
    return f"::: {path}\n    options: {{heading: {heading}, toc_label: {heading}}}" if heading else f"::: {path}"


def _place(name: str) -> str:
    """Where a name of `ppl_vae` is defined."""
    found = getattr(ppl_vae, name)
    return f"{inspect.unwrap(found).__module__}.{found.__name__}"
