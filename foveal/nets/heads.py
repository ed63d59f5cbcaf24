"""Heads: what stands on the encoder's features."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Linear -> ReLU -> Linear, the non-linear projection of SimCLR (Chen et al. 2020, section 4.2)."""

    def __init__(self, features: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, out], not normalised."""
        projected: Tensor = self.layers(features)
        return projected


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
