"""Options of every verb with values of every kind: a sentence that names the option, and nothing that is not valid."""

from pathlib import Path

from hypothesis import strategies as st
from support.fuzzing import called, few_or, for_all
from support.runs import PAIR_ARGUMENTS

ODD = [
    "0", "-1", "1", "2", "-3", "1e3", "1.5", "nan", "inf", "-inf", "1e400", "99999999999999999999999", "x", "", " ",
    "None", "True", "[]", "0x10", "1_0", "٣", "../..", "/",
    "\u0000x", "a" * 3000, "=", "==", "--", "-", "auto", "é😀",
]  # fmt: skip
VALUE = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))


def sound(option: str, value: str) -> bool:
    """May a fit have this value? By rules of our own."""
    if value == "None" and option in ("--clip", "--patience", "--keep-every"):
        return True
    if option in ("--epochs", "--batch-size", "--checkpoint-every", "--keep-every", "--patience", "--warmup-cycles"):
        return value in ("1", "2") or (_whole(value) and int(value) >= 1)
    if option == "--seed" or option == "--split-seed":
        return _whole(value) and 0 <= int(value) < 2**63
    if option in ("--lr", "--clip"):
        return _number(value) and float(value) > 0
    return True


def _whole(value: str) -> bool:
    try:
        return int(value) is not None
    except ValueError:
        return False


def _number(value: str) -> bool:
    try:
        return abs(float(value)) < float("inf")
    except ValueError:
        return False


@few_or(500, few=20)
def test_options_of_fit(place: Path, count: int) -> None:
    """The folder is there already, so that a sound option ends in that sentence, and only a sound one."""

    def holds(case: tuple[str, str]) -> None:
        option, value = case
        data = ["--data", place / "rows.npy", "--out", place / "run"]
        found = called("fit", *PAIR_ARGUMENTS, *data, "--quiet", f"{option}={value}")
        assert found.code == 2
        if "exists: choose another --out" in found.err:
            assert sound(option, value), case

    numbers = ["--epochs", "--batch-size", "--lr", "--clip", "--patience", "--warmup-cycles", "--seed", "--split-seed"]
    more = ["--checkpoint-every", "--keep-every", "--threads", "--device", "--precision", "--schedule"]
    others = ["--objective", "--binarize", "--missing", "--compile", "--track", "--set", "--model", "--guide"]
    for_all(st.tuples(st.sampled_from(numbers + more + others), VALUE), holds, count)


@few_or(400, few=15)
def test_options_of_verbs_on_a_run(place: Path, count: int) -> None:
    def holds(case: tuple[str, str, str]) -> None:
        verb, option, value = case
        own = ["--num", "2"] if verb == "sample" and option != "--num" else []
        out = place / "out.npz"
        found = called(verb, place / "run", *own, "--out", out, f"{option}={value}")
        if found.code == 0:
            if option in ("--num", "--draws") and (option, value) != ("--draws", "None"):
                assert _whole(value), case
                assert int(value) >= 1, case
            if option == "--seed":
                assert _whole(value), case
                assert 0 <= int(value) < 2**63, case
            if option == "--checkpoint":
                assert value in ("best", "last", "first", "middle") or _whole(value), case

    options = st.sampled_from(
        ["--num", "--draws", "--seed", "--checkpoint", "--given", "--data", "--like", "--scale", "--model", "--show"]
    )
    for_all(st.tuples(st.sampled_from(["sample", "encode"]), options, VALUE), holds, count)
