"""Supervised contrastive loss (Khosla et al. 2020, https://arxiv.org/abs/2004.11362, equation 2, L_out).

    loss = mean over all 2N anchors a of  the mean over its positives p of  -log( exp(a.p/t) / sum b != a exp(a.b/t) )

Positives are all other vectors with the anchor's label, both views. No factor temperature / base_temperature.
"""

from __future__ import annotations

from torch import Tensor

from foveal.losses.ntxent import ntxent


def supcon(z1: Tensor, z2: Tensor, labels: Tensor, temperature: float, chunk: int = 0) -> Tensor:
    """The loss of two views [n, D] each with labels int64 [n], a scalar; over processes and in chunks as `ntxent`."""
    return ntxent(z1, z2, temperature, labels, "positive", chunk)
