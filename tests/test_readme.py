"""The README is true: its commands exist, its links lead somewhere, its table is what the manifests say."""

import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from compressors.report import table
from protos.manifest import from_json
from protos.repository import Entry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "deploy" / "README.md", *(ROOT / "docs").rglob("*.md")]
OTHERS = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("own-models", "detection", "serving", "tune"))
COMMANDS = [
    line.strip()
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", README + OTHERS, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("make ", "pareto-"))
]
PROGRAMS = {"pareto-compress": "compressors", "pareto-serve": "server", "pareto-loadtest": "loadtest"}


def test_the_two_commands_are_there() -> None:
    assert {"make demo", "make test"} <= {command.split("#")[0].strip() for command in COMMANDS}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert shlex.split(command, comments=True)[1] in targets


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("pareto-")])
def test_every_program_knows_the_flags_that_it_is_shown_with(command: str) -> None:
    program, *words = shlex.split(command, comments=True)
    told = help_of(PROGRAMS[program], *[word for word in words[:1] if re.fullmatch("[a-z]+", word)])
    assert [word for word in words if word.startswith("--") and word not in told] == []


@functools.cache
def help_of(*program: str) -> str:
    """What a program, or a command of it, says of its flags."""
    command = [sys.executable, "-m", *program, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_names_every_page_of_the_documentation() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name not in {"README.md"} and page.name not in index
    ] == []


def test_its_table_is_what_the_manifests_say() -> None:
    records = json.loads((ROOT / "docs" / "studies" / "hundred.json").read_text())
    manifests = [{key: value for key, value in record.items() if key != "comparison"} for record in records]
    variants = [from_json(json.dumps(manifest)) for manifest in manifests]
    entries = [Entry(v.model, v.variant, Path(), v, None) for v in variants]
    assert table.show(entries, "markdown") in README


def test_it_is_at_most_three_screens_long() -> None:
    assert len(README.splitlines()) <= 150
