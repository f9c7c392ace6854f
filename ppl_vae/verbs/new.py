"""The verb `new`."""

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from typing_extensions import Doc

from ppl_vae.core.errors import InputError
from ppl_vae.core.results import Result
from ppl_vae.verbs import _options as o

PAIR = "--model bernoulli --guide diagonal_normal --data mnist-5k"


@dataclass(frozen=True, repr=False)
class Copied(Result):
    """The files that were copied into a folder."""

    folder: Path
    files: tuple[Path, ...]

    def fields(self) -> dict[str, Any]:
        return {"files": list(map(str, self.files))}

    def lines(self) -> Iterator[str]:
        yield from map(str, self.files)
        yield (
            "edit a line, such as that of p(z) in models/bernoulli.py; then, "
            f"cd {shlex.quote(str(self.folder))} && ppl-vae check {PAIR}, and ppl-vae fit {PAIR} --out runs/mine"
        )


def new(
    folder: Annotated[
        o.Place, Doc("The folder to copy to; made if it is not there."), o.Flag(tyro.conf.Positional[Path])
    ],
) -> Copied:
    """Copy models/ and guides/ into a folder, to edit; a file that is there is not overwritten."""
    from ppl_vae.programs.find import shipped_folder

    place = Path(folder).expanduser()
    pairs = [
        (file, place / f"{kind}s" / file.name)
        for kind in ("model", "guide")
        for file in sorted(shipped_folder(kind).glob("[!_]*.py"))
    ]
    for _, copy in pairs:
        if copy.exists():
            raise InputError(f"{copy} exists: give another folder, or move it away")
    for original, copy in pairs:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)
    return Copied(place, tuple(copy for _, copy in pairs))
