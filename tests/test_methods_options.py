"""Options away from their defaults: every combination that is offered runs, bad ones are refused.

What differs between a paper and its released code is one option, `variant`, and both are here.
"""

from __future__ import annotations

import re
import warnings
from itertools import product
from pathlib import Path

import pytest
import torch
from test_methods_training import BATCH, GROUPS, SPECS, WIDTH, backbone, built, images, total, train
from test_plan import plan_of

from harness.errors import Problems
from methods import load
from methods.base import Batch, Info
from methods.limits import value
from methods.options import build, keyed, options_of, setting
from methods.parts.cancellation import cancelled_nce
from methods.parts.grouping import cross_level, empty_groups, kmeans
from methods.parts.losses import info_nce, unit
from methods.parts.selection import candidate_scores, top_k_mask

COLUMNS = {
    "mode": ("attraction", "elimination"),
    "aggregate": ("max", "mean"),
    "select": ("top_k", "threshold", "both"),
    "memory": (False, True),
    "multi_crop": (False, True),
}
SELECT = {
    "top_k": {"top_k": 4, "threshold": -1.0},
    "threshold": {"top_k": 0, "threshold": 0.5},
    "both": {"top_k": 4, "threshold": 0.5},
}
# all of them with 2 support views, and every number of support views with the defaults
FNC = [(2, *row) for row in product(*COLUMNS.values())]
FNC += [(size, "attraction", "max", "both", memory, True) for size in range(9)
        for memory in (False, True)]


@pytest.mark.parametrize(("support", "mode", "aggregate", "select", "memory", "multi_crop"), FNC)
def test_every_fnc_trains(
    support: int, mode: str, aggregate: str, select: str, memory: bool, multi_crop: bool
) -> None:
    """Elimination and attraction, max and mean, top-k and threshold, memory, multi-crop positives.

    Without the momentum encoder and its memory it is FNC over SimCLR, with them over MoCo v2's.
    """
    torch.manual_seed(0)
    method = built(
        "fnc",
        support_size=support,
        mode=mode,
        aggregate=aggregate,
        memory_multiplier=(support + 2) * 2 if memory else 0,
        multi_crop=multi_crop,
        **SELECT[select],
    )
    assert len(method.views) == 2 + support
    assert method.anchors == (2 + support if multi_crop else 2)
    assert any("target" in key for key in method.state_dict()) == memory
    assert all(torch.isfinite(torch.tensor(train(method, 2))))


CLD = [
    {"instance": name, "grouping": grouping, "eigenvectors": 4, "variant": variant}
    for name in ("mocov2", "moco", "npid", "infomin", "byol")
    for grouping, variant in (("kmeans", "released"), ("ncuts", "paper"))
]
CLD += [{"instance": "byol", "head": "linear", "norm_head": False}, {"instance": "infomin",
        "variant": "paper"}]


@pytest.mark.parametrize("values", CLD)
def test_cld_trains_over_every_instance_branch(values: dict[str, object]) -> None:
    """Five branches, both groupings, both variants: finite losses, and a state that restores."""
    torch.manual_seed(0)
    method = built("cld", **values)
    assert all(torch.isfinite(torch.tensor(train(method, 3))))
    state = {key: value.clone() for key, value in method.state_dict().items()}
    expected = train(method, 2, start=3)
    other = built("cld", **values)
    other.load_state_dict(state)
    assert train(other, 2, start=3) == expected


def test_infomin_without_the_jigsaw_is_moco_with_its_own_order() -> None:
    """Two views and one query remain; the key encoder moves after the step."""
    method = built("infomin", jigsaw=False)
    assert len(method.views) == 2 and not hasattr(method, "jigsaw")
    assert all(torch.isfinite(torch.tensor(train(method, 3))))
    assert len(built("infomin").views) == 3


@pytest.mark.parametrize("values", [{"sinkhorn": False}, {"koleo_weight": 0.1},
                                    {"entropy_weight": 1.0}, {"focal_views": 0, "masked": 0.0}])
