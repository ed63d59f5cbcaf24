"""Use your own network as the encoder: pre-train it, train a grader that starts from it, and open both again.

An encoder maps images [B, C, s, s] to features [B, D]. Foveal trains a copy; the weights are in the run folder.
"""

from typing import Any

from safetensors.torch import load_file
from torch import nn

import foveal


def network() -> nn.Module:
    """Features [B, 32] of images [B, 3, s, s]."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


data = foveal.prepare("phantom:80", out="runs/own_backbone/set", size=32)  # drawn photographs of the retina
short: dict[str, Any] = {"encoder": network(), "epochs": 1, "batch_size": 16}
run = foveal.pretrain(data, out="runs/own_backbone/encoder", **short)

# The names of the learned weights are those of your network's parameters.
encoder = network()
encoder.load_state_dict(load_file(run / "encoder.safetensors"))

# To open a grader with your own network, pass the network again. The run contains the weights.
grader = foveal.train(data, out="runs/own_backbone/grader", init=run, **short)
answers = foveal.load(grader, encoder=network()).predict(data)
print(answers[["id", "grade"]].head())
