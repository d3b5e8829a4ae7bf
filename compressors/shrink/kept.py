"""Results that are not networks, such as measurements, kept in the cache of a build as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from compressors.build.cache import Cache
from protos.support.options import Dataclass
from protos.support.strict import decode

Result = TypeVar("Result", bound=Dataclass)

FILE = "result.json"


def kept(cache: Cache, step_key: str, kind: type[Result], make: Callable[[], Result]) -> Result:
    """Returns the result of a step, a dataclass `kind`, as the cache has it; made and put there where it has none."""
    folder = cache.folder(step_key)
    if not folder.is_dir():
        made = make()
        with cache.appearing(step_key) as staging:
            (staging / FILE).write_text(json.dumps(asdict(made)))
    return decode(kind, json.loads((folder / FILE).read_text()), FILE)
