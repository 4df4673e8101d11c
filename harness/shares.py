"""What the processes of a pre-training and their memory make of a batch, said before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods.options import setting
from methods.registry import MethodSpec

from .errors import UserError
from .launch.resources import Shape
from .training.settings import equal_parts, sharing


def shares(shape: Shape, spec: MethodSpec, params: Mapping[str, Any], row: str,
           images: int | None) -> tuple[dict[str, int], list[str]]:
    """What accumulating gradients adds to a stage's key, since it changes the number; cautions.

    images: of the run, None where only the run itself will know. That fewer processes than there
    are can share a batch changes no number and is a caution only. Raises UserError for a batch
    without equal parts.
    """
    asked, batch = shape.at_once, int(params["training"]["batch_size"])
    batch = min(batch, images or batch)
    try:
        parts = equal_parts(batch, asked)
    except ValueError as error:
        raise UserError(f"method '{row}': {error}") from None
    cautions = []
    working = sharing(shape.ranks, batch // parts,
                      [int(setting(spec.options, params["options"], name)) for name in spec.dealt])
    if working < shape.ranks:
        cautions.append(f"method '{row}': {working} of {shape.ranks} processes work on it: no more "
                        f"can share {batch // parts} images equally")
    if parts == 1 or asked is None:
        return {}, cautions
    coupled = f", and so are {spec.couples}" if spec.couples else ""
    cautions.append(
        f"method '{row}': a batch of {batch} images is accumulated from {parts} forward passes of "
        f"{batch // parts}: BatchNorm is over those only{coupled}; that changes the numbers, so "
        "these stages have keys of their own (resources.pretrain.micro_batch)")
    return {"images_at_once": batch // parts if images else asked}, cautions
