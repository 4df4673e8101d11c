"""Instance discrimination against stored embeddings, as modules that several methods use.

Shapes: N images of the batch, D embedding width. All embeddings given and kept are unit vectors,
but for those of TargetBranch, which are raw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.parts.distributed import gather, shuffle, unshuffle, world
from methods.parts.ema import Momentum, cosine_momentum
from methods.parts.losses import cosine_regression, crossed, full_precision, queue_nce, unit
from methods.parts.stores import Bank, Queue


class QueueBranch(nn.Module):
    """MoCo: queries against the key of the same image and a queue of older keys."""

    def __init__(
        self,
        online: Sequence[nn.Module],
        queue: Queue,
        temperature: float,
        momentum: float,
        average_first: bool = True,
        splits: int = 1,
    ) -> None:
        """Copy the online modules into the key encoder.

        It moves before the keys are computed, as in the released MoCo, or (`average_first=False`)
        after the optimiser step, as in CMC and CLD's CIFAR code. `splits`: see `encode`.
        """
        super().__init__()
        self.key_encoder = Momentum(*online)
        self.queue = queue
        self.temperature = temperature
        self.momentum = momentum
        self.average_first = average_first
        self.splits = splits
        self.key_encoder.local_norm = splits > 1
        self._keys: list[Tensor] = []  # of each forward pass of this step

    def encode(self, key_view: Tensor) -> Tensor:
        """Return the unit keys (N, D) of images (N, 3, H, W).

        With `splits` > 1 the images are shuffled and pass in that many parts, each with BatchNorm
        statistics of its own: MoCo's shuffling BN (section 3.3); W ranks make splits / W parts
        each. Statistics that queries and keys share tell them which keys are theirs.
        """
        if self.splits == 1:
            return unit(self.key_encoder(key_view))
        images, order = shuffle(key_view)
        parts = [self.key_encoder(part) for part in images.tensor_split(self.splits // world())]
        return unshuffle(unit(torch.cat(parts)), order)

    def keys(self, key_view: Tensor) -> Tensor:
        """Return the keys of this step, after the key encoder's move if it moves first."""
        if self.average_first and not self._keys:
            self.key_encoder.update(self.momentum)
        self._keys.append(self.encode(key_view).to(self.queue.rows.dtype))
        return self._keys[-1]

    def loss(self, queries: Sequence[Tensor], key_view: Tensor) -> Tensor:
        """Return the mean over the queries' InfoNCE; the queries are computed before this call.

        The order is that of the released forward pass:
        1. queries, 2. the key encoder moves, 3. keys, 4. logits, 5. (after the step) the queue.
        """
        keys_ND, rows = self.keys(key_view), self.queue.rows
        terms = [queue_nce(q_ND, keys_ND, rows, self.temperature) for q_ND in queries]
        return torch.stack(terms).mean()

    def after_step(self, progress: float = 0.0) -> None:
        """Enqueue the keys; not in `loss`, since backward still needs the rows they replace."""
        self._enqueue()
        self._keys = []
        if not self.average_first:
            self.key_encoder.update(self.momentum)

    def _enqueue(self) -> None:
        for keys_ND in self._keys:
            self.queue.push(keys_ND)


class JigsawBranch(QueueBranch):
    """InfoMin as CLD runs it: several queries, each with the jigsaw query, against one key.

    In the released CLD code each query's call writes the keys into the queue, so they take a place
    for each query, and all but the first query find their own key among the negatives as well;
    `rewrite` reproduces that. Source: infomin/contrast_trainer.py and infomin/mem_moco.py.
    """

    def __init__(self, *given: Any, rewrite: bool = True, **named: Any) -> None:
        """Take what QueueBranch takes; without `rewrite` the keys are written once, at the end."""
        super().__init__(*given, **named)
        self.rewrite = rewrite
        self._again = 0

    def loss(self, queries: Sequence[Tensor], key_view: Tensor) -> Tensor:
        """Return the mean InfoNCE of all queries, half of its weight on the last, the jigsaw's."""
        *plain, jigsaw_ND = queries
        keys_ND, rows, terms = self.keys(key_view), self.queue.rows, []
        every, self._again = gather(keys_ND), len(plain) - 1 if self.rewrite else 0
        for v, query_ND in enumerate(plain):
            pair = (query_ND, jigsaw_ND)
            terms += [queue_nce(q_ND, keys_ND, rows, self.temperature) for q_ND in pair]
            if v < self._again:
                rows = rows.index_copy(0, self.queue.place(len(every), v * len(every)), every)
        return torch.stack(terms).mean()

    def after_step(self, progress: float = 0.0) -> None:
        """Enqueue the keys once for each query."""
        for _ in range(self._again):
            self._enqueue()
        super().after_step(progress)


