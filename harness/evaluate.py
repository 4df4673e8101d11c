"""Score a network that somebody else has trained, under any protocol.

    python -m harness.evaluate checkpoint=FILE evaluation=linear
    python -m harness.evaluate checkpoint=FILE evaluation=linear,knn,linear@pets data=cifar10
    python -m harness.evaluate checkpoint=moco_v2.pth.tar backbone=resnet50 stem=imagenet scale=gpu
    python -m harness.evaluate checkpoint=FILE evaluation=knn results=DIR dry_run=true

checkpoint=FILE is a ResNet of torchvision, MoCo, DINO, solo-learn, lightly and the like, as
safetensors or as a torch file that holds tensors only. backbone=NAME and stem=cifar|imagenet say
what network it is; without them it is the scale's. Every other argument is one of harness.sweep.
The file becomes the encoder of a row beside the untrained network; everything after it is the same
stages as for any method. As a row of a grid: grid.variants.NAME.checkpoint=FILE.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import config as configuration
from .arguments import wants_help
from .errors import UserError, door

OWN = ("checkpoint", "evaluation", "backbone", "stem")


def main(arguments: list[str]) -> int:
    """Run the sweep of one checkpoint; returns the exit code."""
    if not arguments or wants_help(arguments):
        print(__doc__)
        return 0 if arguments else 2
    from .sweep import main as sweep

    return sweep(sweep_arguments(arguments))


def sweep_arguments(arguments: list[str]) -> list[str]:
    """The arguments of harness.sweep that score the file. Raises UserError."""
    own = dict(a.split("=", 1) for a in arguments if a.split("=", 1)[0] in OWN and "=" in a)
    rest = [a for a in arguments if a.split("=", 1)[0] not in OWN]
    if not own.get("checkpoint"):
        raise UserError("which checkpoint? Give checkpoint=FILE")
    path = Path(own["checkpoint"]).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint={path}: there is no such file")
    asked = own.get("evaluation", "linear").strip("[]").split(",")
    name = re.sub(r"\W+", "_", path.name.split(".")[0]) or "file"
    quoted = str(path.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return ["grid=evaluations", *_network(own, rest), f"grid.name=checkpoint_{name}",
            f"grid.title=Checkpoint {name}", "grid.methods=[random_init,checkpoint]",
            f"grid.variants.checkpoint.checkpoint='{quoted}'",
            f"grid.variants.checkpoint.label={name}", "grid.seeds=[0]",
            f"grid.evaluations=[{','.join(asked)}]", *_headline(asked, rest), *rest]


def _network(own: dict[str, str], rest: list[str]) -> list[str]:
    """Arguments that replace the scale's network by the one that is named."""
    if "backbone" not in own:
        return [f"scale.backbone.stem={own['stem']}"] if "stem" in own else []
    groups = [a for a in rest if a.split("=", 1)[0] in configuration.GROUPS]
    scale = configuration.compose(["grid=evaluations", *groups])["scale"]["backbone"]
    stem = [f"scale.backbone.stem={own['stem']}"] if "stem" in own else []
    return [*(f"~scale.backbone.{option}={value}" for option, value in scale.items()
              if option != "name"),
            f"scale.backbone.name={own['backbone']}", *stem]


def _headline(asked: list[str], rest: list[str]) -> list[str]:
    """The first evaluation and its first metric, unless the command line says otherwise."""
    from .evaluation import evaluations

    base = configuration.compose(["grid=evaluations"])["protocols"].get(asked[0].split("@")[0], {})
    known = evaluations().get(base.get("evaluation", asked[0].split("@")[0]))
    if known is None or any(a.startswith("grid.headline") for a in rest):
        return []
    return [f"grid.headline.evaluation={asked[0]}", f"grid.headline.metric={known.metrics[0]}"]


run = door(main)

if __name__ == "__main__":
    run()
