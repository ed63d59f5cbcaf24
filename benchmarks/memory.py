"""Compare peak memory and speed of train and pretrain with a plain PyTorch loop of the same network, size and batch.

    python benchmarks/memory.py [--rounds 1] [--only train:tf_efficientnet_lite0:224:32]

Both use the same drawn photographs. The plain loop is like that of a tutorial: a tensor of images, the network, AdamW,
one forward and backward pass per step, and after each epoch a pass over the validation part. Each measurement runs in a
process of its own. Peak memory is the most that this process used, including Python and torch.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from own_process import result_of

CASES = ("train:tf_efficientnet_lite0:224:32", "train:tf_efficientnet_lite0:384:32",
         "pretrain:tf_efficientnet_lite0:224:32", "pretrain:resnet18:128:64")  # fmt: skip
COUNT, EPOCHS = 256, 4

PLAIN = """
import sys, time, torch, timm
from pathlib import Path
import torch.nn.functional as F
from foveal.sets.loader import ImageStore
from foveal.sets.records import open_prepared
folder, verb, encoder, size, batch, epochs = *sys.argv[1:4], *map(int, sys.argv[4:7])
prepared = open_prepared(Path(folder) / "set")
parts = {name: prepared.part(name) for name in ("train", "val")}
def read(part):
    return torch.from_numpy(ImageStore([(prepared, part)]).gather(range(len(part))))
images = {name: read(part) for name, part in parts.items()}
labels = torch.from_numpy(parts["train"]["label"].to_numpy("int64"))
torch.manual_seed(0)
network = timm.create_model(encoder, num_classes=5 if verb == "train" else 0)
width = network.num_features
head = torch.nn.Identity() if verb == "train" else torch.nn.Sequential(
    torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 128))
model = torch.nn.Sequential(network, head).to(memory_format=torch.channels_last)
optimiser = torch.optim.AdamW(model.parameters())
def pixels(rows):
    return rows.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)
rates = []
for epoch in range(epochs):
    model.train()
    for part in torch.randperm(len(labels)).split(batch):
        if len(part) < batch and verb == "pretrain":
            continue
        began = time.perf_counter()
        first = pixels(images["train"][part])
        if verb == "train":
            loss = F.cross_entropy(model(first), labels[part])
        else:
            z = F.normalize(model(torch.cat([first, first.flip(3)])))
            scores = (z @ z.T / 0.2).fill_diagonal_(-1e9)
            loss = F.cross_entropy(scores, torch.arange(2 * len(part)).roll(len(part)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.append(len(part) / (time.perf_counter() - began))
    if verb == "train":
        model.eval()
        with torch.no_grad():
            for rows in images["val"].split(batch):
                model(pixels(rows))
result = {"rate": sorted(rates)[len(rates) // 2]}
"""

OURS = """
import sys, foveal, json
folder, verb, encoder, size, batch, epochs = *sys.argv[1:4], *map(int, sys.argv[4:7])
options = dict(out=folder + "/run", encoder=encoder, batch_size=batch, epochs=epochs)
if verb == "train":
    foveal.train(folder + "/set", **options, views="fundus")
else:
    foveal.pretrain(folder + "/set", **options, views="simclr", precision="fp32")
rows = [json.loads(line) for line in open(folder + "/run/metrics.jsonl")]
result = {"rate": sorted(row["images_per_second"] for row in rows)[len(rows) // 2]}
"""


def main() -> None:
    """Measure both in turn for each case and print the ratios."""
    import foveal

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=CASES)
    options = parser.parse_args()
    for case in options.only:
        found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                foveal.prepare(f"phantom:{COUNT}", out=Path(folder) / "set", size=int(case.split(":")[2]))
                found["plain"].append(result_of(PLAIN, folder, *case.split(":"), EPOCHS))
                found["ours"].append(result_of(OURS, folder, *case.split(":"), EPOCHS))
        memory, speed = (
            [ours[key] / plain[key] for ours, plain in zip(found["ours"], found["plain"], strict=True)]
            for key in ("gib", "rate")
        )
        peaks = [statistics.median(one["gib"] for one in side) for side in found.values()]
        print(f"{case}, n = {options.rounds}: peak {peaks[1]:.2f} GiB against {peaks[0]:.2f} GiB of the plain loop: "
              f"ratio {statistics.median(memory):.2f}; images per second {statistics.median(speed):.2f} times "
              "the plain loop's", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
