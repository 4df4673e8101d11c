"""What every trainable method must do, on random images and a tiny network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from methods import discover, load
from methods.base import Batch, Info, Method
from methods.options import build, options_of

SPECS = {name: spec for name, spec in discover().items() if spec.kind == "method"}
CURVES = Path(__file__).parent / "golden" / "curves.json"
TRAINABLE = sorted(name for name, spec in SPECS.items() if spec.trainable)
NUM_IMAGES, BATCH, WIDTH, GROUPS = 64, 16, 12, 2
# Papers' sizes are too wide for a test; everything else stays at its default.
SMALL = {
    "hidden_dim": 24,
    "output_dim": 8,
    "queue_size": 64,
    "groups": 5,
    "freeze_steps": 0,
    "prototypes": 10,
}


def backbone() -> nn.Module:
    """Return a network of two convolutions: (B, 3, 16, 16) -> (B, WIDTH)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, WIDTH, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def built(name: str, **given: object) -> Method:
    """Return a small instance of a method."""
    cls = load(SPECS[name])
    values = {key: value for key, value in SMALL.items() if key in options_of(cls.Config)} | given
    info = Info(NUM_IMAGES, 4, BATCH, 20, WIDTH, num_groups=GROUPS, teacher_dims=(6, 6, 6))
    return cls(backbone(), info, build(cls.Config, values, name))


