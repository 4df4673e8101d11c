"""What a sweep of papers' tables says before it runs: how much of them, at what price, on which
assumptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .plan import Plan
from .pricing import Quote, quote
from .progress import duration
from .store import Store

MOST_ROWS = 40


def print_plan(plan: Plan, store: Store) -> None:
    """The tables, the plan and its price in a few lines."""
    for line in lines(plan, quote(plan, store) if plan.todo else None):
        print(line)


def lines(plan: Plan, price: Quote | None) -> Iterator[str]:
    """The same as lines; `price` is None where nothing is left to run."""
    study = plan.study
    cells = [cell for entry in study.papers.values() for cell in entry["cells"]]
    asked = [cell for cell in cells if "method" in cell and "reason" not in cell
             and (cell["method"], cell["condition"]) not in plan.refused]
    made = sum("derived" in cell for cell in cells)
    yield (f"{study.name} at {study.scale} scale: {len(asked)} of {len(cells)} published cells of "
           f"{len(study.papers)} tables, by {len(study.rows)} rows x {len(study.seeds)} seeds"
           + (f"; {made} cells more are means or differences of them" if made else ""))
    for note, names in _notes(plan).items():
        yield f"  {names}: {note}"
    for kind, total, todo in plan.counts():
        yield f"  {kind:9} {total:6} stages  {total - todo:6} paid for  {todo:6} to run"
    yield from _not_asked(plan)
    if price is not None:
        yield from price_lines(price)


def _notes(plan: Plan) -> dict[str, str]:
    """What a scale made of the tables, each note once with the tables that it is of."""
    notes: dict[str, list[str]] = {}
    for name, entry in plan.study.papers.items():
        if any("reason" not in cell for cell in entry["cells"]):
            notes.setdefault(entry["note"], []).append(name)
    return {note: ", ".join(names) for note, names in notes.items()}


def _not_asked(plan: Plan) -> Iterator[str]:
    """Why cells stay empty, the commonest reason first."""
    reasons: Counter[str] = Counter()
    for entry in plan.study.papers.values():
        for cell in entry["cells"]:
            refused = plan.refused.get((cell.get("method", ""), cell.get("condition", "")))
            if reason := cell.get("reason") or refused:
                reasons[" ".join(reason.split())] += 1
    for reason, number in reasons.most_common():
        yield f"  not asked: {number} cells: {reason}"


def price_lines(price: Quote) -> Iterator[str]:
    """GPU-hours by row and in all, disk, jobs, what sharing saves, and what is assumed."""
    jobs = ", ".join(f"{number} {kind}" for kind, number in price.jobs.items())
    unit = "GPU-hours" if price.measured < sum(price.jobs.values()) else "worker-hours"
    yield f"price by row, {unit} (alone; of it still to run):"
    width = max(len(label) for label, _, _ in price.rows)
    for label, alone, todo in price.rows[:MOST_ROWS]:
        yield f"  {label:{width}}  {hours(alone):>10}  {hours(todo):>10}"
    if len(price.rows) > MOST_ROWS:
        yield f"  ... and {len(price.rows) - MOST_ROWS} rows more"
    yield (f"price: {hours(price.seconds)} {unit}, {price.bytes / 2**30:,.1f} GiB of disk, "
           f"{sum(price.jobs.values())} jobs ({jobs})")
    saved = price.alone - price.whole
    if saved > 0:
        yield (f"  sharing saves {hours(saved)} of {hours(price.alone)} {unit} "
               f"({saved / price.alone:.0%}): a stage that several rows need is run once")
    yield (f"  the longest chain of stages takes {duration(price.longest)}, "
           "however many workers there are")
    if price.measured:
        yield f"  {price.measured} stages are priced by step times measured in this store"
    if price.measured < sum(price.jobs.values()):
        yield (f"  assumed, not measured: {price.gpu} at a sustained {price.teraflops:g} TFLOP/s "
               "(pricing.teraflops); backbone only, 3 forward passes a trained view, 1 a teacher's "
               "view; decoding and heads not counted")


def hours(seconds: float) -> str:
    """Hours with two digits after the point below 100, none above; the least is "<0.01"."""
    value = seconds / 3600
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
