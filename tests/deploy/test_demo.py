"""The demos' script: what `make` gives it, and that it reaches the three programs, which stand-ins write down here."""

import os
import subprocess
from pathlib import Path

import pytest

from compressors import study
from compressors.build.artifacts import plan

ROOT = Path(__file__).parents[2]


def demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the script with programs that write down their arguments; the server then waits for its end."""
    for program, then in {"compress": "", "serve": "exec sleep 60", "loadtest": ""}.items():
        path = tmp_path / f"pareto-{program}"
        path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/{program}.txt\n{then}\n')
        path.chmod(0o755)
    return subprocess.run(
        ["bash", str(ROOT / "deploy" / "demo.sh"), *arguments],
        cwd=tmp_path, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip


def test_study_ports_folder_and_flags_reach_the_programs(tmp_path: Path) -> None:
    assert demo(tmp_path, "scenes", "1", "2", "runs/x", "--users", "1,4").returncode == 0
    assert (tmp_path / "compress.txt").read_text() == "build --study scenes --repository models\n"
    loading = (tmp_path / "loadtest.txt").read_text()
    assert "--target 127.0.0.1:1 " in loading
    assert "--model scenes " in loading
    assert loading.endswith("--out runs/x --users 1,4\n")


def test_the_model_of_a_file_of_a_study_is_called_as_the_file(tmp_path: Path) -> None:
    assert demo(tmp_path, "mine/small.toml", "1", "2", "runs/x").returncode == 0
    assert (tmp_path / "compress.txt").read_text() == "build --study mine/small.toml --repository models\n"
    assert "--model small " in (tmp_path / "loadtest.txt").read_text()


@pytest.mark.parametrize(
    ("target", "given", "variants"),
    [
        ("demo", "digits 8001 8002 runs/demo --users 1,8 ", 16),
        ("demo-detection", "scenes 8001 8002 runs/demo-detection --users 1,4 ", 5),
    ],
)
def test_make_gives_it_a_study_of_so_many_variants(target: str, given: str, variants: int) -> None:
    printed = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"bash deploy/demo.sh {given}" in printed.stdout
    (declared,) = study.load(given.split()[0])
    tasks, refused = plan(declared)
    assert (declared.model, len(tasks), refused) == (given.split()[0], variants, {})


def test_too_few_arguments_are_told_how_it_is_used(tmp_path: Path) -> None:
    told = demo(tmp_path, "1", "2")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("usage: deploy/demo.sh STUDY PORT METRICS_PORT OUT")