def test_msn_options_train(values: dict[str, object]) -> None:
    """Each term of the loss, and no anchors but one."""
    torch.manual_seed(0)
    method = built("msn", **values)
    assert all(torch.isfinite(torch.tensor(train(method, 3))))
    names = {"assign", "memax"} | {name.removesuffix("_weight") for name in values
                                   if name.endswith("_weight")}
    assert set(method.loss(images(method, 0))) == names


# -- bad settings -----------------------------------------------------------------------------


REFUSED = [
    ("mocov2", {"queue_size": BATCH - 1}, "'queue_size' 15 is smaller than the batch of 16"),
    ("infomin", {"queue_size": BATCH - 1}, "raise it or lower the batch size"),
    ("cld", {"queue_size": BATCH - 1, "groups": 5}, "raise it or lower the batch size"),
    ("cld", {"queue_size": 15, "groups": 5, "instance": "infomin"}, "smaller than the batch"),
    ("swav", {"queue_size": BATCH - 1}, "raise it or lower the batch size"),
    ("cld", {"grouping": "ncuts", "eigenvectors": 17, "groups": 5},
     "'eigenvectors' 17 exceeds the batch of 16"),
    ("mocov2", {"key_splits": 9}, "'key_splits' 9 leaves parts of fewer than 2 images"),
    ("fnc", {"top_k": 20 * BATCH}, "top_k 320 exceeds the 256 candidates; lower it"),
    ("fnc", {"top_k": 33, "memory_multiplier": 0, "support_size": 0}, "exceeds the 32 candidates"),
    ("fnc", {"memory_multiplier": 4}, "memory_multiplier 4 < 10 views: too few"),
    ("fnc", {"score_views": "support", "support_size": 0}, "needs support_size >= 1"),
    ("fnc", {"memory_multiplier": -1}, "'memory_multiplier' must be >= 0, got -1"),
    ("distil", {"teachers": "base"}, "needs 0 experts, got 2"),
    *((name, {"temperature": value}, "'temperature' must be > 0")
      for name in ("simclr", "mocov2", "moclr", "fnc", "cld", "npid", "infomin", "msn", "swav")
      for value in (0, -0.1)),
    ("cld", {"group_temperature": 0}, "'group_temperature' must be > 0"),
    ("msn", {"sharpen": 0}, "'sharpen' must be > 0"),
    ("cld", {"groups": 0}, "'groups' must be >= 1"),
]


@pytest.mark.parametrize(("name", "values", "message"), REFUSED)
def test_bad_settings_are_refused(name: str, values: dict[str, object], message: str) -> None:
    """What cannot work is said when the method is built, in one line that names it."""
    cls = load(SPECS[name])
    info = Info(64, 4, BATCH, 20, WIDTH, num_groups=GROUPS, teacher_dims=(6, 6, 6))
    with pytest.raises(ValueError, match=message) as caught:
        cls(backbone(), info, build(cls.Config, values, name))
    assert "\n" not in str(caught.value)


