"""Exact nearest neighbours: candidates from a fast product, proven complete, ranked in float32.

A similarity is the float32 inner product of two unit rows, added in an order that depends on their
width alone. Candidates come from a product that may be coarse (bfloat16 where the processor is
faster at it) and whose error is bounded: |q.g - s| <= e. Whatever is not a candidate scored at most
v, hence is at most v + e; if the k-th candidate is above that, no other image can be among the k.
Queries for which it is not are searched again with twice the candidates, in the end with all.
So the result does not depend on the search, the blocks or the threads: of equal similarities the
image with the lower index is nearer.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

QUERIES = 512
GALLERY = 2**25  # numbers in a block of the gallery: 128 MiB in float32
COLUMNS = 8192  # of one product: its result stays in the cache
GROUP = 16  # columns that share a maximum
ROWS = 4096  # that are made ready together


@dataclass(frozen=True)
class Block:
    """Unit rows of the gallery (n, d), and the same less `centre`, in the dtype of the search.

    first: its first index; largest, rest: the largest norms of a centred row and of what rounding
    took from one.
    """

    first: int
    unit: Tensor
    coarse: Tensor
    centre: Tensor
    largest: float
    rest: float


@dataclass(frozen=True)
class Candidates:
    """Columns of a block (b, m), ascending; what the similarity of each is at most, float64 (b, m);
    and what that of every other column is at most (b,)."""

    columns: Tensor
    upper: Tensor
    others: Tensor


def nearest(gallery: Tensor, queries: Tensor, k: int,
            backend: str = "torch") -> tuple[Tensor, Tensor]:
    """Similarities float32 (n, k), descending, and indices int64 (n, k) of the nearest rows.

    gallery (m, d) and queries (n, d): any scale, in memory or mapped. Beside the result it takes
    about 0.5 GiB, whatever m. backend "faiss": candidates by faiss.knn, the result is the same.
    """
    if k > len(gallery):
        raise ValueError(f"kNN with k={k} has {len(gallery)} training images: choose "
                         f"k <= {len(gallery)}")
    device = gallery.device
    if backend == "faiss" and device.type != "cpu":
        raise ValueError("backend=faiss searches on the CPU: use backend=torch, or device=cpu")
    coarse = backend == "torch" and device.type == "cpu" and _bfloat16_is_faster()
    similarity = torch.full((len(queries), k), -torch.inf, device=device)
    index = torch.zeros(len(queries), k, dtype=torch.int64, device=device)
    for block in _blocks(gallery, torch.bfloat16 if coarse else torch.float32):
        for start in range(0, len(queries), QUERIES):
            rows = slice(start, start + QUERIES)
            q = unit_rows(queries[rows].to(device))
            # with 1.5 k + 32 candidates few queries need a second look
            values, columns = _best(q, block, similarity[rows, -1], k, k + k // 2 + 32, backend)
            values, order = _sorted(torch.cat([similarity[rows], values], 1), k)
            both = torch.cat([index[rows], columns + block.first], 1)
            similarity[rows], index[rows] = values, both.gather(1, order)
    return similarity, index


def unit_rows(x: Tensor) -> Tensor:
    """Rows of norm 1, float32."""
    return torch.nn.functional.normalize(x.float())


@functools.cache
def _bfloat16_is_faster() -> bool:
    """Whether this processor multiplies bfloat16 at least 1.5 times as fast as float32.

    Where it does not, its product may be an emulation, for which the bound need not hold.
    """
    seconds = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.ones(n, 512, dtype=dtype) for n in (256, 2048))
        times = []
        for _ in range(4):
            start = time.perf_counter()
            a @ b.T
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return seconds[torch.bfloat16] * 1.5 < seconds[torch.float32]


def _sorted(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, descending, and where they are; of equals the first ones."""
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :k], order[:, :k]


