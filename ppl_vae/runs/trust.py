"""Whose code a run may execute: shipped programs, what the user names, and under `trust` the run's own sources.

Naming a program again once is enough. A run may come from somebody else, so what it is trusted with is not kept in it,
but in the user's own state folder: for each run's folder, the file that was named and its SHA-256. What is executed
later is that file, if its hash is still the same, and never what lies in the run.
"""

import contextlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import platformdirs

from ppl_vae.core.errors import InputError
from ppl_vae.core.files import write_json
from ppl_vae.programs.find import Kind, Spec, imports_of, locate, same_numbers, sha256_of, shipped_again

KINDS: tuple[Kind, Kind] = ("model", "guide")


@dataclass(frozen=True)
class Trust:
    """What of the run in `folder`, whose record is `record`, may be executed."""

    folder: Path
    record: Mapping[str, Any]

    def programs(self, named: Mapping[str, Spec | None], *, trust: bool, force: bool) -> dict[Kind, Spec]:
        """What to execute as model and as guide; nothing is executed here.

        Args:
            named: the programs that the user names again, by kind.
            trust: a program that is not named may be taken from the run's sources.
            force: accept a file whose hash is not the recorded one.

        Raises:
            InputError: a program has to be named again, or a hash differs.
        """
        found = {kind: self._program(kind, named.get(kind), trust) for kind in KINDS}
        specs = {kind: spec for kind, spec in found.items() if spec is not None}
        if len(specs) < len(KINDS):
            self._refuse([kind for kind in KINDS if kind not in specs])
        if not force:
            for kind, spec in specs.items():
                self._check_hash(kind, spec, self.record["programs"][kind])
            self._remember(named)
        return specs

    def objective(self, named: Any, *, trust: bool, force: bool) -> Any:
        """What to execute as the objective, where that is a class of the user's own. Raises as `programs`."""
        recorded = self.own_objective
        assert recorded is not None
        if named is None and recorded["source"] is None:
            raise InputError(f"the objective of {self.folder} was given from Python: give it again as objective=")
        source = None if recorded["source"] is None else self.folder / recorded["source"]
        if named is None and not trust:
            raise InputError(
                f"the objective of {self.folder} is not a shipped one: name it again (--objective "
                f"{recorded['spec']}), or --trust to execute {source}"
            )
        spec = f"{source}:{recorded['attribute']}" if named is None else named
        if not force:
            self._check_hash("objective", spec, recorded)
        return spec

    @property
    def own_objective(self) -> dict[str, Any] | None:
        """Where an objective of the user's own came from; None for one that has a name."""
        return self.record.get("objective", {}).get("program")

    def sources(self) -> list[str]:
        """What `trust` executes from the run: path and hash of each file.

        Raises:
            InputError: a file that is not there.
        """
        programs = self.record["programs"].items()
        files = {self.folder / p["source"] for kind, p in programs if p["source"] and not _is_shipped(kind, p)}
        if self.own_objective and self.own_objective["source"]:
            files.add(self.folder / self.own_objective["source"])
        if missing := [str(file) for file in sorted(files) if not file.is_file()]:
            raise InputError(f"no such file: {missing[0]}")
        return [f"{file} (sha256 {sha256_of(file)})" for file in sorted(files)]

    def _program(self, kind: Kind, named: Spec | None, trust: bool) -> Spec | None:
        """What may be executed: None where the program must be named again."""
        recorded = self.record["programs"][kind]
        if named is not None:
            return named
        if _is_shipped(kind, recorded):
            return shipped_again(kind, recorded)
        if recorded["source"] is None:
            raise InputError(f"the {kind} of {self.folder} was given from Python: give it again as {kind}=")
        if trust:
            return f"{self.folder / recorded['source']}:{recorded['attribute']}"
        return recall(self.folder, recorded["sha256"])

    def _refuse(self, kinds: list[Kind]) -> NoReturn:
        recorded = {kind: self.record["programs"][kind] for kind in kinds}
        add = [word for kind, p in recorded.items() for word in (f"--{kind}", _spec_again(p))]
        sources = ", ".join(str(self.folder / p["source"]) for p in recorded.values())
        raise InputError(
            f"the {' and the '.join(kinds)} of {self.folder} {'is' if len(kinds) == 1 else 'are'} not a shipped one: "
            f"name it again, once ({shlex.join(add)}), or --trust to execute {sources}",
            add,
        )

    def _check_hash(self, kind: str, spec: Any, recorded: Mapping[str, Any]) -> None:
        """Refuse a file that is not the recorded one, or imports another file than it did, before it is executed."""
        sha256 = recorded["sha256"]
        if not sha256 or not isinstance(spec, str | Path):
            return
        role: Kind = "guide" if kind == "guide" else "model"
        path, imports = locate(spec, role), recorded.get("imports", {})
        if (found := sha256_of(path)) != sha256 and not same_numbers(spec, role, sha256):
            raise InputError(
                f"{kind} {spec} ({path}, sha256 {found[:12]}) is not what {self.folder} was fitted with "
                f"(sha256 {sha256[:12]}): name the right file, or --force"
            )
        now = imports_of(spec, role) if imports else {}
        if changed := [name for name in imports if now.get(name) != imports[name]]:
            raise InputError(
                f"{kind} {spec} imports {', '.join(changed)}, which {'is' if len(changed) == 1 else 'are'} not what "
                f"{self.folder} was fitted with: put the file back as it was, or --force"
            )

    def _remember(self, named: Mapping[str, Spec | None]) -> None:
        """Note that programs were named, for the commands to come."""
        for kind in KINDS:
            spec, recorded = named.get(kind), self.record["programs"][kind]
            if isinstance(spec, str | Path) and recorded["sha256"] and not _is_shipped(kind, recorded):
                attribute = str(spec).rpartition(".py:")[2] if ".py:" in str(spec) else ""
                remember(self.folder, recorded["sha256"], locate(spec, kind), attribute)


def remember(folder: Path, sha256: str, path: Path, attribute: str) -> None:
    """Note that `path` was named for the run in `folder`. A state folder that can't be written is no error."""
    with contextlib.suppress(OSError):
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        known = _known()
        known.setdefault(str(folder.resolve()), {})[sha256] = [str(path.resolve()), attribute]
        write_json(place, known)


def recall(folder: Path, sha256: str) -> str | None:
    """The program of that hash that was named for the run, as `file.py:Name`; None if there is none any more."""
    path, attribute = _known().get(str(folder.resolve()), {}).get(sha256, ("", ""))
    if not path or not Path(path).is_file() or sha256_of(Path(path)) != sha256:
        return None
    return f"{path}:{attribute}" if attribute else path


def _place() -> Path:
    return platformdirs.user_state_path("ppl_vae") / "named.json"


def _known() -> dict[str, dict[str, list[str]]]:
    try:
        return json.loads(_place().read_bytes())
    except (OSError, ValueError):
        return {}


def _is_shipped(kind: Kind, recorded: Mapping[str, Any]) -> bool:
    """Is this a shipped program under its own name? Any other name could lead from its file to all that it imports."""
    return recorded["shipped"] and recorded["attribute"] == kind.capitalize()


def _spec_again(recorded: Mapping[str, Any]) -> str:
    """What names a program from any folder: its file's whole path."""
    path, spec = Path(recorded["path"]), recorded["spec"]
    if not path.is_file():
        return spec
    return f"{path}:{recorded['attribute']}" if ".py:" in spec or ":" in spec else str(path)
