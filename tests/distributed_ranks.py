"""Small runs of every method, made by one process or shared by several; compared by
test_training_distributed.py. Also the program that makes the shared runs:

    python tests/distributed_ranks.py FOLDER

writes FOLDER/RUN/NAME.RANK.pt and the ranks' exit codes, FOLDER/codes.json. It imports torch once
and forks the ranks of one run after another.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import test_methods_training as small
import test_training_stages as stages
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.execute import _views
from harness.schema import Training
from harness.training import distributed
from harness.training.feed import Resident
from harness.training.loop import Interrupted, Job, Loop, Surroundings, View
from harness.training.teachers import Teachers
from methods.base import Batch, Method
from methods.parts.distributed import mine

# name -> (method, options); the variants go other ways than the defaults
CASES: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in small.TRAINABLE},
    "cld-byol": ("cld", {"instance": "byol", "variant": "paper"}),
    "cld-infomin": ("cld", {"instance": "infomin"}),
    "cld-npid": ("cld", {"instance": "npid", "momentum": 0.5, "head": "linear"}),
    "cld-shuffled": ("cld", {"key_splits": 4, "group_splits": 2, "groups": 3}),
    "fnc-paper": ("fnc", {"variant": "paper", "support_size": 2, "aggregate": "mean"}),
    "fnc-support": ("fnc", {"multi_crop": False, "support_size": 2, "memory_multiplier": 0,
                            "score_views": "support", "mode": "elimination", "threshold": 0.0}),
    "fnc-two": ("fnc", {"multi_crop": False, "support_size": 1, "memory_multiplier": 4}),
    "mocov2-shuffled": ("mocov2", {"key_splits": 4}),
    "msn-koleo": ("msn", {"koleo_weight": 0.1, "entropy_weight": 0.1, "sinkhorn": False,
                          "focal_views": 2}),
    "npid-full": ("npid", {"negatives": 0}),
    "swav-queue": ("swav", {"local_views": 2, "queue_size": 32, "queue_start": 0.0}),
}
FOUR = ("fnc", "mocov2-shuffled", "npid", "simclr")
CUT = "mocov2-shuffled"  # random numbers, a queue and an average are in its checkpoint
STEPS, LOOP_STEPS = 3, 10
Found = dict[str, Any]
Run = Callable[[str, Path], Found]


def measured(name: str, folder: Path) -> Found:
    """What a run computes: loss and gradients of a step, those and the state of three, the loop.

    A step in float32, the rest in float64: there a key at FNC's threshold cannot be in on one side
    and out on the other.
    """
    single = _steps(_built(name), 1)
    double = _steps(_built(name).double(), STEPS)
    loop = looped(name, folder)
    return {"single": single, "double": double, "loop": loop.losses,
            "loop_state": _state(loop.job.method), "loop_rng": torch.get_rng_state()}


def looped(name: str, folder: Path, stop: Callable[[], bool] = lambda: False,
           seconds: float = 1e9) -> Loop:
    """Ten steps of the harness's loop, or what a checkpoint in `folder` has left of them."""
    method = _built(name).double()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (small.NUM_IMAGES, 16, 16, 3), dtype=torch.uint8,
                           generator=generator)
    number = torch.arange(small.NUM_IMAGES)
    training = Training(epochs=LOOP_STEPS * small.BATCH / small.NUM_IMAGES,
                        batch_size=small.BATCH, lr=0.01, precision="fp32")
    teachers = cast(Teachers, _Pixels()) if method.needs_teachers else None
    job = Job(method, Resident(pixels), number % 4, _doubled(method), training, 3, "cpu",
              name, groups=number % small.GROUPS, teachers=teachers)
    loop = Loop(job, Surroundings(folder / name, seconds, lambda facts: None, stop))
    loop.run()
    return loop


def _doubled(method: Method) -> list[View]:
    def one(view: View) -> View:
        return lambda images, generator: view(images, generator).double()

    return [one(view) for view in _views(method, {"image_size": 16})]


class _Pixels:
    """Three teachers that say some of the image's pixels."""

    def embed(self, views: Sequence[Tensor], *which: Tensor | None) -> list[list[Tensor]]:
        return [[view.flatten(1)[:, 6 * t:6 * t + 6] for view in views] for t in range(3)]


def _built(name: str) -> Method:
    method_name, options = CASES[name]
    torch.manual_seed(0)
    method = small.built(method_name, **options)
    return method