def test_more_groups_than_images_are_warned_of() -> None:
    """It trains, since the released scripts do it, but what the loss then is is said first."""
    message = "20 groups exceed the batch of 16: .* InfoNCE .* with 4 constant logits of 0"
    with pytest.warns(UserWarning, match=message):
        built("cld", groups=BATCH + 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built("cld", groups=BATCH)


def test_a_plan_refuses_and_warns_before_anything_runs(tmp_path: Path) -> None:
    """The same limits hold for a whole grid, where the first run may be hours away."""
    row = ("grid.methods=[mocov2,fnc,cld]", "grid.seeds=[0]", "grid.conditions=[curated]")
    assert not plan_of(tmp_path, *row).cautions
    with pytest.raises(Problems) as caught:
        plan_of(tmp_path, *row, "method.mocov2.queue_size=63", "method.fnc.top_k=9999")
    assert str(caught.value).splitlines() == [
        "method 'mocov2': option 'queue_size' 63 is smaller than the batch of 64: raise it or lower"
        " the batch size",
        "method 'fnc': top_k 9999 exceeds the 192 candidates; lower it",
    ]
    (line,) = plan_of(tmp_path, *row, "method.cld.groups=70").cautions
    assert "70 groups exceed the batch of 64" in line and "6 constant logits of 0" in line


@pytest.mark.parametrize(("expression", "expected"), [
    ("a + 2 * b", 8), ("a // b", 0), ("0 or b", 3), ("a and not b", False), ("a != 'x'", True),
    ("a < b and c == 'word'", True)])
def test_limits(expression: str, expected: object) -> None:
    """Expressions of options mean what Python means by them."""
    assert value(expression, {"a": 2, "b": 3, "c": "word"}) == expected


@pytest.mark.parametrize("expression", ["print(1)", "a.b", "a[0]", "d", "[1]", "lambda: 1"])
def test_limits_are_no_programs(expression: str) -> None:
    """Nothing is called or looked up; the part that is not understood is named."""
    with pytest.raises(ValueError, match="is not understood"):
        value(expression, {"a": 1})


def test_every_limit_can_be_evaluated() -> None:
    """A misspelt name in a limit would otherwise show only when it holds."""
    found = 0
    for spec in SPECS.values():
        options = {name: o.default for name, o in spec.options.items()}
        names = {**options, "batch_size": 4, "local_batch": 4}
        for condition, message in (*spec.refuses, *spec.warns):
            for expression in (condition, *re.findall(r"{([^}]*)}", message)):
                value(expression, names)
                found += 1
        assert (spec.refuses, spec.warns) == (load(spec).refuses, load(spec).warns)
    assert found > 15


# -- paper and released code ------------------------------------------------------------------


def features(seed: int = 0, number: int = BATCH, width: int = 8) -> list[torch.Tensor]:
    """Return unit features of two views that are close to each other."""
    source = torch.Generator().manual_seed(seed)
    first = torch.randn(number, width, generator=source)
    second = first + 0.3 * torch.randn(number, width, generator=source)
    return [unit(x).requires_grad_() for x in (first, second)]


def test_cld_gradient_through_centroids() -> None:
    """Equal values, unequal gradients: only the released code lets it through the centroids."""
    found = []
    for variant in ("released", "paper"):
        views = features()
        loss = built("cld", variant=variant).group_loss(*views)
        found.append((loss.detach(), *torch.autograd.grad(loss, views)))
    (released, *through), (paper, *stopped) = found
    assert torch.equal(released, paper)
    for a, b in zip(through, stopped, strict=True):
        assert (a - b).abs().max() > 1e-4


def test_cld_empty_groups() -> None:
    """An empty group is a candidate with logit 0 in the released code, and none in the paper's."""
    x, y = (v.detach() for v in features(number=8))
    x[1] = x[0]  # two equal seeds: the second group stays empty
    labels, centroids = kmeans(x, 3, 5)
    empty = empty_groups(labels, 3)
    assert empty.tolist() == [False, True, False] and not centroids[1].any()
    kept = centroids[~empty]
    place = torch.tensor([0, -1, 1])[labels]
    logits = y @ kept.T / 0.5
    expected = torch.nn.functional.cross_entropy(logits, place)
    torch.testing.assert_close(cross_level(y, centroids, labels, 0.5, False), expected)
    constant = torch.cat([logits, torch.zeros(8, 1)], dim=1)
    expected = torch.nn.functional.cross_entropy(constant, place)
    torch.testing.assert_close(cross_level(y, centroids, labels, 0.5), expected)


def test_cld_empty_groups_collect_rows_only_as_released() -> None:
    """A zero centroid is at distance 1 of every unit row: nearer than one beyond 60 degrees."""
    angles = torch.tensor([0.0, 0.0, 2.0, 4.0])
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    released, _ = kmeans(x, 2, 3)
    paper, _ = kmeans(x, 2, 3, keep_empty=False)
    assert not empty_groups(released, 2).any()
    assert empty_groups(paper, 2).tolist() == [False, True]


def test_cld_with_more_groups_than_images() -> None:
    """InfoNCE between the views, with K - N constant logits as released and without on paper."""
    views = [v.detach() for v in features()]
    with pytest.warns(UserWarning, match="each image is its own group"):
        paper = built("cld", groups=BATCH + 4, variant="paper")
    expected = (info_nce(*views, 0.4) + info_nce(*views[::-1], 0.4)) / 2
    torch.testing.assert_close(paper.group_loss(*views), expected)
    with pytest.warns(UserWarning, match="each image is its own group"):
        released = built("cld", groups=BATCH + 4)
    logits = [torch.cat([a @ b.T / 0.4, torch.zeros(BATCH, 4)], dim=1)
              for a, b in (views, views[::-1])]
    terms = [torch.nn.functional.cross_entropy(s, torch.arange(BATCH)) for s in logits]
    torch.testing.assert_close(released.group_loss(*views), sum(terms) / 2)


def naive_fnc(z: torch.Tensor, false: torch.Tensor, temperature: float, paper: bool) -> float:
    """Return Eq. 3 by loops, per anchor: A - 1 positives beside F, or averaged over positives."""
    views, number, _ = z.shape
    keys, terms = z.flatten(0, 1), []
    for a, i in product(range(views), range(number)):
        s = keys @ z[a, i] / temperature
        others = [m for m in range(len(keys)) if m != a * number + i]
        log = torch.logsumexp(s[others], dim=0)
        positive = [v * number + i for v in range(views) if v != a]
        found = false[i].nonzero()[:, 0].tolist()
        if paper:
            each = [(log - s[p] + sum(log - s[f] for f in found)) / (1 + len(found))
                    for p in positive]
            terms.append(sum(each) / len(each))
        else:
            row = [log - s[m] for m in positive + found]
            terms.append(sum(row) / len(row))
    return float(sum(terms)) / len(terms)


@pytest.mark.parametrize("views", [2, 4])
def test_fnc_counts_positives_as_released_or_as_eq_3(views: int) -> None:
    """A - 1 + |F| against 1 + |F|; with two views they are the same number."""
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(views, 6, 5), dim=2)
    scores = candidate_scores(z, z.flatten(0, 1), "max", views)
    false = top_k_mask(scores, 3, -1.0)
    assert false.sum(dim=1).tolist() == [3] * 6
    got = [cancelled_nce(z, z.flatten(0, 1), false, 0.2, False, paper).mean()
           for paper in (False, True)]
    for paper, loss in zip((False, True), got, strict=True):
        assert float(loss) == pytest.approx(naive_fnc(z, false, 0.2, paper), rel=1e-5)
    assert (abs(got[0] - got[1]) < 1e-6) == (views == 2)


