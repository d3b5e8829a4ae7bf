"""`pareto-loadtest doctor HOST:PORT`: what a server of the Open Inference Protocol speaks, and what would fail.

The protocol has dialects, and servers differ in what they have beyond its core. The doctor asks any server with a few
dozen small requests, changes nothing in it, and makes a finding of each answer. This module says what a finding is;
`loadtest.doctor.server_checks` has the questions. Not covered: how fast the server is, and whether its
numbers are right.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from loadtest.access import Access
from loadtest.client.failures import plain
from protos.support import options

Verdict = Literal["ok", "absent", "fails"]
"""It works; the server does not have it; it breaks the protocol, or a load test needs it and it is absent."""


@dataclass(frozen=True, kw_only=True)
class Settings(Access):
    """What the doctor examines, beside the server's address."""

    model: str | None = field(default=None, metadata={"metavar": "NAME"})
    """model to examine, as the server names it; without it every model that the server lists, one of them closely"""
    repository: Path = Path("models")
    """repository whose golden.npz holds real inputs; without one, inputs are made from the model's metadata"""
    deadline: float = field(default=3.0, metadata=options.between(0.05, 600.0))
    """seconds to wait for each answer"""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    about: str
    """'server', or the model and variant."""
    what: str
    verdict: Verdict
    seen: str
    means: str = ""
    """What it means for a load test; empty where nothing."""


@dataclass(frozen=True)
class Diagnosis:
    """All findings on one server."""

    target: str
    server: str
    """Its name and version, as `run` writes them into its results."""
    way_in: str
    """What takes ModelInfer in, where the server is ours; else empty."""
    model: str | None
    """The model whose variant was examined closely, if there was one."""
    ready_for_load: bool
    """Whether `run` can load that variant: described, ready, and a request of one row answered as it should be."""
    findings: tuple[Finding, ...]

    @property
    def would_fail(self) -> list[str]:
        """The findings that fail and matter to a load test, in words."""
        return [f"{f.about}: {f.what}: {f.means}" for f in self.findings if f.verdict == "fails" and f.means]

    def document(self) -> str:
        """Returns everything as one line of JSON."""
        return json.dumps(asdict(self) | {"would_fail": self.would_fail})


def make_finding(about: str, what: str, verdict: Verdict, seen: str, means: str = "") -> Finding:
    """Returns a finding, its texts made `plain`."""
    return Finding(plain(about), what, verdict, plain(seen), plain(means))


def lines(diagnosis: Diagnosis, verbose: bool = False) -> Iterator[str]:
    """Yields what a person reads: for each server, model and variant the checks that did not pass, and the verdict.

    With `verbose` all checks are named.
    """
    yield ", ".join(filter(None, [f"{diagnosis.server} on {diagnosis.target}", diagnosis.way_in]))
    for about in dict.fromkeys(each.about for each in diagnosis.findings):
        mine = [each for each in diagnosis.findings if each.about == about]
        yield f"{about}: {sum(each.verdict == 'ok' for each in mine)} of {len(mine)} checks passed"
        yield from _details([each for each in mine if verbose or each.verdict != "ok"])
    failed = sum(each.verdict == "fails" for each in diagnosis.findings)
    of = f"{failed} of {len(diagnosis.findings)} checks"
    if diagnosis.ready_for_load:
        yield "Ready for a load test" + (f", but {of} would fail" if failed else "")
    else:
        yield f"A load test would fail: {of}"


def _details(findings: Sequence[Finding]) -> Iterator[str]:
    for each in findings:
        yield f"  {each.verdict:<6}  {each.what}: {each.seen}"
        if each.means:
            yield f"          so {each.means}"
