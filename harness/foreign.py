"""Checkpoints of others: a ResNet's tensors out of a file of torchvision, MoCo, DINO, solo-learn,
lightly and the like. Imports torch; runs no code of the file.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# What is evaluated where a file holds several networks: the trained one, but DINO's teacher.
LAST = ("encoder_k", "momentum", "student", "target", "ema")
# lightly and others keep nn.Sequential(*resnet.children()): positions in torchvision's order
POSITIONS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
SHOWN = 3
OPTIONAL = "num_batches_tracked"


def load(backbone: nn.Module, path: Path) -> dict[str, Any]:
    """Give `backbone` the weights in a file; what was done: prefix, tensors taken and left out.

    Raises ValueError, one line, if the file cannot be read without running its code, or naming how
    many tensors do not fit and the first of them.
    """
    state = read(path)
    wanted = backbone.state_dict()
    prefix, found = fit(state, list(wanted))
    if not found:
        raise ValueError(f"{path.name}: none of its {len(state)} tensors ({_few(state)}) has a "
                         f"name of this network ({_few(wanted)}): set scale.backbone to the "
                         "network of the file")
    wrong = list(_misfits(wanted, found))
    if wrong:
        stem = "; set scale.backbone.stem=imagenet or cifar as the file has it" if any(
            line.startswith("conv1.weight is") for line in wrong) else \
            ": set scale.backbone to the network of the file"
        raise ValueError(f"{path.name}: {len(wrong)} of {len(wanted)} tensors do not fit: "
                         f"{'; '.join(wrong[:SHOWN])}{'; ...' if len(wrong) > SHOWN else ''}{stem}")
    backbone.load_state_dict({name: found.get(name, value) for name, value in wanted.items()})
    return {"prefix": prefix, "tensors": len(found), "left_out": len(state) - len(found)}


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its full name, "teacher.backbone.conv1.weight"."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} holds more than tensors, and reading it would run its code: "
                         "save its state_dict with torch.save or as safetensors "
                         f"({str(error).splitlines()[0][:120]})") from None
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        cause = " ".join(str(error).split())[:120]
        raise ValueError(f"{path.name} is no checkpoint of torch or safetensors ({cause}): give "
                         "another file") from None
    tensors = dict(_flat(content))
    if not tensors:
        raise ValueError(f"{path.name} holds no tensor: give the file of a state_dict")
    return tensors


def fit(state: Mapping[str, Tensor], names: list[str]) -> tuple[str, dict[str, Tensor]]:
    """The prefix under which most of `names` are, and these tensors by their plain name.

    Among equals it is the network that the authors evaluate, see `LAST`, then the shortest.
    """
    plain = set(names)
    found: dict[str, dict[str, Tensor]] = {}
    for full, tensor in state.items():
        for cut in _cuts(full):
            prefix, rest = full[:cut], _named(full[cut:])
            if rest in plain:
                found.setdefault(prefix, {}).setdefault(rest, tensor)
    if not found:
        return "", {}

    def rank(prefix: str) -> tuple[int, int, int]:
        held = sum(not name.endswith(OPTIONAL) for name in found[prefix])
        return -held, sum(word in prefix for word in LAST), len(prefix)

    prefix = min(sorted(found), key=rank)
    return prefix, found[prefix]


def _misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Iterator[str]:
    """What is missing or has another shape, the shapes first: they say which network it is."""
    for name, value in wanted.items():
        if name in found and found[name].shape != value.shape:
            yield f"{name} is {_shape(found[name])} in the file and {_shape(value)} here"
    for name in wanted:
        if name not in found and not name.endswith(OPTIONAL):
            yield f"{name} is missing"


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested mappings; optimisers' states have numbers for names and are left out."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(name, str) and name not in ("optimizer", "optimizer_states"):
                inner = isinstance(value, Mapping)
                yield from _flat(value, f"{prefix}{name}." if inner else f"{prefix}{name}")
    elif isinstance(content, Tensor):
        yield prefix, content


def _cuts(name: str) -> Iterator[int]:
    """Where a prefix may end: the start, and after each dot."""
    yield 0
    yield from (i + 1 for i, letter in enumerate(name) if letter == ".")


def _named(rest: str) -> str:
    """A position of nn.Sequential as torchvision's name: "4.0.conv1.weight" is in layer1."""
    head, dot, tail = rest.partition(".")
    return f"{POSITIONS[head]}{dot}{tail}" if head in POSITIONS else rest


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _few(names: Mapping[str, Any]) -> str:
    plain = [name for name in names if not name.endswith(OPTIONAL)]
    return ", ".join(plain[:SHOWN]) + (", ..." if len(plain) > SHOWN else "")
