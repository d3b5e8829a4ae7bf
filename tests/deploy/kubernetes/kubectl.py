"""What kubectl makes of the manifests, and what Kubernetes' own schemas say of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

BIN = Path(sys.executable).parent


def plant(path: Path, old: str, new: str) -> None:
    """Makes a mistake in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def build(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of a folder."""
    done = subprocess.run([BIN / "kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def by_kind(folder: Path) -> dict[str, dict[str, Any]]:
    """The same by kind, where there is one of each."""
    return {each["kind"]: each for each in build(folder)}


def refused(resources: list[dict[str, Any]], folder: Path) -> list[str]:
    """What Kubernetes' schemas say against its own kinds; `folder` takes a file."""
    path = folder / "core.yaml"
    path.write_text(yaml.safe_dump_all(resources))
    check = [BIN / "kubernetes-validate", "--strict", "--quiet", path]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    return [done.stdout + done.stderr] if done.returncode else []
