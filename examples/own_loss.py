"""Use your own self-supervised loss: here a triplet loss with the hardest negative of the batch.

A method has an encoder and a projection, which turn both views of an image into vectors, and a loss of these vectors.
"""

import torch
from torch import Tensor, nn

import foveal
from foveal.nets.heads import ProjectionHead
from foveal.pretrain.interface import TwoViews


class Triplet(TwoViews):
    """The other view of an image must be nearer than the nearest view of another image, by a margin."""

    margin = 0.5

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__(encoder, ProjectionHead(features, hidden=features, out=32))

    def loss(self, parts: tuple[Tensor, ...], identity: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """parts: the vectors of both views, [B, 32] each. Returns the loss, and numbers for metrics.jsonl."""
        first, second = (nn.functional.normalize(part.float()) for part in parts)
        distances = torch.cdist(first, second)
        own = distances.diagonal()
        nearest = (distances + 10 * torch.eye(len(own), device=own.device)).min(1).values
        cost = torch.relu(own - nearest + self.margin)
        return cost.mean(), {"violated": (cost > 0).float().mean()}


data = foveal.prepare("phantom:80", out="runs/own_loss/set", size=32)
foveal.pretrain(data, out="runs/own_loss/encoder", method=Triplet, encoder="small_conv", epochs=2, batch_size=16)
