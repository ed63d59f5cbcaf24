"""A method ready for training, in one process or several, and the gradients of one step.

The gradients are those of the whole batch at once or, where it does not fit, by gradient caching (Gao et al. 2021,
https://arxiv.org/abs/2101.06983): embed the batch in micro-batches without keeping what the backward pass needs, take
the loss of all embeddings and its gradient with respect to them, then embed every micro-batch again and give each its
part of that gradient. This needs the memory of one micro-batch and a third more time. The gradient is that of the whole
batch, except that BatchNorm takes the statistics of a micro-batch; only the second pass changes its running ones.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from foveal.errors import FovealError
from foveal.given import Given
from foveal.nets.encoder import create_encoder, feature_size, freeze_stages, learning_rate_scales
from foveal.nets.layers import quicken_depthwise, statistics_layers, synchronise
from foveal.pretrain.health import facts_of
from foveal.pretrain.interface import Loss, Parts, TwoViews
from foveal.pretrain.options import METHOD, PretrainConfig
from foveal.pretrain.simclr import MoCoV3, SimCLR, SupCon
from foveal.pretrain.without_negatives import BYOL, BarlowTwins, SimSiam, VICReg
from foveal.schedule import build_optimiser, parameter_groups

Pairs = Sequence[tuple[Tensor, Tensor]]
METHODS: dict[str, Any] = {"simclr": SimCLR, "supcon": SupCon, "byol": BYOL, "simsiam": SimSiam, "mocov3": MoCoV3,
                           "barlow_twins": BarlowTwins, "vicreg": VICReg}  # fmt: skip
ROW = {"step", "epoch", "loss", "learning_rate", "images_per_second", "data_wait", "effective_rank", "verdict"}
LOSS = "a scalar tensor with a gradient, alone or with a dictionary of numbers"


def method_of(name: str) -> Any:
    """The class of a method, or the object that a program gave in its place."""
    return name.given if isinstance(name, Given) else METHODS[name]


@dataclass(frozen=True)
class Built:
    """A method, the module whose forward pass is called (itself, or under DistributedDataParallel), its optimiser."""

    method: Any
    trained: nn.Module
    optimiser: torch.optim.Optimizer
    still: list[nn.Module]  # normalisation layers of frozen stages

    def training_mode(self) -> None:
        """Training mode for all but the frozen stages, whose running statistics stand still."""
        self.trained.train()
        for module in self.still:
            module.eval()


def build(config: PretrainConfig, channels: int, encoder: nn.Module, device: torch.device, world: int) -> Built:
    """The method around `encoder`, ready to be trained."""
    assert config.learning_rate is not None and config.weight_decay is not None
    method = build_method(config, channels, encoder).to(device)
    if world > 1:
        synchronise(method)
    encoders = [child for name, child in method.named_children() if name in ("encoder", "target_encoder")]
    still = [norm for each in encoders for norm in freeze_stages(each, config.freeze_stages)]
    groups = parameter_groups(method, config.weight_decay, learning_rate_scales(encoder, config.layer_decay))
    trained = DistributedDataParallel(method) if world > 1 else method
    if config.compile == "yes":
        method.encoder.compile()
    return Built(method, trained, build_optimiser(config.optimiser, groups, config.learning_rate), still)


def build_method(config: PretrainConfig, channels: int, encoder: nn.Module | None = None) -> Any:
    """The method with its encoder (a new one when none is given), channels last."""
    encoder = create_encoder(config.encoder, channels, config.image_size) if encoder is None else encoder
    quicken_depthwise(encoder)
    options = [getattr(config, config.method)] if hasattr(config, config.method) else []
    try:
        method = method_of(config.method)(encoder, feature_size(encoder), *options)
    except TypeError as error:
        if not isinstance(config.method, Given):
            raise
        what = f"method={config.method} does not take an encoder and the number of its features ({error})"
        raise FovealError("method.object", what, expected=METHOD) from error
    if not isinstance(method, TwoViews):
        raise FovealError("method.object", f"method={config.method} gives a {type(method).__name__}", expected=METHOD)
    return method.to(memory_format=torch.channels_last)


def gradients(trained: nn.Module, method: Any, views: Pairs, identity: Tensor | None, autocast: Any, seed: int) -> Loss:
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


def _cached(trained: nn.Module, method: Any, views: Pairs, identity: Tensor | None, autocast: Any, seed: int) -> Loss:
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


def _measured(method: Any, parts: Parts, identity: Tensor | None) -> Loss:
    """The loss, and the facts that every row has; a method of a program may give the loss alone, or plain numbers."""
    found = method.loss(parts, identity)
    loss, facts = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
        shown = type(loss).__name__
        if isinstance(loss, Tensor):
            shown = f"a tensor {list(loss.shape)} {'with' if loss.requires_grad else 'without'} a gradient"
        raise FovealError("method.object", f"{type(method).__qualname__}.loss gives {shown}", expected=LOSS)
    try:
        facts = {name: torch.as_tensor(fact, device=loss.device).detach().reshape(()) for name, fact in facts.items()}
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        what = f"{type(method).__qualname__}.loss gives facts that are no numbers ({error})"
        raise FovealError("method.object", what, expected=LOSS) from error
    if taken := ROW & facts.keys():
        what = f"the run itself logs {', '.join(taken)}, which the loss also gives"
        raise FovealError("method.object", what, fix="give these numbers other names")
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
