"""Self-supervised methods, one file each. Importing this package imports no torch."""

from __future__ import annotations

from methods.options import Option, option
from methods.recipe import Cluster, Pretrain, recipe
from methods.registry import MethodSpec, discover, load, load_recipe, register

__all__ = [
    "Cluster",
    "MethodSpec",
    "Option",
    "Pretrain",
    "discover",
    "load",
    "load_recipe",
    "option",
    "recipe",
    "register",
]
