"""What a study measured: its records laid against its plan, checked before anything is averaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness import record_file
from harness.config import folder_name, named
from harness.errors import UserError, unknown
from harness.evaluation.measures import known, measure
from harness.headline import headline

COLUMNS = (
    "grid", "scale", "method", "method_label", "condition", "condition_label", "level", "seed",
    "evaluation", "metric", "value", "n_test", "evaluate_key", "features_key", "pretrain_key",
    "protocol", "data_fingerprint", "images_seen", "device_seconds", "images_per_second",
    "threads", "precision", "git_commit", "code", "hardware", "torch", "created", "reference",
)
IDENTITY = ["method", "condition", "seed", "evaluation", "metric"]
EVALUATION_LABELS = {"linear": "linear", "knn": "kNN"}


@dataclass(frozen=True)
class Method:
    """One row of the study."""

    id: str
    label: str
    reference: bool


@dataclass(frozen=True)
class Condition:
    """One column of the study; `level` is its place on a numeric axis."""

    id: str
    label: str
    level: float | None
    role: str | None


@dataclass(frozen=True)
class Failure:
    """A planned cell without a number, why, and the command that runs it again."""

    method: str
    condition: str
    seed: int
    evaluation: str
    stage_key: str
    cause: str
    rerun: str


@dataclass(frozen=True)
class Study:
    """study.json as values; see `read_study`. `cells` maps (method, condition, seed, evaluation)
    to the key of the evaluation that fills it."""

    grid: str
    scale: str
    title: str
    caption: str
    figure: str
    data_label: str
    note: str
    methods: tuple[Method, ...]
    conditions: tuple[Condition, ...]
    axis_label: str
    axis_log: bool
    seeds: tuple[int, ...]
    evaluations: tuple[str, ...]
    headline: tuple[str, str]
    level: float
    kind: str
    cells: dict[tuple[str, str, int, str], str]
    failures: tuple[Failure, ...]
    command: str
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    papers: Mapping[str, Any] = field(default_factory=dict)  # see harness.paper_results
    data: str = ""  # the data=NAME of its images, where study.json tells

    @property
    def name(self) -> str:
        """The name of its folder."""
        return folder_name(self.grid, self.scale, self.data)

    @property
    def named(self) -> str:
        """The arguments that name it."""
        return named(self.grid, self.scale, self.data)

    def promised(self, evaluation: str) -> tuple[str, ...]:
        """The metric that is shown even when none of it was measured: the headline's if the
        evaluation has it, or else its own first."""
        own = self.metrics.get(evaluation, (self.headline[1],))
        return (self.headline[1],) if self.headline[1] in own else own[:1]

    @property
    def base(self) -> Condition:
        """The condition that differences are taken from: the curated one, or the first."""
        curated = [c for c in self.conditions if c.role == "curated"]
        return (curated or list(self.conditions))[0]


@dataclass(frozen=True)
class Cube:
    """One evaluation and metric: values and record rows, both (methods, conditions, seeds).

    `values` is NaN and `rows` is -1 where nothing was measured.
    """

    evaluation: str
    metric: str
    values: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """A study with the records that belong to it; `notes` say what a reader has to know.

    `folder` is where it was read from: other files that belong to it lie there (harness.beside).
    """

    study: Study
    records: pd.DataFrame
    notes: tuple[str, ...]
    folder: Path | None = None

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Planned and measured seeds."""
        return tuple(sorted({*self.study.seeds, *map(int, self.records["seed"].unique())}))

    @cached_property
    def keys(self) -> list[str]:
        """The evaluation key of every record."""
        return self.records["evaluate_key"].tolist()

    @cached_property
    def cubes(self) -> dict[tuple[str, str], Cube]:
        """(evaluation, metric) -> cube, headline first, then in the order of the study."""
        frame = self.records
        shape = (len(self.study.methods), len(self.study.conditions), len(self.seeds))
        axes: tuple[list[Any], ...] = (
            [m.id for m in self.study.methods], [c.id for c in self.study.conditions],
            list(self.seeds),
        )
        places = [pd.Index(axis).get_indexer(pd.Index(frame[name]))
                  for axis, name in zip(axes, IDENTITY[:3], strict=True)]
        value = frame["value"].to_numpy(np.float64)
        groups: dict[Any, Any] = dict(frame.groupby(["evaluation", "metric"]).indices)
        # what was promised is shown even when none of it was measured
        for evaluation in self.study.evaluations:
            for metric in self.study.promised(evaluation):
                groups.setdefault((evaluation, metric), np.array([], dtype=np.int64))
        cubes = {}
        for name in sorted(groups, key=self._rank):
            rows, values = groups[name], np.full(shape, np.nan)
            where = np.full(shape, -1, dtype=np.int64)
            at = tuple(place[rows] for place in places)
            values[at], where[at] = value[rows], rows
            cubes[name] = Cube(name[0], name[1], values, where)
        return cubes

    def _rank(self, name: tuple[str, str]) -> tuple[bool, bool, int, int, str]:
        evaluation, metric = name
        return (
            name != self.study.headline, metric != self.study.headline[1],
            index_or_end(self.study.evaluations, evaluation), index_or_end(known(), metric), metric,
        )

    @cached_property
    def failures(self) -> dict[tuple[str, str, int, str], Failure]:
        """(method, condition, seed, evaluation) -> failure."""
        return {(f.method, f.condition, f.seed, f.evaluation): f for f in self.study.failures}

    @cached_property
    def planned(self) -> dict[tuple[str, str, str], list[int]]:
        """(method, condition, evaluation) -> the seeds that the plan names."""
        seeds: dict[tuple[str, str, str], list[int]] = {}
        for method, condition, seed, evaluation in self.study.cells:
            seeds.setdefault((method, condition, evaluation), []).append(seed)
        return seeds


