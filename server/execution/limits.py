"""How each variant batches: the server's own limit, and those that are written for one model or one variant."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protos.errors import UsageError
from server.execution.batcher import BatchLimit

DEFAULT = BatchLimit(16)

FORM = re.compile(r"(?P<name>[^=:]+)=(?P<rows>\d+)(?::(?P<delay>\d+(?:\.\d*)?))?")
"""`MODEL[/VARIANT]=ROWS[:SECONDS]`; without SECONDS, the server's own delay holds."""


@dataclass(frozen=True)
class BatchLimits:
    """The limit of every variant."""

    default: BatchLimit = DEFAULT
    own: Mapping[str, BatchLimit] = field(default_factory=dict)
    """By `model/variant` or `model`."""

    def of(self, model: str, variant: str) -> BatchLimit:
        """The limit written for the variant, else that for its model, else the server's."""
        return self.own.get(f"{model}/{variant}") or self.own.get(model) or self.default


def make_limits(rows: int, delay: float, own: Sequence[str]) -> BatchLimits:
    """The limits that settings ask for; `UsageError` for an entry of `own` that is not of `FORM`."""
    default, found = BatchLimit(rows, delay), {}
    for text in own:
        match = FORM.fullmatch(text)
        if match is None or int(match["rows"]) < 1:
            raise UsageError(f"--batch: '{text}' came, expected MODEL=ROWS, MODEL/VARIANT=ROWS or either with :SECONDS")
        found[match["name"]] = BatchLimit(int(match["rows"]), float(match["delay"] or delay))
    return BatchLimits(default, found)
