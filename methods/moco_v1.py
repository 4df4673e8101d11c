"""MoCo v1: "Momentum Contrast for Unsupervised Visual Representation Learning", arXiv 1911.05722.

Released code: facebookresearch/moco, main_moco.py without --mlp, --aug-plus and --cos.
"""

from __future__ import annotations

from dataclasses import dataclass

from methods.moco_v2 import MoCoV2
from methods.options import option
from methods.registry import register


@register("mocov1")
class MoCoV1(MoCoV2):
    """MoCo v2 with a linear head, a colder softmax and weaker augmentation."""

    paper = "Momentum Contrast for Unsupervised Visual Representation Learning, arXiv 1911.05722"
    views = ("moco_v1", "moco_v1")

    @dataclass(frozen=True)
    class Config(MoCoV2.Config):
        """Options of MoCo v1."""

        temperature: float = option(0.07, above=0, source="released main_moco.py")
        head: str = option("linear", choices=("mlp", "linear"), source="released builder.py")