def _blocks(gallery: Tensor, dtype: torch.dtype) -> Iterator[Block]:
    """The gallery in blocks of `GALLERY` numbers, unit, and centred for the search.

    q.g = q.centre + q.(g - centre): any centre will do, and near the mean the second part, whose
    rounding counts, is small. It is that of some thousand rows spread over the gallery.
    """
    n, d = gallery.shape
    size = min(n, max(1, GALLERY // d))
    centre = unit_rows(gallery[::max(1, n // 4096)]).mean(0)
    unit = gallery.new_empty(size, d, dtype=torch.float32)
    coarse = unit.to(dtype) if dtype != torch.float32 else torch.empty_like(unit)
    for first in range(0, n, size):
        count = min(size, n - first)
        largest = rest = 0.0
        for start in range(0, count, ROWS):  # more rows leave the cache between the steps
            rows = slice(start, min(start + ROWS, count))
            unit[rows] = unit_rows(gallery[first + rows.start:first + rows.stop])
            centred = unit[rows] - centre
            coarse[rows] = centred
            largest = max(largest, float(centred.norm(dim=1).max()))
            rest = max(rest, float(centred.sub_(coarse[rows]).norm(dim=1).max()))
        yield Block(first, unit[:count], coarse[:count], centre, largest, rest)


def _best(q: Tensor, block: Block, floor: Tensor, k: int, m: int,
          backend: str) -> tuple[Tensor, Tensor]:
    """The k nearest of a block, or those of them that can be above `floor` (b,): similarities,
    descending, and columns (b, min(k, n)). It looks at m candidates first."""
    found = _candidates(q, block, m, backend)
    exact = _exact(q, block.unit, found.columns, found.upper >= floor[:, None])
    values, order = _sorted(exact, k)
    columns = found.columns.gather(1, order)
    if len(block.unit) >= k:
        floor = torch.maximum(floor, values[:, -1])
    open_ = ((found.others >= floor) & found.others.isfinite()).nonzero().flatten()
    if len(open_):
        values[open_], columns[open_] = _best(q[open_], block, floor[open_], k, 2 * m, backend)
    return values, columns


def _candidates(q: Tensor, block: Block, m: int, backend: str) -> Candidates:
    """The m columns with the largest products, or all of them, for unit queries (b, d)."""
    find = _by_faiss if backend == "faiss" else _by_product
    coarse = q.to(block.coarse.dtype)
    all_of_them = 4 * m >= len(block.unit)
    score, columns = find(coarse, block.coarse, len(block.unit) if all_of_them else m)
    if not all_of_them or backend == "faiss":
        columns, order = columns.sort(1)
        score = score.gather(1, order)
    upper = _at_most(score.double(), (q - coarse.float()).norm(dim=1).double()[:, None], block)
    upper += (q.double() @ block.centre.double())[:, None]
    # monotonous: the least score has the least bound
    others = upper.new_full((len(q),), -torch.inf) if all_of_them else upper.amin(1)
    return Candidates(columns, upper, others)


def _at_most(score: Tensor, lost: Tensor, block: Block) -> Tensor:
    """What q.(g - centre) is at most, given the product's value for it.

    With q~, g~ the rounded rows: q.g - q~.g~ = (q - q~).g~ + q.(g - g~), by Cauchy-Schwarz. Sums of
    d terms are off by d units in the last place (taken twice, so that no rounding mode matters),
    once in the product and once in the exact similarity. The result is rounded to its dtype.
    """
    dtype, d = block.coarse.dtype, block.unit.shape[1]
    norm = 1 + 1e-5
    length = block.largest + block.rest
    adding = (d + 16) * 2.0**-23
    exact = adding * norm
    if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        adding += 2.0**-7  # then products may round to TF32 or bfloat16
    error = (1 + 1e-3) * (lost * length + norm * block.rest + adding * (norm + lost) * length
                          + exact + 1e-30)
    return score + score.abs() * (1.01 * torch.finfo(dtype).eps / 2) + error


def _by_product(q: Tensor, gallery: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m largest products of each query (b, m), unsorted, and their columns.

    The m columns lie in the m groups with the largest maxima; looking for those first took the
    selection from 210 to 60 us a query of 50,000.
    """
    parts = -(-len(gallery) // COLUMNS)
    groups = -(-len(gallery) // (parts * GROUP))
    width = groups * GROUP
    scores = q.new_empty(parts, len(q), width)
    for part in range(parts):
        rows = gallery[part * width:(part + 1) * width]
        if len(rows) == width:
            torch.mm(q, rows.T, out=scores[part])
        else:
            scores[part, :, :len(rows)] = q @ rows.T
            scores[part, :, len(rows):] = -torch.inf
    if m == len(gallery):
        columns = torch.arange(m, device=q.device).expand(len(q), -1)
        return scores.permute(1, 0, 2).flatten(1)[:, :m], columns
    maxima = scores.unflatten(2, (GROUP, groups)).amax(2).permute(1, 0, 2).flatten(1)
    best = maxima.topk(min(m, maxima.shape[1]), dim=1, sorted=False).indices
    # group g of part p: columns p width + g, p width + g + groups, ...
    first = best // groups * width + best % groups
    row = torch.arange(len(q), device=q.device)[:, None]
    begin = (best // groups * (len(q) * width) + row * width + best % groups)[:, :, None]
    places = begin.to(torch.int32) + torch.arange(0, width, groups, device=q.device,
                                                  dtype=torch.int32)
    values = scores.flatten().index_select(0, places.flatten()).view(len(q), -1)
    top = values.topk(m, dim=1, sorted=False)
    return top.values, first.gather(1, top.indices // GROUP) + top.indices % GROUP * groups


def _by_faiss(q: Tensor, gallery: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """As `_by_product`, by faiss.knn, which needs no index."""
    import faiss

    values, columns = faiss.knn(q.numpy(), gallery.numpy(), m, metric=faiss.METRIC_INNER_PRODUCT)
    return torch.from_numpy(values), torch.from_numpy(columns)


def _exact(q: Tensor, unit: Tensor, columns: Tensor, kept: Tensor) -> Tensor:
    """Similarities (b, m) of the columns that are kept, -inf for others.

    The sparse product adds each inner product by itself, row by row of `unit`, in a fixed order:
    0.4 us for 512 numbers, against 1.4 us with gathered rows.
    """
    if q.device.type != "cpu":
        parts = [(unit[columns[:, i:i + 32]] * q[:, None]).sum(2)
                 for i in range(0, columns.shape[1], 32)]
        return torch.cat(parts, 1).where(kept, -torch.inf)
    starts = torch.nn.functional.pad(kept.sum(1).cumsum(0), (1, 0))
    every = int(starts[-1]) == kept.numel()
    chosen = columns.flatten() if every else columns[kept]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR")
        pattern = torch.sparse_csr_tensor(starts, chosen, torch.zeros(len(chosen)),
                                          size=(len(q), len(unit)), check_invariants=False)
        values = torch.sparse.sampled_addmm(pattern, q, unit.T, beta=0.0).values()
    if every:
        return values.view(columns.shape)
    return torch.full(columns.shape, -torch.inf).masked_scatter_(kept, values)
