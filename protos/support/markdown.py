"""Tables in Markdown, and texts in which nothing is taken for it."""

import re
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], right: int | None = None) -> str:
    """Returns a table; its columns from number `right` (from 0) on are aligned to the right."""
    rules = ["---" if right is None or i < right else "---:" for i in range(len(headings))]
    lines = [headings, rules, *rows]
    return "\n".join("| " + " | ".join(str(value).replace("|", "\\|") for value in line) + " |" for line in lines)


def inert(text: str) -> str:
    """Returns somebody else's text with what Markdown would take for HTML or a link escaped."""
    return re.sub(r"([\\`*_<>\[\]&])", r"\\\1", text)
