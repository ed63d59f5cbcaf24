"""The model card of an exported grader, for people (README.md) and for programs (foveal.json)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveal.config import read_toml
from foveal.export.encoder import CONFIG
from foveal.files import read_json, write_json, write_table, write_text
from foveal.nets.encoder import timm_card
from foveal.page.render import render
from foveal.page.words import counted
from foveal.predict.opened import ABOUT, FORMAT, record_of
from foveal.predict.predictor import Predictor
from foveal.readout.decisions import POWER
from foveal.runs import read_model, version_of
from foveal.sets.leaks import read_seen
from foveal.version import VERSION

TOLD_OF_RUN = ("kind", "encoder", "mean", "std", "classes", "scale", "task", "preparation", "fundus", "referable_from",
               "decision", "second", "second_classes", "loss", "init", "best_epoch", "members")  # fmt: skip


def about(predictor: Predictor, run: Path, side: int, outputs: list[str]) -> dict[str, Any]:
    """The content of foveal.json, still without files."""
    model, provenance = read_model(run), read_json(run / "provenance.json")
    options = read_toml(run / "config.toml", "train")
    return {
        "format": FORMAT, "foveal": VERSION, "name": run.resolve().name,
        **{key: model[key] for key in TOLD_OF_RUN if key in model},
        "channels": predictor.preparation.channels,
        "input": {"name": "pixels", "type": "uint8", "shape": ["images", side, side, predictor.preparation.channels],
                  "side": side, "made": f"the prepared square of {predictor.preparation.size} px, resized by area"},
        "outputs": outputs, "tta": predictor.tta, "readout": predictor.readout.as_json(), "record": record_of(run),
        "notice": "Research use; not a medical device.", "files": {},
        "provenance": {
            "exported": datetime.now(UTC).isoformat(timespec="seconds"), "model": predictor.key,
            "trained": provenance["started"], "seed": provenance["seed"], "commit": provenance["commit"],
            "versions": provenance["versions"], "loss": options.get("loss"),
            # Names without folders, so that an export does not reveal local paths.
            "data": {Path(name).name: digest for name, digest in provenance["data"].items()},
            "image_size": options.get("image_size"),
        },
    }  # fmt: skip


def write_card(said: dict[str, Any], loads: dict[str, str], run: Path, folder: Path) -> None:
    """Write foveal.json (`said`), README.md, requirements.txt, and seen.csv without names of images or patients.

    loads: {file of weights: how to load it}.
    """
    write_json(folder / ABOUT, said)
    networks = counted(len(said.get("members") or [1]), "network")
    contents = said | {"networks": networks, "loads": loads, "power": POWER, "hub": (folder / CONFIG).is_file()}
    contents["license"] = timm_card(said["encoder"]).license if said.get("init") == "imagenet" else None
    write_text(folder / "README.md", render("README.md", **contents) + "\n")
    write_table(folder / "seen.csv", read_seen(str(run)).assign(id="", set="", path="", patient=""))
    write_text(folder / "requirements.txt", render("requirements.txt", version_of=version_of, version=VERSION))
