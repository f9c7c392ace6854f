"""What tyro says of a wrong command in a box of many lines, in two."""

import re

NO_NUMBER = {
    r"invalid literal for int\(\) with base 10: (.*)": r"\1 is no whole number",
    r"could not convert string to float: (.*)": r"\1 is no number",
}
"""What Python says of a text that is no number, in words."""
CHOICES = re.compile(r"(?<=Expected one of \()[^)]*")


def unboxed(box: str) -> str:
    """tyro's error box as two lines: what is wrong, and its best suggestion."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    paragraphs = [""]
    for line in lines:
        if re.fullmatch(r"[─-]{3,}", line):
            paragraphs.append("")
        elif line and line[0] not in "╭╰":
            paragraphs[-1] = f"{paragraphs[-1]} {line}".strip()
    if "╭" not in box:  # where the terminal can't show it, the title is a paragraph of its own
        paragraphs.pop(0)
    paragraphs = [p for p in paragraphs if p]
    hint = next((p for p in paragraphs[1:] if p.startswith(("Perhaps", "Available"))), paragraphs[-1])
    first = re.sub(CHOICES, _sorted, paragraphs[0])
    for python, words in NO_NUMBER.items():
        first = re.sub(python, words, first)
    return f"{first}\n{hint}"


def _sorted(choices: re.Match[str]) -> str:
    """The values that an option takes, in an order that stays; None is how an option is left out."""
    return ", ".join(sorted(set(choices[0].split(", ")) - {"'None'"}))
