"""Heads: what stands on the encoder's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """`layers` linear layers with ReLU between: by default the projection of SimCLR (Chen et al. 2020, section 4.2).

    `batchnorm` normalises after every layer but the last (BYOL, Barlow Twins, VICReg), `last_batchnorm` after the
    last one too, without weights (SimSiam, MoCo v3). A layer that batch normalisation follows needs no bias.
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
    """DINO's head (Caron et al. 2021, appendix C): three layers with GELU, a unit vector, its cosines with prototypes.

    The published form weighs the last layer by a norm that is fixed at 1: rows of unit length, as here.
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


class Grader(nn.Module):
    """An encoder with a linear head: [B, C, s, s] -> logits [B, K]."""

    def __init__(self, encoder: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K]."""
        logits: Tensor = self.head(self.encoder(images))
        return logits