def _steps(method: Method, steps: int) -> Found:
    distributed.convert(method)
    trainable = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trainable, 0.02, 0.9)
    losses = []
    torch.manual_seed(1)
    for step in range(steps):
        batch = _own(small.images(method, step), trainable[0].dtype)
        loss = small.total(method.loss(batch))
        optimiser.zero_grad()
        loss.backward()
        losses.append(distributed.average(method.parameters(), loss))
        gradients = {key: p.grad.clone() for key, p in method.named_parameters()
                     if p.grad is not None}
        optimiser.step()
        method.after_step(batch.progress)
    return {"losses": torch.stack(losses), "gradients": gradients, "state": _state(method),
            "rng": torch.get_rng_state()}


def _own(batch: Batch, dtype: torch.dtype) -> Batch:
    """This rank's rows of a batch."""
    assert batch.labels is not None and batch.groups is not None
    return Batch([mine(view).to(dtype) for view in batch.views], mine(batch.index), batch.progress,
                 mine(batch.labels), mine(batch.groups),
                 [[mine(said).to(dtype) for said in teacher] for teacher in batch.teachers])


def _state(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def _last_rank(at: int, do: Callable[[], bool]) -> Callable[[], bool]:
    """A `stop`, asked after every step, by which the last rank does something at one of them."""
    asked: Iterator[int] = iter(range(1, 1000))
    return lambda: next(asked) == at and distributed.rank() == distributed.world() - 1 and do()


def _die() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


# -- what a rank does with a name and the run's folder --------------------------------------------


def _tried(name: str, folder: Path) -> Found:
    try:
        return measured(name, folder)
    except Exception:  # the same on all ranks, as a rule, so the next run goes on
        return {"error": traceback.format_exc()}


def _checkpointed(name: str, folder: Path, at: int = 0, do: Callable[[], bool] = _die) -> Found:
    """The loop with a checkpoint after every step."""
    try:
        return {"loop": looped(name, folder, _last_rank(at, do), seconds=0.0).losses}
    except (Interrupted, ValueError) as error:
        return {"said": str(error)}


def _apart(name: str, folder: Path) -> Found:
    """Only the first rank sees the checkpoint."""
    return _checkpointed(name, folder if distributed.rank() == 0 else folder / "elsewhere")


def stage(name: str, folder: Path) -> Found:
    """A pre-training stage from the data set to the artifact; its files and its encoder."""
    lab = stages.Lab(folder / f"lab{distributed.rank()}")
    lab.root.mkdir()
    # a larger rate multiplies what float32 rounds by ten each step
    training = {**stages.TRAINING, "precision": "fp32", "lr": 0.001}
    artifact, metrics = lab.pretrain(name, name, training=training)
    files = sorted(path.name for path in artifact.glob("*") if path.name != "stage.json")
    encoder = load_file(artifact / "encoder.safetensors") if files else {}
    return {"files": files, "encoder": encoder, "images_seen": metrics["images_seen"]}


def _be(place: int, size: int, folder: Path, names: Sequence[str], run: Run) -> None:
    torch.set_num_threads(1)
    with distributed.process_group(f"file://{folder}/meeting", place, size, "cpu", timeout=30):
        for name in names:
            torch.save(run(name, folder), folder / f"{name}.{place}.pt")


def _forked(folder: Path, size: int, names: Sequence[str], run: Run) -> list[int]:
    """Let every rank do `run` for every name; their exit codes."""
    folder.mkdir(exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)
    children = []
    for place in range(size):
        child = os.fork()
        if not child:
            try:
                _be(place, size, folder, names, run)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main() -> None:
    """Make all shared runs."""
    folder = Path(sys.argv[1])
    codes = {"two": _forked(folder / "two", 2, list(CASES), _tried),
             "four": _forked(folder / "four", 4, FOUR, _tried),
             "stage": _forked(folder / "stage", 2, ["simclr"], stage)}
    cut = folder / "cut"
    codes["killed"] = _forked(cut, 2, [CUT], partial(_checkpointed, at=5))
    asked = partial(_checkpointed, at=3, do=lambda: True)
    for name, before, run in (
            ("apart", cut, _apart), ("resumed", cut, _checkpointed), ("stopped", cut, asked),
            ("again", folder / "stopped", _checkpointed)):
        shutil.copytree(before, folder / name)
        codes[name] = _forked(folder / name, 2, [CUT], run)
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
