"""Use your own random views: one of Foveal's recipes with changes, or a function of images, here with torchvision.

The file views.jpg in each run folder shows what the network sees.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

import foveal
from foveal.augment.recipes import RECIPES

SIZE = 32
transform = v2.Compose([v2.RandomResizedCrop(SIZE, scale=(0.3, 1.0)), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3)])


def views(images: Tensor) -> Tensor:
    """uint8 [B, C, S, S] -> uint8 [B, C, s, s], with a crop of its own for each image; Foveal normalises afterwards."""
    return torch.stack([transform(image) for image in images])


data = foveal.prepare("phantom:80", out="runs/own_augmentation/set", size=48)
short: dict[str, Any] = {"encoder": "small_conv", "epochs": 1, "batch_size": 16, "image_size": SIZE}
foveal.pretrain(data, out="runs/own_augmentation/function", views=views, **short)

# A recipe is a frozen dataclass: here the one for retinas, with less rotation and more blur.
recipe = replace(RECIPES["fundus"], rotation=15, blur_probability=0.8)
foveal.pretrain(data, out="runs/own_augmentation/recipe", views=recipe, **short)

# The first and the second view may have different recipes, as in BYOL.
foveal.pretrain(data, out="runs/own_augmentation/pair", views=(recipe, views), **short)
