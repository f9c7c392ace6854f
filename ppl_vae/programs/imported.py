"""Files of the user's own that a program's file imports: a program is not the same where one of them has changed."""

import ast
import hashlib
import importlib.util
import site
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = {"site-packages", "dist-packages"}


def own_imports(path: Path, package: str = "") -> dict[str, str]:
    """The modules that a file imports, and those that these import, but for installed packages and Python's own.

    They are found by reading: nothing is executed, except for packages whose modules are asked for, as `a` for `a.b`.

    Args:
        package: in which the file is a module, for its relative imports.

    Returns:
        The SHA-256 of each file by the name of its module.
    """
    found: dict[str, str] = {}
    to_read = [(path, package)]
    while to_read:
        for name in _named(*to_read.pop()):
            origin = None if name in found else _origin(name)
            if origin is not None:
                found[name] = hashlib.sha256(origin.read_bytes()).hexdigest()
                inside = name if origin.name == "__init__.py" else name.rpartition(".")[0]
                to_read.append((origin, inside))
    return dict(sorted(found.items()))


def _named(path: Path, package: str) -> Iterator[str]:
    """The modules that a file's statements may import, by their whole names; `from a import b` may mean `a.b`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level and not package:
                continue
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from names


@cache
def _installed() -> tuple[Path, ...]:
    """Folders of Python, of its packages and of this one."""
    places: list[str | Path] = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places.append(site.getusersitepackages())
    own = [importlib.util.find_spec(f"ppl_vae{kind}") for kind in ("", ".models", ".guides")]
    places += [Path(spec.origin).parent for spec in own if spec is not None and spec.origin]
    return tuple(Path(place).resolve() for place in places)


def _origin(name: str) -> Path | None:
    """The file of a module of the user's own; None for any other."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    if PACKAGES & set(path.parts):  # also of another environment, on which this one stands
        return None
    return None if any(path.is_relative_to(place) for place in _installed()) else path