def test_fnc_support_set() -> None:
    """On paper the two main views find nothing; released, all views of the image do."""
    source = torch.Generator().manual_seed(0)
    pictures = torch.randn(BATCH, 3, 16, 16, generator=source)
    support = torch.randn(BATCH, 3, 16, 16, generator=source)
    batch = Batch([pictures, pictures + 0.1, support, support], torch.arange(BATCH))
    losses = {}
    for variant, score_views in product(("released", "paper"), ("all", "support")):
        torch.manual_seed(0)
        method = built("fnc", variant=variant, score_views=score_views, support_size=2,
                       memory_multiplier=0, threshold=-1.0, top_k=5, multi_crop=False)
        losses[variant, score_views] = float(total(method.loss(batch)).detach())
    # two anchors: 1 + |F| either way, so twice the mean is all that is left of the variant
    assert losses["paper", "all"] == losses["paper", "support"]
    assert losses["released", "support"] == pytest.approx(2 * losses["paper", "all"], rel=1e-6)
    assert losses["released", "all"] != pytest.approx(losses["released", "support"], rel=1e-3)


@pytest.mark.parametrize("mode", ["attraction", "elimination"])
def test_fnc_runs_without_a_support_set(mode: str) -> None:
    """As in the paper's figure on the support set: two views, both anchors, none beside them."""
    losses = []
    for top_k, threshold in ((5, -1.0), (0, 2.0)):
        torch.manual_seed(0)
        method = built("fnc", mode=mode, support_size=0, multi_crop=False, memory_multiplier=0,
                       top_k=top_k, threshold=threshold)
        torch.manual_seed(1)
        losses.append(float(total(method.loss(images(method, 0))).detach()))
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)  # five are cancelled, then none