def index_or_end(options: tuple[str, ...], name: str) -> int:
    """The place of `name`, or one past the end."""
    return options.index(name) if name in options else len(options)


def describe(evaluation: str, metric: str) -> str:
    """"linear balanced accuracy"; of an id with a target, "linear top-1 accuracy on pets"."""
    name, _, target = evaluation.partition("@")
    where = f" on {target}" if target else ""
    shown = EVALUATION_LABELS.get(name, name.replace("_", " "))
    return f"{shown} {measure(metric).text}{where}"


def read(folder: Path) -> Measured:
    """The study in `folder` with its records, checked.

    Raises UserError naming file, record and remedy when either is missing, damaged or mixes
    protocols.
    """
    study = read_study(folder / "study.json")
    path = folder / "records.parquet"
    try:
        frame, notes = record_file.read(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run: {study.command}") from None
    found = check(study, frame, str(path))
    return replace(found, notes=(*notes, *found.notes), folder=folder)


def read_study(path: Path) -> Study:
    """study.json as a `Study`; UserError names what is missing or wrong in it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return parse_study(data)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run harness.sweep for this grid first") from None
    except KeyError as error:
        raise UserError(f"{path} lacks {error}; run harness.sweep again to rewrite it") from None
    except (UnicodeDecodeError, json.JSONDecodeError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); run harness.sweep again") from None


def parse_study(data: Mapping[str, Any]) -> Study:
    """study.json as values; KeyError or TypeError where it is not one."""
    axis = data["axis"] or {}
    cells = {(c["method"], c["condition"], int(c["seed"]), c["evaluation"]): c["key"]
             for c in data["cells"]}
    metrics = {name: tuple(asked["metrics"])
               for name, asked in (data.get("protocols") or {}).items()}
    study = Study(
        grid=data["grid"], scale=data["scale"], title=data["title"], caption=data["caption"],
        figure=data["figure"], data_label=data["data_label"], note=data["note"] or "",
        methods=tuple(Method(m["id"], m["label"], bool(m["reference"])) for m in data["methods"]),
        conditions=tuple(_condition(c) for c in data["conditions"]),
        axis_label=axis.get("label", ""), axis_log=bool(axis.get("log", False)),
        seeds=tuple(data["seeds"]), evaluations=tuple(data["evaluations"]),
        headline=headline((data["headline"]["evaluation"], data["headline"]["metric"]),
                          {name: metrics.get(name, ()) for name in data["evaluations"]}),
        level=float(data["interval"]["level"]), kind=data["interval"]["kind"], cells=cells,
        failures=tuple(Failure(**{k: f[k] for k in Failure.__annotations__})
                       for f in data["failures"]),
        command=data["command"],
        metrics=metrics,
        papers=data.get("papers") or {}, data=str(data.get("data", "")),
    )
    if study.figure not in ("gap", "curve"):
        raise unknown("figure", study.figure, ("gap", "curve"), "study.json")
    if study.kind != "t":
        raise unknown("interval", study.kind, ("t",), "study.json")
    if not study.methods or not study.conditions:
        raise UserError("study.json names no method or no condition; run harness.sweep again")
    return study


def _condition(data: Mapping[str, Any]) -> Condition:
    level = data.get("level")
    return Condition(data["id"], data["label"], None if level is None else float(level),
                     data.get("role"))


def check(study: Study, frame: pd.DataFrame, where: str) -> Measured:
    """`frame` restricted to the cells of `study`, refused by name if it cannot be averaged."""
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise UserError(f"{where} lacks {', '.join(lacking)}; delete it, it is made again")
    kept = _of_this_study(study, frame)
    notes = []
    if len(kept) < len(frame):
        notes.append(f"{len(frame) - len(kept)} records belong to no cell of this study "
                     "(another method, condition or configuration) and are left out.")
    _refuse_bad_values(kept, where)
    _refuse_duplicates(kept, where)
    _refuse_mixed_protocols(kept, where)
    return Measured(study, kept, (*notes, *_mixtures(kept)))


def _of_this_study(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    keep = (frame["method"].isin([m.id for m in study.methods])
            & frame["condition"].isin([c.id for c in study.conditions])
            & frame["evaluation"].isin(study.evaluations))
    if study.cells:
        keep &= frame["evaluate_key"].isin(set(study.cells.values()))
    return frame[keep].sort_values(IDENTITY, kind="stable").reset_index(drop=True)


def name_of(row: pd.Series) -> str:
    """"moclr / uncurated / seed 1 / linear top1"."""
    return (f"{row['method']} / {row['condition']} / seed {row['seed']} / "
            f"{row['evaluation']} {row['metric']}")


def _refuse_bad_values(frame: pd.DataFrame, where: str) -> None:
    metrics = {name: measure(name) for name in frame["metric"].unique()}
    low = np.array([metrics[name].low for name in frame["metric"]], dtype=np.float64)
    high = np.array([metrics[name].high for name in frame["metric"]], dtype=np.float64)
    bad = frame[~((frame["value"] >= low) & (frame["value"] <= high))]
    if len(bad):
        first = bad.iloc[0]
        found = metrics[first["metric"]]
        what = "a fraction " if found.unit == "share" else ""
        raise UserError(f"{where}: {name_of(first)} has value {first['value']}, not {what}in "
                        f"[{found.low:g}, {found.high:g}] ({len(bad)} such records); delete the "
                        "file, it is made again")


def _refuse_duplicates(frame: pd.DataFrame, where: str) -> None:
    double = frame[frame.duplicated(IDENTITY, keep=False)]
    if len(double):
        first = double.iloc[0]
        keys = ", ".join(sorted({str(k)[:12] for k in double["evaluate_key"].iloc[:2]}))
        raise UserError(f"{where}: {name_of(first)} is recorded more than once ({keys}); "
                        "delete the file, it is made again")


def _refuse_mixed_protocols(frame: pd.DataFrame, where: str) -> None:
    for evaluation, group in frame.groupby("evaluation"):
        counts = group.groupby("protocol").size()
        if len(counts) > 1:
            listed = ", ".join(f"{p} ({n} records)" for p, n in counts.items())
            odd = group[group["protocol"] == counts.idxmin()].iloc[0]
            raise UserError(f"{where}: '{evaluation}' was measured under {len(counts)} protocols: "
                            f"{listed}; for example {name_of(odd)}; run harness.sweep again")


def _mixtures(frame: pd.DataFrame) -> list[str]:
    """Differences between records that a reader has to know but that do not forbid a mean."""
    names = {"git_commit": "commits", "code": "states of uncommitted code",
             "torch": "torch versions", "hardware": "kinds of hardware", "precision": "precisions"}
    notes = []
    for column, noun in names.items():
        found = sorted(map(str, frame[column].dropna().unique()))
        if len(found) > 1:
            shown = ", ".join(v[:40] or "(none)" for v in found[:4])
            notes.append(f"The records come from {len(found)} {noun}: {shown}"
                         f"{', ...' if len(found) > 4 else ''}.")
    sizes = frame.groupby(["evaluation", "metric"])["n_test"].nunique()
    for evaluation, metric in sizes[sizes > 1].index:
        notes.append(f"The test sets behind {describe(evaluation, metric)} differ in size.")
    return notes
