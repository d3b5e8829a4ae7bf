"""A second opinion on a run: one variant asked by h2load too, and extrapolated to a load generator that takes nothing.

The fastest valid variant stands for all, under the plan's first closed load. The own load generator is measured right
before h2load and right after it, with the same single request, so that drift can be told from a difference.
"""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from loadtest.analysis.results import Cell
from loadtest.analysis.validity import is_valid
from loadtest.client.metrics_page import Page, read_again
from loadtest.generator import generator_share, h2load
from loadtest.generator.opinion import CrossCheck, Pace, SecondOpinion, cross_check
from loadtest.measure.block import RunContext
from loadtest.measure.measurement import steady_latencies
from loadtest.plan import Block, Load
from protos import telemetry
from protos.support import significance


def ask(context: RunContext, cells: Sequence[Cell], console: Console) -> SecondOpinion | None:
    """Measures for about seven times the plan's `second_opinion` seconds; None where that is 0 or no cell is valid."""
    load = next((each for each in context.plan.loads if each.scenario == "closed"), Load("closed", 1))
    cell = _fastest(cells, load)
    variant = cell.variant if cell else None if cells else next(iter(context.variants))
    if not context.plan.second_opinion or variant is None:
        return None
    seconds, alone, block = context.plan.second_opinion, _alone(context, variant, load), Block(variant, load, 0)
    console.print(f"{variant}, {load.name}, asked by h2load, too", highlight=False, markup=False)
    served, opinion = context.variants[variant], SecondOpinion(variant, load)
    try:
        opinion = replace(opinion, cross_check=_cross_check(alone, block, seconds, served.metrics_url))
    except h2load.NoOpinionError as error:
        opinion = replace(opinion, missing=str(error))
    if not context.plan.on_one_machine or served.target.name:
        return opinion
    raw = cell.throughput_rps if cell and cell.load == load else None
    return replace(opinion, without_generator=generator_share.measure(alone, block, seconds, raw))


def _fastest(cells: Sequence[Cell], load: Load) -> Cell | None:
    """Returns the valid cell with the most answers per second under a load, or under any where nobody had that one."""
    valid = [cell for cell in cells if is_valid(cell)]
    under = [cell for cell in valid if cell.load == load] or valid
    return max(under, key=lambda cell: cell.throughput_rps, default=None)


def _alone(context: RunContext, variant: str, load: Load) -> RunContext:
    """Returns a context with one variant, one closed load and one request."""
    rows = [rows for name, rows in context.payloads if name == variant]
    sent, users, served = min(rows, key=lambda each: each != context.plan.rows), (int(load.level),), context.variants
    plan = replace(context.plan, users=users, rates=(), rate=None, offline=(), find_max_rate=False, rows=sent)
    return replace(
        context,
        plan=replace(plan, warmup=h2load.WARMUP_SECONDS),
        variants={variant: replace(served[variant], metrics_url=None)},
        payloads={(variant, sent): context.payloads[variant, sent][:1]},
    )


def _cross_check(alone: RunContext, block: Block, seconds: float, metrics_url: str | None) -> CrossCheck:
    """Measures the own generator, h2load, and the own again; raises `NoOpinionError` where a call fails."""
    h2load.check_plan(alone.plan)
    served, (payload,) = alone.variants[block.variant], next(iter(alone.payloads.values()))
    own = replace(alone, plan=replace(alone.plan, duration=seconds / 2))
    before, page = _own(own, block), read_again(metrics_url)
    users = alone.plan.users_of(block.load)
    calls = h2load.run(alone.plan, served.target.address, payload.request, users, seconds)
    _check_count(page, read_again(metrics_url), calls.status.size - users, alone.plan.model, served.variant)
    return cross_check(before, h2load.pace(calls, seconds), _own(own, block))


def _own(context: RunContext, block: Block) -> Pace:
    taken = context.measure(block)
    if taken.failures:
        raise h2load.NoOpinionError(f"calls of the own load generator failed beside it ({taken.failures[0].text})")
    if not taken.answered:
        raise h2load.NoOpinionError(f"the own load generator got no answer beside it within {taken.seconds:.1f} s")
    p50 = significance.quantile(steady_latencies(taken.samples.rows) * 1e3, 0.5)
    return Pace(taken.answered / taken.seconds, p50)


def _check_count(before: Page | None, after: Page | None, least: int, model: str, variant: str) -> None:
    """Raises `NoOpinionError` where the server counted fewer answers without an error than h2load saw."""
    answered = {"model": model, "variant": variant, "code": "OK"}
    totals = [page.total(telemetry.REQUESTS.series[0], **answered) for page in (before, after) if page]
    if len(totals) == 2 and totals[1] is not None and (counted := totals[1] - (totals[0] or 0.0)) < least:
        raise h2load.NoOpinionError(
            f"its calls failed: the server gave {counted:.0f} answers, expected at least {least}"
        )
