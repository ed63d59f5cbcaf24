"""Measure whether photographs of other sources can be told from those of a grader's own source, without training.

    python benchmarks/unlike.py DATA_FOLDER [--weights imagenet] [--most 600] [--size 224] [--image-size 160]

Each set is divided at random, always in the same way, into training (60 %), validation (15 %) and test (25 %). For each
pair of sets, prints the share of the first set's own test photographs that count as similar, and the AUC of the largest
score between these and the photographs of the other set. All photographs are prepared at the same size, and resolution
is left out, so that their size does not give them away. The features come from frozen ImageNet weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from foveal.augment.views import NetworkInput, plain_view
from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation, Prepared, prepare_file
from foveal.nets.encoder import create_encoder
from foveal.nets.heads import texture_of, watching
from foveal.nets.weights import load_encoder_weights
from foveal.predict.likeness import KINDS, diameter, fit_likeness, looks_of
from foveal.sets.shards import in_threads
from foveal.sources.source import list_pictures

SETS = {"aptos224": "train_images", "messidor2": "images", "malaysia": "images", "eyepacs256": "train"}
TRAINED_ON = ("aptos224", "messidor2")
ENCODER = "tf_efficientnet_lite0"


def read(folder: Path, size: int, most: int) -> list[Prepared]:
    """At most `most` photographs of a folder, evenly spaced."""
    files = sorted(list_pictures(folder))
    files = [files[k] for k in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]
    way = Preparation(size=size, crop="ellipse")
    found = in_threads(lambda file: prepare_file(file, way, measure=True), files)
    return [one for _, one in found if not isinstance(one, FovealError)]


def described(photographs: list[Prepared], encoder: torch.nn.Module, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(looks, texture) of photographs."""
    pixels, half = np.stack([one.pixels for one in photographs]), (0.5,) * 3
    across = np.array([diameter(one.width, one.height, one.measures["border"]) for one in photographs])
    spec, device = NetworkInput(side, half, half), torch.device("cpu")
    with torch.inference_mode(), watching(encoder) as middle:
        for start in range(0, len(pixels), 64):
            encoder(plain_view(pixels[start : start + 64], spec, device))
        return looks_of(pixels, across, side), torch.cat([texture_of(maps) for maps in middle]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="imagenet", help="imagenet, a file of weights or a run")
    parser.add_argument("--most", type=int, default=600, help="the most photographs of each set")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--image-size", type=int, default=160)
    options = parser.parse_args()
    encoder = create_encoder(ENCODER, 3, options.image_size)
    load_encoder_weights(encoder, ENCODER, options.weights)
    encoder.eval()
    sets = {}
    for name, folder in SETS.items():
        photographs = read(options.data / name / folder, options.size, options.most)
        sets[name] = described(photographs, encoder, options.image_size)
    for name in TRAINED_ON:
        looks, texture = sets[name]
        order = np.random.default_rng(0).permutation(len(looks))
        train, val, test = np.split(order, [int(0.6 * len(order)), int(0.75 * len(order))])
        likeness = fit_likeness(looks[train], texture[train], looks[val], texture[val], options.image_size)
        own = likeness.scores(looks[test], texture[test])
        passed = [f"{kind} {share:.1%}" for kind, share in zip(KINDS, (own <= 1).mean(0), strict=True)]
        print(f"{name}: {len(train)} training, {len(val)} validation, {len(test)} test photographs")
        print(f"  own test photographs that count as similar: {(own <= 1).all(1).mean():.1%} ({', '.join(passed)})")
        for other, described_others in sets.items():
            if other != name:
                theirs = likeness.scores(*described_others)
                truth = np.repeat([0, 1], [len(own), len(theirs)])
                both = np.vstack([own, theirs])[:, 1:]
                alone = [f"{kind} {roc_auc_score(truth, both[:, k]):.3f}" for k, kind in enumerate(KINDS[1:])]
                auc, found = roc_auc_score(truth, both.max(1)), (theirs[:, 1:] > 1).any(1).mean()
                print(f"  {other:10} n = {len(theirs)}: AUC {auc:.3f} ({', '.join(alone)}), unlike {found:.1%}")


if __name__ == "__main__":
    main()
