"""Why variants that a study names are not in the repository: `<root>/<model>/unbuilt.json`, beside the variants.

    {"int8-dynamic-openvino": "refused: ...", "int8-pytorch": "failed: ..."}

It is what the last build left out, and is written whole or not at all. No server reads it.
"""

import json
from pathlib import Path

from protos.support import atomic

FILE = "unbuilt.json"
FAILED = "failed: "


def save(folder: Path, refused: dict[str, str], failed: dict[str, str]) -> None:
    """Writes the file of the model whose variants lie in `folder`, or removes it where nothing was left out."""
    reasons = {name: f"refused: {why}" for name, why in refused.items()}
    reasons |= {name: FAILED + why for name, why in failed.items()}
    if not reasons:
        (folder / FILE).unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / FILE, json.dumps(reasons, indent=2) + "\n")


def load(folder: Path) -> dict[str, str]:
    """Returns the reasons by variant; none where there is no such file, or none that can be read."""
    try:
        reasons = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(why) for name, why in reasons.items()} if isinstance(reasons, dict) else {}
