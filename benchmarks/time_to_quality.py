"""Time to equal quality: Foveal and lightly's documented SimCLR loop, on the same photographs and cores.

    pip install lightly
    python benchmarks/time_to_quality.py POOL GRADED --folder WORK [--encoder resnet18] [--init random] [--seeds 0 1]

POOL is a folder of photographs without grades, GRADED a source with grades. lightly trains for --epochs. Then Foveal
gets an eighth, a quarter, half and all of lightly's time as `--budget`, until its encoder is as good. Times are those
of whole processes, with imports and planning; beside other programs, processor time (`cpu`) is the fairer measure.
Quality is the AUC of referable grades by ridge regression on frozen features of the training photographs of GRADED, out
of fold by patient. WORK keeps finished results; to resume, run the same command again.

lightly uses a folder of JPEG files of the prepared size, LightlyDataset, SimCLRTransform, a DataLoader with two
workers, NTXentLoss, SGD at 0.06 with momentum 0.9 and weight decay 5e-4, and batches of 256, as in its examples.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from own_process import result_of

from foveal.augment.views import NetworkInput
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import Resampling
from foveal.files import read_json, write_json
from foveal.nets.encoder import create_encoder, normalisation_of
from foveal.nets.probes import ridge
from foveal.nets.weights import load_encoder_weights
from foveal.predict.features import encode
from foveal.sets.leaks import pool_of
from foveal.sets.loader import CPU, ImageStore
from foveal.sets.records import open_prepared
from foveal.sets.splits import k_folds, owners

SHARES = (0.125, 0.25, 0.5, 1.0)  # of lightly's time
RESERVE = 1.25  # prepared pixels over pixels of a view
FOLDS = 5

LIGHTLY = """
import sys, torch
from pathlib import Path
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from foveal import checkpoint
from foveal.nets.encoder import create_encoder, feature_size
from foveal.nets.weights import load_encoder_weights

files, file, encoder, init, size, epochs, batch, seed = sys.argv[1:]
torch.manual_seed(int(seed))
backbone = create_encoder(encoder, 3, int(size)).to(memory_format=torch.contiguous_format)
load_encoder_weights(backbone, encoder, init)
features = feature_size(backbone)
head = SimCLRProjectionHead(features, features, 128)
dataset = LightlyDataset(files, transform=SimCLRTransform(input_size=int(size)))
loader = torch.utils.data.DataLoader(dataset, batch_size=int(batch), shuffle=True, drop_last=True, num_workers=2)
criterion = NTXentLoss()
optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.06, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(epochs))
for epoch in range(int(epochs)):
    for (view1, view2), _, _ in loader:
        loss = criterion(head(backbone(view1)), head(backbone(view2)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scheduler.step()
checkpoint.save_weights(backbone, Path(file))
result = {"loss": loss.item()}
"""

OURS = """
import sys, foveal
data, out, encoder, init, size, budget, seed = sys.argv[1:]
foveal.pretrain(data, out=out, encoder=encoder, init=init, image_size=int(size), budget=budget, seed=int(seed))
result = {}
"""


def write_files(data: Path, folder: Path) -> None:
    """The prepared photographs of the pool as JPEG files."""
    prepared = open_prepared(data)
    images = ImageStore([(prepared, pool_of(prepared))])
    folder.mkdir()
    for number in range(len(images)):
        picture = images.gather(np.array([number]))[0]
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def quality(graded: Path, encoder: str, init: str, size: int) -> dict[str, Any]:
    """The AUC of referable grades with its interval, out of fold, for the weights `init`."""
    prepared = open_prepared(graded)
    records = prepared.part("train")
    records = records[records["label"].notna()]
    units = np.unique(owners(records["group"], records["id"]), return_inverse=True)[1]
    referable = (records["label"].to_numpy() >= 2).astype(np.int64)
    torch.manual_seed(0)
    network = create_encoder(encoder, 3, size)
    load_encoder_weights(network, encoder, init)
    spec = NetworkInput(size, *normalisation_of(encoder, 3))
    features = encode(network.eval(), ImageStore([(prepared, records)]), spec, CPU)
    folds = torch.from_numpy(k_folds(referable, units, FOLDS, np.random.default_rng(0)))
    labels = torch.from_numpy(referable)
    scores = torch.empty(len(labels), dtype=torch.float64)
    for fold in range(FOLDS):
        out = folds == fold
        scores[out] = ridge(features[~out], labels[~out], features[out], 2).double().diff(dim=1)[:, 0].cpu()
    resampling = Resampling(units, 500)
    return resampling.entry(*roc_area(scores.numpy(), referable == 1, resampling), len(labels))


def timed(file: Path, program: str, *arguments: object) -> dict[str, Any]:
    """The time and output of a process, stored in `file`. Finished processes are not repeated."""
    if not file.exists():
        began = time.perf_counter()
        result = result_of(program, *arguments, seconds=6 * 3600)
        write_json(file, result | {"seconds": time.perf_counter() - began})
    return dict(read_json(file))


def said(name: str, found: dict[str, Any]) -> None:
    """Print a result as a line of JSON."""
    shown = {key: round(found[key], 4) for key in ("seconds", "cpu", "value", "low", "high") if key in found}
    print(json.dumps({"what": name, **shown}), flush=True)


def main() -> None:
    """Run lightly, then Foveal with growing budgets, for every seed."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("graded", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--init", default="random")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    if importlib.util.find_spec("lightly") is None:
        sys.exit("lightly is not installed: pip install lightly")
    compare_times(parser.parse_args())


def compare_times(options: argparse.Namespace) -> None:
    """Print a line for the starting weights, then for lightly and Foveal with every seed."""
    import foveal

    folder, encoder, init, size = options.folder, options.encoder, options.init, options.size
    pool, graded = folder / "pool", folder / "graded"
    side = round(RESERVE * size)
    if not pool.exists():
        foveal.prepare(options.pool, out=pool, size=side, unlabelled=-1)
        foveal.prepare(options.graded, out=graded, size=side)
    if not (folder / "files").exists():
        write_files(pool, folder / "files")
    said("starting weights", quality(graded, encoder, init, size))
    for seed in options.seeds:
        weights = folder / f"lightly-{encoder}-{seed}.safetensors"
        arguments = (folder / "files", weights, encoder, init, size, options.epochs, options.batch_size, seed)
        theirs = timed(weights.with_suffix(".json"), LIGHTLY, *arguments)
        theirs |= quality(graded, encoder, str(weights), size)
        said(f"lightly, seed {seed}", theirs)
        for share in SHARES:
            run = folder / f"ours-{encoder}-{seed}-{share}"
            budget = f"{share * theirs['seconds']:.0f}s"
            found = timed(folder / f"{run.name}.json", OURS, pool, run, encoder, init, size, budget, seed)
            found |= quality(graded, encoder, str(run), size)
            said(f"ours, seed {seed}, budget {budget}", found)
            if found["value"] >= theirs["value"]:
                time_ratio, cpu = (found[kind] / theirs[kind] for kind in ("seconds", "cpu"))
                print(f"seed {seed}: as good after {time_ratio:.2f} of lightly's time, {cpu:.2f} of its processor time")
                break


if __name__ == "__main__":
    main()
