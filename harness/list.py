"""What there is: methods, datasets, controls, evaluations, grids, scales, launchers, tables,
claims.

    python -m harness.list methods
    python -m harness.list methods name=dnc
    python -m harness.list methods plugins=PATH
    python -m harness.list datasets
    python -m harness.list datasets name=imagenet path=FOLDER
    python -m harness.list tables name=dnc/table3
    python -m harness.list claims name=dnc/partition
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .arguments import parse, wants_help
from .config import GROUPS, choices
from .errors import UserError, door, unknown

DEFAULTS = {"name": "", "plugins": "", "path": ""}


def main(arguments: list[str]) -> int:
    """Print one listing, or one entry in full."""
    if not arguments or wants_help(arguments):
        print(f"{__doc__}\nlistings: {', '.join(LISTINGS)}")
        return 0 if arguments else 2
    what, *rest = arguments
    if what not in LISTINGS:
        raise unknown("listing", what, LISTINGS, "harness.list")
    options = parse(rest, DEFAULTS, "harness.list")
    entries = LISTINGS[what](options)
    if options["name"]:
        if options["name"] not in entries:
            raise unknown(what.rstrip("s"), options["name"], entries, "harness.list")
        _print_one(options["name"], entries[options["name"]])
    else:
        _print_all(entries)
    return 0


Entries = Mapping[str, Mapping[str, Any]]


def methods(options: Mapping[str, str]) -> Entries:
    """Every method with its paper, needs and options; no method is imported."""
    from methods.registry import discover

    plugins = [Path(p).expanduser() for p in options["plugins"].split(",") if p]
    try:
        specs = discover(plugins)
    except ValueError as error:
        raise UserError(str(error)) from None
    return {name: {
        "summary": spec.summary, "kind": spec.kind, "paper": spec.paper,
        "views": _views(spec.views), "needs": ", ".join(spec.needs),
        "revision": spec.revision, "file": f"{spec.file.name}:{spec.line}",
        "options": [_option(o) for o in spec.options.values()],
    } for name, spec in specs.items()}


def datasets(options: Mapping[str, str]) -> Entries:
    """Every source of images, and of dense annotations, with what it needs on disk, by group and
    name; of the source that is named, whether it is here."""
    import datasets as package
    from datasets import dense

    sources = {name: package.describe(name) for name in package.SOURCES}
    if (name := options["name"]) in sources:
        spec = {"source": name, "path": options["path"] or None}
        sources[name]["here"] = package.open_source(spec).problem() or "yes"
    found = {**{name: {"group": _group(entry), **entry} for name, entry in sources.items()},
             **{name: {"group": DATASETS[3], **dense.describe(name)} for name in dense.READERS}}
    return dict(sorted(found.items(), key=lambda e: (DATASETS.index(e[1]["group"]), e[0])))


DATASETS = ("nothing to fetch", "images of your own", "published",
            "published, with boxes, masks or depth")


def _group(entry: Mapping[str, Any]) -> str:
    if entry["layout"].startswith("nothing to prepare"):
        return DATASETS[0]
    return DATASETS[1] if entry["licence"].endswith(" own") else DATASETS[2]


def controls(options: Mapping[str, str]) -> Entries:
    """Every control with its parameters."""
    from datasets import CONTROLS

    return {name: {
        "summary": (control.function.__doc__ or "").strip().split("\n")[0],
        "revision": control.revision,
        "parameters": [str(p) for p in control.parameters.values()],
    } for name, control in CONTROLS.items()}


def evaluations(options: Mapping[str, str]) -> Entries:
    """Every evaluation with its options."""
    from .evaluation import evaluations as found

    return {name: {"summary": e.summary, "revision": e.revision, "takes": e.takes,
                   "metrics": ", ".join(e.may_return()),
                   "options": [_option(o) for o in e.options.values()]}
            for name, e in found().items()}


def tables(options: Mapping[str, str]) -> Entries:
    """Every published table: its cells, how many of them can be filled here, and by what."""
    from .papers_print import listing

    return listing()


def claims(options: Mapping[str, str]) -> Entries:
    """Every claim of a paper: what is compared, where, and what the paper prints."""
    from .claims_data import listing

    return listing()


def _configurations(group: str) -> Callable[[Mapping[str, str]], Entries]:
    """A listing of a configuration group: each file's opening comment says what it is."""

    def listing(options: Mapping[str, str]) -> Entries:
        return {name: {"summary": _comment(path), "file": path.name}
                for name, path in choices(group).items()}

    return listing


LISTINGS: dict[str, Callable[[Mapping[str, str]], Entries]] = {
    "methods": methods, "datasets": datasets, "controls": controls, "evaluations": evaluations,
    "grids": _configurations(GROUPS[0]), "scales": _configurations(GROUPS[1]),
    "launchers": _configurations(GROUPS[2]), "data": _configurations(GROUPS[3]),
    "tables": tables, "claims": claims,
}


def _comment(path: Path) -> str:
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _views(views: Any) -> str:
    if not views:
        return ""
    return ", ".join(v if isinstance(v, str) else str(dict(v)) for v in views)


def _option(option: Any) -> str:
    """"temperature: float = 0.1 (> 0) help [source]"."""
    signs = (("above", ">"), ("at_least", ">="), ("below", "<"), ("at_most", "<="))
    limits = [f"{sign} {getattr(option, name)}" for name, sign in signs
              if getattr(option, name) is not None]
    if option.choices is not None:
        limits.append("|".join(map(str, option.choices)))
    text = f"{option.name}: {option.type} = {option.default}"
    text += f" ({', '.join(limits)})" if limits else ""
    text += f"  {option.help}" if option.help else ""
    return text + (f"  [{option.source}]" if option.source else "")


def _print_all(entries: Entries) -> None:
    width = max(map(len, entries), default=0)
    group = ""
    for name, entry in entries.items():
        if entry.get("group", "") != group:
            print(f"{'' if not group else chr(10)}{(group := entry['group'])}:")
        summary = entry.get("summary") or entry.get("title") or ""
        paper = f"  [{entry['paper']}]" if entry.get("paper") else ""
        needs = f"  needs {entry['needs']}" if entry.get("needs") else ""
        size = f"  ({entry['size']})" if entry.get("size") else ""
        print(f"{name:{width}}  {summary}{size}{paper}{needs}")


def _print_one(name: str, entry: Mapping[str, Any]) -> None:
    print(name)
    for key, value in entry.items():
        if isinstance(value, str) and "\n" in value:
            _print_lines(key, value.splitlines())
        elif isinstance(value, Mapping):
            _print_lines(key, (f"{k}: {v}" for k, v in value.items()))
        elif isinstance(value, (list, tuple)):
            _print_lines(key, map(str, value))
        elif value not in (None, ""):
            print(f"  {key}: {value}")


def _print_lines(key: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        print(f"  {key}:")
    for line in lines:
        print(f"    {line}")


run = door(main)

if __name__ == "__main__":
    run()
