"""DnC's expression: what each partition, schedule and choice of teachers asks to be run."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import training_fixtures
from test_plan import plan_of, pretrainings
from torch import Tensor

from datasets import views
from harness.stages import in_order
from harness.training.loop import Loop
from harness.training.teachers import Teachers
from methods import Pretrain, discover, load_recipe
from methods.base import Info, Method
from methods.options import resolve

SPEC = discover()["dnc"]


def expand(epochs: float = 1000.0, **values: object) -> Pretrain:
    """Return the student of a row with these options."""
    options, problems = resolve(SPEC.options, values, "dnc")
    assert not problems
    return load_recipe(SPEC)(epochs, options)


@pytest.mark.parametrize(("schedule", "epochs"), [
    ("1000", (5, 200, 600, 200)), ("3000", (5, 1000, 1500, 500)), ("4500", (10, 1000, 3000, 500))])
def test_schedules_are_those_of_table_2(schedule: str, epochs: tuple[int, ...]) -> None:
    """A named schedule implies its shares and its number of clusters, which `k` still overrides."""
    k, base, experts, distil = epochs
    student = expand(float(schedule), schedule=schedule, base_share=7.0)
    first, *others = student.teachers
    assert (len(others), first.epochs, others[0].epochs, student.epochs) == epochs
    assert len(expand(schedule=schedule, k=3).teachers) == 1 + 3
    shares = {"base_share": base, "experts_share": experts, "distil_share": distil, "k": k}
    assert student == expand(float(schedule), **shares)


def test_the_default_is_the_papers_first_schedule() -> None:
    """Shares that are given count with `custom` only, which is the default."""
    assert expand() == expand(schedule="1000") == expand(schedule="custom", k=5)
    assert expand(base_share=300.0) != expand()


@pytest.mark.parametrize("base", ["moclr", "simclr", "byol"])
@pytest.mark.parametrize(("partition", "teachers"),
                         [*product(("clusters", "random", "all"), ("both", "base", "experts"))])
def test_partitions_expand_to_the_right_stages(
    tmp_path: Path, partition: str, teachers: str, base: str
) -> None:
    """Base, division, k experts on their parts, student: only what is asked for, each once."""
    rows = "[supervised]" if base == "moclr" else f"[{base}]"
    plan = plan_of(
        tmp_path, f"grid.methods={rows[:-1]},dnc]", "grid.seeds=[0]", "grid.conditions=[curated]",
        f"method.dnc.base={base}", f"method.dnc.partition={partition}", "method.dnc.k=3",
        f"method.dnc.distil_from={teachers}")
    stages = in_order(cell.stage for cell in plan.cells if cell.row.id == "dnc")
    runs = pretrainings(plan, "dnc")
    student = runs[-1]
    assert student.params["method"] == "distil"
    assert [run.params["method"] for run in runs[:-1]] == [base] * (len(runs) - 1)
    experts = [run for run in runs[:-1]
               if "subset" in run.params or isinstance(run.params["seed"], list)]
    divisions = [stage for stage in stages if stage.kind == "cluster"]
    if teachers == "base":
        assert not experts and not divisions and "groups" not in student.inputs
        return
    assert len(experts) == 3 and len(divisions) == 1
    assert student.inputs["groups"] == divisions[0]
    assert ("base" in divisions[0].inputs) == (partition == "clusters")
    assert divisions[0].params["by"] == ("features" if partition == "clusters" else "random")
    taught = [stage for role, stage in student.inputs.items() if role.startswith("teacher")]
    assert taught[-3:] == experts and len(taught) == 3 + (teachers == "both")
    if partition == "all":  # every image for a third of the epochs, by three different seeds
        assert [run.params["seed"] for run in experts] == [[0, 1], [0, 2], [0, 3]]
        assert all("groups" not in run.inputs for run in experts)
    else:
        assert [run.params["subset"] for run in experts] == [0, 1, 2]
        assert all(run.inputs["groups"] == divisions[0] for run in experts)
    # the base that clusters is a run of the row even where it does not teach
    assert len(runs) == 3 + 1 + (teachers == "both" or partition == "clusters")


def test_centre_crop_teachers_change_the_students_key_only(tmp_path: Path) -> None:
    """The option is in the student's stage where it is used, and nowhere else."""
    row = ("grid.methods=[supervised,dnc]", "grid.seeds=[0]", "grid.conditions=[curated]")
    *plain, student = pretrainings(plan_of(tmp_path, *row), "dnc")
    *others, other = pretrainings(
        plan_of(tmp_path, *row, "method.dnc.teacher_view=centre"), "dnc")
    assert plain == others and student.key != other.key
    assert "teacher_view" not in student.params and other.params["teacher_view"] == "centre"