class TargetBranch(nn.Module):
    """BYOL: each view's prediction against the other view's projection by the averaged network."""

    def __init__(self, online: Sequence[nn.Module], predictor: nn.Module, momentum: float) -> None:
        """Copy the online modules into the target; `momentum` goes to 1 by the cosine schedule."""
        super().__init__()
        self.target = Momentum(*online)
        self.predictor = predictor
        self.momentum = momentum

    def loss(self, projections: Sequence[Tensor], views: Sequence[Tensor]) -> Tensor:
        """Return the mean of both directions' regressions, from raw projections (N, D)."""
        predictions = [self.predictor(z_ND) for z_ND in projections]
        targets = [self.target(view) for view in views]
        return crossed(cosine_regression, predictions, targets) / 2

    def after_step(self, progress: float = 0.0) -> None:
        """Move the target towards the online network."""
        self.target.update(cosine_momentum(self.momentum, progress))


class BankBranch(nn.Module):
    """NPID: each embedding against the bank's rows of all images (a softmax over the data set)."""

    def __init__(self, bank: Bank, temperature: float, shifted: bool = False) -> None:
        """Keep the bank. `shifted`: see `loss`."""
        super().__init__()
        self.bank = bank
        self.temperature = temperature
        self.shifted = shifted
        self._seen: list[tuple[Tensor, Tensor]] = []

    def remember(self, views: Sequence[Tensor], index_N: Tensor) -> None:
        """Note the views' embeddings for the update after the step, the last view first."""
        self._seen += [(index_N, x_ND.detach()) for x_ND in reversed(views)]

    def loss(self, views: Sequence[Tensor], index_N: Tensor) -> Tensor:
        """Return the mean over the views of the cross entropy with the image's own row.

        In the released CLD code the bank moves inside backward, so the first view's gradient meets
        rows that the second has already moved, while its probabilities come from the old rows;
        `shifted` reproduces that.
        """
        self.remember(views, index_N)
        rows, terms = self.bank.rows, []
        for v, x_ND in enumerate(views):
            later = views[v + 1].detach() if self.shifted and v + 1 < len(views) else None
            moved = None if later is None else self.bank.moved(index_N, later)
            terms.append(bank_nce(x_ND, rows, index_N, self.temperature, moved))
        return torch.stack(terms).mean()

    def after_step(self, progress: float = 0.0) -> None:
        """Move the bank's rows of the batch."""
        for index_N, x_ND in self._seen:
            self.bank.update(index_N, x_ND)
        self._seen = []


@full_precision
def bank_nce(
    x_ND: Tensor, rows_MD: Tensor, index_N: Tensor, temperature: float, moved_ND: Tensor | None
) -> Tensor:
    """Return the mean cross entropy of x rows^T / T with the image's row as its target.

    With `moved_ND` the value is the same, and the gradient is taken with those rows in place of
    the batch's.
    """
    logits_NM = x_ND @ rows_MD.T / temperature
    exact = F.cross_entropy(logits_NM, index_N)
    if moved_ND is None:
        return exact
    with torch.no_grad():
        residual_NM = logits_NM.softmax(dim=1)
        residual_NM[torch.arange(len(x_ND)), index_N] -= 1
        rows = rows_MD.index_copy(0, gather(index_N), gather(moved_ND))
        gradient_ND = residual_NM @ rows / (len(x_ND) * temperature)
    linear = (x_ND * gradient_ND).sum()
    return exact.detach() + linear - linear.detach()
