"""What editors and type checkers read of `import ppl_vae`, whose names are found when they are asked for.

`python tests/support/stub.py` writes it anew, after a verb or a piece has come or gone.
"""

from pathlib import Path

import ppl_vae
from ppl_vae import verbs

STUB = Path(ppl_vae.__file__).with_suffix(".pyi")


def written() -> str:
    places = {name: f"ppl_vae.{module}" for name, module in ppl_vae.PIECES.items()}
    places |= {name: f"ppl_vae.verbs.{name}" for name in verbs.names()}
    ordered = sorted(places.items(), key=lambda item: (item[1], item[0]))
    imports = [f"from {module} import {name} as {name}" for name, module in ordered]
    return (
        "\n".join(["# Written by tests/support/stub.py.", *imports, "", "__version__: str", "PIECES: dict[str, str]"])
        + "\n"
    )


if __name__ == "__main__":
    STUB.write_text(written())