def images(method: Method, step: int, steps: int = 20) -> Batch:
    """Return a batch of noisy views of fixed random pictures."""
    source = torch.Generator().manual_seed(0)
    pictures = torch.randn(NUM_IMAGES, 3, 16, 16, generator=source)
    index = torch.arange(BATCH) + BATCH * (step % (NUM_IMAGES // BATCH))
    views = [pictures[index] + 0.2 * torch.randn(BATCH, 3, 16, 16) for _ in method.views]
    teachers = [[pictures[index].flatten(1)[:, 6 * t : 6 * t + 6] for _ in views] for t in range(3)]
    return Batch(
        views, index, step / steps, labels=index % 4, groups=index % GROUPS, teachers=teachers
    )


def total(loss: Tensor | dict[str, Tensor]) -> Tensor:
    """Return the scalar that is minimised."""
    return sum(loss.values()) if isinstance(loss, dict) else loss


def train(method: Method, steps: int, start: int = 0, seed: int = 1) -> list[float]:
    """Run some steps of SGD and return the losses."""
    torch.manual_seed(seed)
    trainable = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trainable, 0.02, 0.9)
    losses = []
    for step in range(start, start + steps):
        batch = images(method, step)
        loss = total(method.loss(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(batch.progress)
        losses.append(float(loss.detach()))
    return losses


def test_there_are_methods() -> None:
    """The tests below must not pass by finding nothing."""
    assert len(TRAINABLE) >= 6


def curve(name: str) -> list[float]:
    """Return the losses of twenty steps from fixed seeds."""
    torch.manual_seed(0)
    return train(built(name), 20)


@pytest.mark.parametrize("name", TRAINABLE)
def test_loss_falls_along_the_recorded_curve(name: str) -> None:
    """Twenty steps lower the loss, and each step's loss is the recorded one.

    A change of meaning moves a curve by percents of its start; other threads and no vector units
    moved none by more than 1.5e-4 (at a learning rate of 0.05, one by 1e-2). After an intended
    change: `python tests/test_methods_training.py NAME`, and raise the method's `revision`.
    """
    losses = curve(name)
    recorded = json.loads(CURVES.read_text())
    assert name in recorded, f"no curve for {name}: run python tests/test_methods_training.py"
    assert losses == pytest.approx(recorded[name], rel=0, abs=2e-3 * max(recorded[name]))
    if any(key.endswith("queue.rows") for key in built(name).state_dict()):
        # A queue starts with random rows, which are easier to tell apart than keys: once they
        # have left it (step 4 here) the loss rises to its true scale, and falls from there.
        losses = losses[SMALL["queue_size"] // BATCH :]
    half = len(losses) // 2
    assert sum(losses[half:]) < sum(losses[:half])


@pytest.mark.parametrize("name", TRAINABLE)
def test_gradient_reaches_the_trainable_parameters_only(name: str) -> None:
    """Every trainable parameter gets a gradient; an average never requires one."""
    method = built(name)
    total(method.loss(images(method, 0))).backward()
    for key, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
    averages = [m for m in method.modules() if type(m).__name__ == "Momentum"]
    assert bool(averages) == ("ema" in method.keeps)
    assert not any(p.requires_grad for m in averages for p in m.parameters())


@pytest.mark.parametrize("name", TRAINABLE)
def test_state_dict_is_the_whole_state(name: str) -> None:
    """A fresh instance that loads the state goes on with the same losses."""
    torch.manual_seed(0)
    method = built(name)
    train(method, 3)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    expected = train(method, 3, start=3)
    torch.manual_seed(99)
    other = built(name)
    other.load_state_dict(state)
    assert train(other, 3, start=3) == expected


@pytest.mark.parametrize("name", TRAINABLE)
def test_state_can_be_saved(name: str) -> None:
    """No tensor is shared by two names, which safetensors refuses."""
    state = built(name).state_dict()
    places = [value.data_ptr() for value in state.values() if value.numel()]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_embeddings(name: str) -> None:
    """Every layer that a method offers has one row per image; the pooled one is the encoder's."""
    method = built(name).eval()
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        pooled = method.embed(x, "pooled")
        assert torch.equal(pooled, method.encoder(x))
        assert pooled.shape[0] == 5
        for layer in ("hidden", "output"):
            try:
                embedding = method.embed(x, layer)
            except ValueError as error:
                assert "use layer='pooled'" in str(error)
            else:
                assert embedding.shape[0] == 5
                assert layer != "hidden" or (embedding >= 0).all()
    with pytest.raises(ValueError, match="Available: pooled, hidden, output"):
        method.embed(x, "pool")


def test_raw_pixels_are_the_pixels() -> None:
    """At 32 x 32 the encoder only flattens."""
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(built("raw_pixels").encoder(x), x.flatten(1))


@pytest.mark.parametrize("name", TRAINABLE)
def test_half_precision_changes_the_loss_little(name: str) -> None:
    """Under bfloat16 autocast the loss itself is still computed in float32."""
    torch.manual_seed(0)
    method = built(name)
    batch = images(method, 0)
    state = {key: value.clone() for key, value in method.state_dict().items()}
    torch.manual_seed(5)
    exact = total(method.loss(batch)).item()
    method.load_state_dict(state)
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(method.loss(batch))
    assert loss.dtype == torch.float32
    assert abs(loss.item() - exact) < 0.05 * abs(exact) + 0.05


VARIANTS = [
    ("cld", {"instance": "npid", "momentum": 0.5, "head": "linear", "norm_head": False}),
    ("cld", {"instance": "moco", "variant": "paper", "grouping": "ncuts", "eigenvectors": 4}),
    (
        "fnc",
        {
            "multi_crop": False,
            "support_size": 2,
            "memory_multiplier": 0,
            "score_views": "support",
            "mode": "elimination",
        },
    ),
    ("fnc", {"multi_crop": False, "support_size": 1, "memory_multiplier": 4}),
    ("npid", {"negatives": 0}),
    ("mocov2", {"key_splits": 4}),
    ("distil", {"normalise_regression": True}),
    ("simclr", {"head_layers": 3, "variant": "paper"}),
    ("swav", {"local_views": 2, "queue_size": 32, "queue_start": 0.0}),
]


@pytest.mark.parametrize(("name", "values"), VARIANTS)
def test_variants_train(name: str, values: dict[str, object]) -> None:
    """Settings away from the defaults run, with finite losses, and restore."""
    torch.manual_seed(0)
    method = built(name, **values)
    assert all(torch.isfinite(torch.tensor(train(method, 6))))
    state = {key: value.clone() for key, value in method.state_dict().items()}
    expected = train(method, 2, start=6)
    other = built(name, **values)
    other.load_state_dict(state)
    assert train(other, 2, start=6) == expected


if __name__ == "__main__":
    # the curves of the methods named, or of those without one: the others stay as they are
    curves = json.loads(CURVES.read_text())
    wanted = sys.argv[1:] or [name for name in TRAINABLE if name not in curves]
    curves |= {name: [round(loss, 6) for loss in curve(name)] for name in wanted}
    curves = {name: curves[name] for name in TRAINABLE}
    lines = [f"  {json.dumps(name)}: {json.dumps(losses)}" for name, losses in curves.items()]
    CURVES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