class Colours(Method):
    """A teacher whose embedding is the mean colour, times a number of its own."""

    def __init__(self, factor: float, width: int = 3) -> None:
        """Keep the factor and count the images seen."""
        super().__init__(torch.nn.Identity(), Info(1, 1, 1, 1, 3), None)
        self.factor, self.width, self.seen = factor, width, 0

    def embed(self, x: Tensor, layer: str) -> Tensor:
        """Return (B, width)."""
        assert layer == "output" and not self.training
        self.seen += len(x)
        return self.factor * x.mean(dim=(2, 3))[:, : self.width]


def pictures(number: int) -> np.ndarray:
    """Return random pictures (n, 8, 8, 3)."""
    return np.random.default_rng(0).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("shared", [0, 1])
def test_cached_teachers_say_what_they_say_of_the_plain_view(shared: int) -> None:
    """Each image once and by its own expert only; both views get the same row."""
    pixels, groups = pictures(10), torch.tensor([0, 1, 2, 0, 1, 2, 2, 2, 0, 0])
    methods = [Colours(i + 1.0) for i in range(3 + shared)]
    teachers = Teachers(methods, 3, "fp32", "cpu")
    teachers.remember(pixels, 8, groups)
    assert [m.seen for m in methods] == [10] * shared + [4, 2, 4]
    index = torch.tensor([7, 0, 4])
    noise = [torch.randn(3, 3, 8, 8) for _ in range(2)]
    cached = teachers.embed(noise, groups[index], index)
    assert [m.seen for m in methods] == [10] * shared + [4, 2, 4]
    # the same teachers without a memory, shown the plain view
    plain = views.plain(torch.from_numpy(pixels[index.numpy()]), 8)
    asked = Teachers(methods, 3, "fp32", "cpu").embed([plain, plain], groups[index])
    assert len(cached) == 3 + shared
    for one, other in zip(cached, asked, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)


def test_the_loop_gives_each_view_the_cached_row(tmp_path: Path) -> None:
    """A batch's teachers are those of its images' plain views, equal for both views."""
    job = training_fixtures.job(epochs=1.0)
    base = Colours(1.0)
    teachers = Teachers([base], 0, "fp32", "cpu")
    teachers.remember(job.feed.pixels.numpy(), 16, None)
    loop = Loop(replace(job, teachers=teachers), training_fixtures.surroundings(tmp_path))
    batch = loop._batch()
    ((first, second),) = batch.teachers
    plain = base.embed(views.plain(job.feed.pixels[batch.index], 16), "output")
    assert torch.equal(first, second)
    torch.testing.assert_close(first, plain)


def test_cached_teachers_without_groups() -> None:
    """Base only: one row for every image, whatever the view."""
    base = Colours(1.0)
    teachers = Teachers([base], 0, "fp32", "cpu")
    teachers.remember(pictures(4), 8, None)
    ((first, second),) = teachers.embed([torch.randn(2, 3, 8, 8)] * 2, None, torch.tensor([3, 1]))
    assert torch.equal(first, second) and first.shape == (2, 3) and base.seen == 4


def test_experts_of_different_widths_cannot_be_cached() -> None:
    """One line that says what to do."""
    teachers = Teachers([Colours(1.0), Colours(1.0, 2)], 2, "fp32", "cpu")
    with pytest.raises(ValueError, match="experts of one width, not 3 and 2"):
        teachers.remember(pictures(4), 8, torch.tensor([0, 1, 0, 1]))


@pytest.mark.parametrize("partition", ["clusters", "random", "all"])
def test_base_experts_and_student_begin_with_weights_of_their_own(partition: str) -> None:
    """The seed of a row makes one stream for each of its runs: none starts as another did."""
    student = expand(partition=partition)
    replicas = [run.replica for run in (*student.teachers, student)]
    assert len(replicas) == 7 and replicas == list(range(7))