@pytest.mark.parametrize("name", ["simclr", "fnc"])
def test_the_released_sum_is_twice_the_papers_mean(name: str) -> None:
    """SimCLR's released objective adds both directions; FNC has its weights from it."""
    values = {"support_size": 0, "memory_multiplier": 0} if name == "fnc" else {}
    losses = []
    for variant in ("released", "paper"):
        torch.manual_seed(0)
        method = built(name, variant=variant, **values)
        torch.manual_seed(1)
        losses.append(total(method.loss(images(method, 0))))
    torch.testing.assert_close(losses[0], 2 * losses[1])


def test_infomin_cld_writes_its_keys_twice_as_released() -> None:
    """The second query finds its own key among the negatives, unless it is the paper's."""
    pointers, losses = [], []
    for variant in ("released", "paper"):
        torch.manual_seed(0)
        method = built("cld", instance="infomin", variant=variant)
        torch.manual_seed(1)
        losses.append(float(method.loss(images(method, 0))["instance"].detach()))
        method.after_step(0.0)
        pointers.append(int(method.instance.queue.pointer))
    assert pointers == [2 * BATCH, BATCH] and losses[0] > losses[1]


def test_an_added_option_is_in_no_key_at_its_default(tmp_path: Path) -> None:
    """Results from before it still count; away from its default it is named, and built with."""
    config = SPECS["cld"].options
    added = [name for name, limits in config.items() if limits.added]
    assert added == ["key_splits", "group_splits"]
    assert options_of(load(SPECS["cld"]).Config) == config
    whole = {name: limits.default for name, limits in config.items()}
    assert set(keyed(config, whole)) == set(config) - set(added)
    assert keyed(config, {**whole, "group_splits": 2})["group_splits"] == 2
    assert setting(config, keyed(config, whole), "group_splits") == 1
    row = ("grid.methods=[cld,simsiam]", "grid.seeds=[0]", "grid.conditions=[curated]")

    def named(*more: str) -> set[str]:
        stages = [s for s in plan_of(tmp_path, *row, *more).stages if s.kind == "pretrain"]
        assert len(stages) == 2
        return {name for s in stages for name in (*s.params["options"], *s.params["training"])}

    later = {*added, "fixed_predictor", "decay_all"}
    assert not named() & later
    assert later == named("method.cld.key_splits=2", "method.cld.group_splits=2",
                          "method.simsiam.fixed_predictor=true",
                          "scale.training.decay_all=true") & later
    with pytest.raises(Problems, match="'decay_all' is of sgd and adamw"):
        named("scale.training.decay_all=true", "scale.training.optimizer=lars")


def test_cld_groups_parts_of_the_batch_apart() -> None:
    """As released on 8 GPUs: the loss is the mean of the parts', each as if it were a batch."""
    torch.manual_seed(0)
    views = [unit(torch.randn(BATCH, 8)) for _ in range(2)]
    whole, split = built("cld", groups=4), built("cld", groups=4, group_splits=2)
    halves = [whole.group_loss(*(v[part] for v in views))
              for part in (slice(BATCH // 2), slice(BATCH // 2, BATCH))]
    torch.testing.assert_close(split.group_loss(*views), torch.stack(halves).mean())
    assert not torch.allclose(split.group_loss(*views), whole.group_loss(*views))


def test_simsiams_predictor_may_keep_its_rate() -> None:
    assert built("simsiam").fixed_rate == ()
    assert built("simsiam", fixed_predictor=True).fixed_rate == ("predictor",)
