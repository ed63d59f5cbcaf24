"""Looking: a grader that also returns its features and a map of the places that support its grade.

The map is a class activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150): the last map of features,
weighted by the effect of each feature on the score. The score is the expected grade, or the log-odds of the answer.
The head must use the mean of that map. The result equals Grad-CAM (Selvaraju et al. 2017) without a backward pass, so
an exported file can compute it.

Legend: B images, D features, O outputs of the head, K classes, h and w places of the last map.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.losses.grading import expected_grade, to_logits
from foveal.nets.heads import Grader

STEP = 0.05  # step of an output to measure its effect on the score; outputs vary by about 1


class Looking(nn.Module):
    """[B, C, s, s] -> logits [B, K], features [B, D] and, if `maps`, places [B, h, w] >= 0."""

    def __init__(self, grader: Grader, decision: str, maps: bool) -> None:
        super().__init__()
        self.grader, self.decision, self.maps = grader, decision, maps

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(logits, features) or (logits, features, places)."""
        grader = self.grader
        if not self.maps:
            features = grader.encoder(images)
            return self._logits(grader.head(features)), features
        encoder: Any = grader.encoder
        last = encoder.forward_features(images)
        features = encoder.forward_head(last)
        outputs = grader.head(features)
        weights = self._slopes(outputs.float()) @ self._rows(outputs.shape[1]).float()
        places = torch.einsum("bd,bdhw->bhw", weights, last.float()).relu()
        return self._logits(outputs), features, places

    def _logits(self, outputs: Tensor) -> Tensor:
        return to_logits(outputs, self.grader.form, self.grader.classes)

    def _rows(self, outputs: int) -> Tensor:
        """The head's weights [O, D]; a cumulative head shares one row for all its outputs."""
        weight: Any = self.grader.head.weight
        rows: Tensor = weight.expand(outputs, -1)
        return rows

    def _slopes(self, outputs: Tensor) -> Tensor:
        """The effect of each output on the score: [B, O] -> [B, O].

        Uses finite differences instead of gradients: they work for every head and in an exported graph.
        """
        given = F.one_hot(self._logits(outputs).argmax(1), self.grader.classes).bool()
        columns = []
        for number in range(outputs.shape[1]):
            step = F.one_hot(torch.tensor(number, device=outputs.device), outputs.shape[1]) * STEP
            columns.append((self._score(outputs + step, given) - self._score(outputs - step, given)) / (2 * STEP))
        return torch.stack(columns, 1)

    def _score(self, outputs: Tensor, given: Tensor) -> Tensor:
        logits = self._logits(outputs)
        if self.decision == "expected":
            return expected_grade(logits.softmax(1))
        rest = logits.masked_fill(given, -torch.inf).logsumexp(1)
        return (logits * given).sum(1) - rest


def has_map(grader: Grader, image: Tensor) -> bool:
    """Whether the features are the mean of a last map with more than one place. image: [1, C, s, s], to test it."""
    encoder: Any = grader.encoder
    if not hasattr(encoder, "forward_features") or not hasattr(encoder, "forward_head"):
        return False
    with torch.no_grad():
        last = encoder.forward_features(image)
        if last.dim() != 4 or last.shape[2] != last.shape[3] or last.shape[3] < 2:
            return False
        mean, features = last.mean((2, 3)), encoder.forward_head(last)
    return mean.shape == features.shape and bool(torch.allclose(mean, features, rtol=1e-4, atol=1e-5))
