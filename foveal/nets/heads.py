"""Heads: map the encoder's features to projections, prototypes or grades."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.losses.grading import to_logits


class ProjectionHead(nn.Module):
    """`layers` linear layers with ReLU between: by default the projection of SimCLR (Chen et al. 2020, section 4.2).

    `batchnorm` normalises after every layer but the last (BYOL, Barlow Twins, VICReg); `last_batchnorm` normalises
    after the last one, without weights (SimSiam, MoCo v3). A layer before batch normalisation needs no bias.
    """

    def __init__(
        self, features: int, hidden: int, out: int, *, layers: int = 2, batchnorm: bool = False,
        last_batchnorm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = [features] + [hidden] * (layers - 1)
        modules: list[nn.Module] = []
        for width in widths[:-1]:
            modules.append(nn.Linear(width, hidden, bias=not batchnorm))
            modules += [nn.BatchNorm1d(hidden)] if batchnorm else []
            modules.append(nn.ReLU(inplace=True))
        modules.append(nn.Linear(widths[-1], out, bias=not last_batchnorm))
        modules += [nn.BatchNorm1d(out, affine=False)] if last_batchnorm else []
        self.layers = nn.Sequential(*modules)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, out], not normalised."""
        projected: Tensor = self.layers(features)
        return projected


class PrototypeHead(nn.Module):
    """DINO's head (Caron et al. 2021, appendix C): three layers with GELU, then cosines with prototypes.

    The published head fixes the weight norm of its last layer at 1; here rows of unit length do the same.
    """

    def __init__(self, features: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> cosines [B, prototypes]."""
        cosines: Tensor = F.linear(F.normalize(self.layers(features), dim=1), F.normalize(self.prototypes, dim=1))
        return cosines


class CumulativeHead(nn.Module):
    """CORAL's head: shared weights and one bias per cut: [B, D] -> log-odds [B, K - 1] of a grade above 0, 1, …"""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, features))
        self.bias = nn.Parameter(-(torch.arange(classes - 1) - (classes - 2) / 2))  # in order from the start

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, K - 1]."""
        return F.linear(features, self.weight) + self.bias


def grading_head(form: str, features: int, classes: int) -> nn.Module:
    """Create a head of that form: [B, D] -> outputs [B, O], with O = K (softmax), K - 1, or 1 (regression).

    All heads have `weight` [., D] and `bias`, so that a scaling of the features can be folded into them.
    """
    if form == "cumulative":
        return CumulativeHead(features, classes)
    return nn.Linear(features, {"softmax": classes, "conditional": classes - 1, "regression": 1}[form])


class Grader(nn.Module):
    """An encoder with a head: [B, C, s, s] -> logits [B, K], whose softmax gives the probabilities of the classes.

    form: of the head, which depends on the loss (losses/grading.py). second: number of classes of a second task, which
    `second_head` predicts from the same features; 0 = none.
    """

    def __init__(self, encoder: nn.Module, features: int, classes: int, form: str = "softmax", second: int = 0) -> None:
        super().__init__()
        self.encoder, self.head = encoder, grading_head(form, features, classes)
        self.form, self.classes = form, classes
        self.second_head = nn.Linear(features, second) if second else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K]."""
        return to_logits(self.head(self.encoder(images)), self.form, self.classes)
