"""Use Foveal's views and its NT-Xent loss in your own training loop, without the rest of Foveal.

`draw` makes a table of random numbers. `random_views` applies the table to images, with OpenCV on a CPU and with torch
on a GPU.
"""

import numpy as np
import timm
import torch

from foveal.augment.draw import draw
from foveal.augment.recipes import RECIPES
from foveal.augment.views import NetworkInput, random_views
from foveal.losses.ntxent import ntxent
from foveal.sources.phantom import draw_phantom

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
drawn = [draw_phantom(number % 5, "left", 64, np.random.default_rng(number)).image for number in range(64)]
photographs = np.stack(drawn)  # uint8 [n, S, S, 3]
network = timm.create_model("resnet10t", num_classes=64).to(device)
optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
seen = NetworkInput(image_size=48, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

for step in range(6):
    generator = torch.Generator().manual_seed(step)  # the same number gives the same views
    batch = photographs[torch.randperm(len(photographs), generator=generator)[:32].numpy()]
    tables = [draw(RECIPES["fundus"], len(batch), 64, seen.image_size, generator) for _ in range(2)]
    first, second = (random_views(batch, table, seen, device) for table in tables)
    loss = ntxent(network(first), network(second), temperature=0.2)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    print(f"step {step}  loss {loss.item():.3f}")
