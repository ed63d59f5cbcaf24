"""The gradients of one training step: of the whole batch at once, or by gradient caching where it does not fit.

Gradient caching (Gao et al. 2021, https://arxiv.org/abs/2101.06983): embed the batch in micro-batches without keeping
what the backward pass needs, take the loss of all embeddings and its gradient with respect to them, then embed every
micro-batch again and give each its part of that gradient. This needs the memory of one micro-batch and a third more
time. The gradient is that of the whole batch, except that BatchNorm takes the statistics of a micro-batch; its running
statistics change in the second pass only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from foveal.nets.layers import statistics_layers
from foveal.pretrain.health import facts_of

Views = tuple[Tensor, Tensor]


def gradients(
    trained: nn.Module, method: Any, views: Sequence[Views], identity: Tensor | None, autocast: Any, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradients of the loss of the whole batch to the parameters; returns (loss, facts), detached.

    trained: the method, or the method under DistributedDataParallel. views: one pair [B, C, s, s] for the whole batch,
    or several for micro-batches. seed: of dropout and stochastic depth, which must be the same in both passes.
    """
    if len(views) > 1:
        return _cached(trained, method, views, identity, autocast, seed)
    torch.manual_seed(seed)
    with autocast:
        parts = trained(*views[0])
    loss, facts = _measured(method, parts, identity)
    loss.backward()
    return loss.detach(), facts


def _cached(
    trained: nn.Module, method: Any, views: Sequence[Views], identity: Tensor | None, autocast: Any, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    embedded = []
    with torch.no_grad(), running_statistics_still(method), autocast:
        for number, pair in enumerate(views):
            torch.manual_seed(seed + number)
            embedded.append(method(*pair))
    leaves = tuple(torch.cat(column).requires_grad_() for column in zip(*embedded, strict=True))
    loss, facts = _measured(method, leaves, identity)
    loss.backward()
    sizes = [len(parts[0]) for parts in embedded]
    wanted = [[None] * len(views) if leaf.grad is None else leaf.grad.split(sizes) for leaf in leaves]
    for number, pair in enumerate(views):
        torch.manual_seed(seed + number)
        # Gradients travel between processes once, with the last micro-batch.
        last: Callable[[], Any] = getattr(trained, "no_sync", nullcontext) if number + 1 < len(views) else nullcontext
        with last():
            with autocast:
                parts = trained(*pair)
            learned = [(part, column[number]) for part, column in zip(parts, wanted, strict=True) if part.requires_grad]
            torch.autograd.backward([part for part, _ in learned], [gradient for _, gradient in learned])
    return loss.detach(), facts


def _measured(method: Any, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the facts that every row has; a method of a program may give the loss alone."""
    found = method.loss(parts, identity)
    loss, facts = found if isinstance(found, tuple) else (found, {})
    return loss, facts if "feature_std" in facts else facts_of(parts[0], parts[1]) | facts


@contextmanager
def running_statistics_still(method: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by its batch, as in training, but leaves its running statistics as they are."""
    norms: list[Any] = [norm for norm in statistics_layers(method) if norm.num_batches_tracked is not None]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
