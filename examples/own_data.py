"""Use images that are in memory or in a torch Dataset, without a folder of files.

Writes the prepared sets and runs to runs/own_data. To resume an interrupted run, run the program again.
"""

import numpy as np
from torch.utils.data import Dataset

import foveal

labels = np.arange(120) % 2
images = np.random.default_rng(0).integers(0, 128, (120, 32, 32, 3), np.uint8)
images[labels == 1, 8:24, 8:24, 0] += 100  # the second class has a red square


class Squares(Dataset):
    """The same images as a Dataset of (image, label); `classes` names the labels."""

    classes = ("plain", "square")

    def __len__(self) -> int:
        return len(images)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return images[number], int(labels[number])


# Arrays without labels are enough for pre-training.
encoder = foveal.pretrain(images, out="runs/own_data/encoder", encoder="small_conv", epochs=1, batch_size=32)
# A Dataset is read once, into a prepared set with a fixed split, which other verbs can use as well.
data = foveal.prepare(Squares(), out="runs/own_data/set")
grader = foveal.train(data, out="runs/own_data/grader", encoder="small_conv", views="plain", epochs=3, batch_size=16)
foveal.evaluate(grader)
