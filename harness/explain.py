"""One published number: where it is from, what would fill it, what the store has, and the verdict.

    python -m harness.explain dnc/table3:YFCC100M,DnC,4500:imagenet_top1
    python -m harness.explain dnc/table8:DnC:e3000 scale=laptop
    python -m harness.explain TABLE:ROW:COLUMN results=DIR

    ROW           its position from 0, or key cells joined by commas, as many as tell it apart
    scale=NAME    only that scale (default: all of them)
    data=NAME     the images of the scales below `paper` (default photos)
    results=DIR   the root of everything that is written (default results)

exit codes: 0 explained, 2 no such cell
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .arguments import RESULTS, parse, studies, wants_help
from .errors import UserError, door, unknown
from .papers import Cell, PaperTable, cell, label, tables
from .papers_print import fill_text

DEFAULTS = {"scale": "", "data": "photos", "results": RESULTS}
WIDTH = 12  # digits of a key that are shown


def main(arguments: list[str]) -> int:
    """Print the explanation."""
    if not arguments or wants_help(arguments):
        print(__doc__)
        return 0 if arguments else 2
    table, found, place = find(arguments[0])
    options = parse(arguments[1:], DEFAULTS, "harness.explain")
    for line in published(table, found, place):
        print(line)
    if not found.derived and (found.fill or found.stand_in):
        for scale in _scales(options["scale"]):
            for line in at_scale(table, place, scale, options):
                print(line)
    for line in measured(table, place, Path(options["results"]).expanduser()):
        print(line)
    return 0


def find(name: str) -> tuple[PaperTable, Cell, tuple[int, str]]:
    """The table, cell and place that TABLE:ROW:COLUMN names; UserError says what there is."""
    parts = name.split(":")
    if len(parts) < 3:
        raise UserError(f"harness.explain: '{name}' is no cell; write TABLE:ROW:COLUMN, for "
                        "instance dnc/table3:YFCC100M,DnC,4500:imagenet_top1")
    key, row, column = parts[0], ":".join(parts[1:-1]), parts[-1]
    known = tables()
    if key not in known:
        raise unknown("table", key, known, "harness.explain")
    table = known[key]
    found = cell(table, int(row) if row.isdigit() and not _is_key(table, row) else row, column)
    position = next(i for i, r in enumerate(table.rows) if table.key(r) == found.key)
    return table, found, (position, column)


def _is_key(table: PaperTable, text: str) -> bool:
    """Whether a number is a key cell of the table, so that it is no position."""
    return any(text in label(table, row).split(",") for row in table.rows)


def published(table: PaperTable, found: Cell, place: tuple[int, str]) -> Iterator[str]:
    """What the paper says: value, source, page, notes."""
    about = "~" if found.approximate else ""
    page = f", page {table.page}" if table.page else ""
    yield f"{table.id}: {label(table, table.rows[place[0]])}: {found.column}"
    yield f"  published  {about}{found.value:g} {found.unit} ({table.number}{page})"
    yield (f"  paper      {table.paper['title']}, arXiv {table.paper['arxiv']}; "
           f"{table.paper['version']}")
    yield f"  source     {found.source}; measured by: {found.measured_by}"
    for name in dict.fromkeys(part.strip().replace(":", " ").split(" ")[0]
                              for part in found.source.split(";")):
        yield f"             {name}: {table.sources[name]}"
    yield f"  metric     {table.metric}"
    yield f"  protocol   {table.protocol}"
    for note in filter(None, (found.note, table.note)):
        yield f"  note       {note}"
    if found.assumed:
        yield f"  assumed    the paper does not state the epochs; {found.assumed}"
    if found.fill:
        yield f"  filled by  {fill_text(found.fill)}"
    elif found.derived == "mean":
        yield f"  mean of    the row's other columns, by seed ({found.why_not})"
    elif found.parts:
        yield f"  difference {found.parts[0]}"
        yield f"       minus {found.parts[1]}, paired by seed"
        yield f"  run it     python -m harness.sweep table={_table_of(found)} scale=SCALE"
    else:
        yield f"  not filled {found.why_not}"
    if found.stand_in:
        yield f"  stand-in   {fill_text(found.stand_in)}"


def _table_of(found: Cell) -> str:
    """What `table=` takes to have both parts of a difference in one study."""
    names = {part.split(":")[0] for part in (found.table, *found.parts)}
    return found.table if len(names) == 1 else found.table.split("/")[0]


def _scales(name: str) -> list[str]:
    from .config import choices

    known = list(choices("scale"))
    if name and name not in known:
        raise unknown("scale", name, known, "harness.explain")
    return [name] if name else known


def at_scale(table: PaperTable, place: tuple[int, str], scale: str,
             options: Mapping[str, str]) -> Iterator[str]:
    """The stages that would fill the cell at a scale, with their keys and what the store has."""
    plan, told = _planned(table, place, scale, options)
    yield f"at scale {scale}:"
    if "reason" in told:
        yield f"  not filled {told['reason']}"
        return
    refused = plan.refused.get((told["method"], told["condition"]))
    if refused:
        yield f"  not filled {refused}"
        return
    row = next(r for r in plan.study.rows if r.id == told["method"])
    yield f"  row        {row.label}; on {told['condition']}; {told['evaluation']} {told['metric']}"
    for line in told.get("differs", ()):
        yield f"  differs    {line}"
    from .stages import in_order

    seed = plan.study.seeds[0]
    cells = [c for c in plan.cells if c.seed == seed and c.evaluation == told["evaluation"]
             and (c.row.id, c.condition.id) == (told["method"], told["condition"])]
    yield f"  stages     of seed {seed} (seeds {', '.join(map(str, plan.study.seeds))})"
    for stage in in_order(c.stage for c in cells):
        state = "in the store" if stage.key in plan.done else "to run"
        yield f"    {stage.key[:WIDTH]}  {_what(stage):44}  {state}"
    for line in plan.cautions:
        yield f"  caution    {line}"
    yield (f"  run it     python -m harness.sweep table={table.id} scale={scale}"
           + (f" data={options['data']}" if options["data"] != DEFAULTS["data"] else ""))


def _planned(table: PaperTable, place: tuple[int, str], scale: str,
             options: Mapping[str, str]) -> tuple[Any, Mapping[str, Any]]:
    from .config import compose
    from .plan import make_plan
    from .store import Store
    from .study import resolve_study

    study = resolve_study(compose([
        f"table={table.id}", f"scale={scale}", f"data={options['data']}", "dry_run=true",
        f"results={options['results']}"]))
    told = next(cell for cell in study.papers[table.id]["cells"]
                if (cell["row"], cell["column"]) == place)
    return make_plan(study, Store(study.results / "store")), told


def _what(stage: Any) -> str:
    """"pretrain moclr, 1000 passes", "evaluate linear on imagenet"."""
    params = stage.params
    if stage.kind == "pretrain":
        expert = f", expert {params['subset']}" if "subset" in params else ""
        length = f", {params['training']['epochs']:.4g} passes" if "training" in params else ""
        return f"pretrain {params['method']}{expert}{length}"
    if stage.kind == "cluster":
        return f"cluster into {params['k']}"
    if stage.kind == "features":
        return f"features of {params['data']['source']}"
    return f"evaluate {params['evaluation']}"


def measured(table: PaperTable, place: tuple[int, str], results: Path) -> Iterator[str]:
    """What the studies of this store have measured for the cell, each with its verdict."""
    import json

    if not results.is_dir():
        yield f"measured: nothing; there is no {results}"
        return
    seen = False
    for name in studies(results):
        folder = results / name
        if table.id not in (json.loads((folder / "study.json").read_text()).get("papers") or {}):
            continue
        seen = True
        yield from _verdict(folder, table, place)
    if not seen:
        yield f"measured: nothing; no study in {results} asks for {table.id}"


def _verdict(folder: Path, table: PaperTable, place: tuple[int, str]) -> Iterator[str]:
    from .measured import read
    from .paper_results import paper_results

    if not (folder / "records.parquet").exists():
        yield f"measured in {folder.name}: no record yet"
        return
    found = next(r for r in paper_results(read(folder)) if r.table.id == table.id).results[place]
    ours = found.ours.text(2, 1.0)
    delta = "" if found.ours.missing else f", delta {found.verdict.delta:+.2f}"
    yield f"measured in {folder.name}: {ours} {found.cell.unit}{delta}: {found.verdict.name}"
    for reason in found.verdict.why:
        yield f"  why        {reason}"
    keys = dict(zip(found.values, found.keys, strict=False))  # what is derived has none
    for seed, value in found.values.items():
        yield f"  seed {seed}     {value:.2f}  {keys.get(seed, '')[:WIDTH]}".rstrip()


run = door(main)

if __name__ == "__main__":
    run()
