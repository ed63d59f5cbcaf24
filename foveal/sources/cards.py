"""Facts about each data set: task, ordered classes, label scale, counts, licence, reference; see cards.toml.

Scales: "icdr" is the International Clinical Diabetic Retinopathy scale 0-4; "messidor" the scale 0-3 of Messidor-1,
whose grade 3 includes neovascularisation, so that neither can be mapped to the other; "none" is not of severity.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ICDR = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
MESSIDOR = ("Messidor R0", "Messidor R1", "Messidor R2", "Messidor R3")
CLASSES = {"icdr": ICDR, "messidor": MESSIDOR}  # of each scale


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one data set; `classes` is in label order and empty if the source decides."""

    title: str
    task: str  # "grading" (ordered classes), "classification" (unordered) or "auto" (from the source)
    layout: str = ""  # the files that identify it
    classes: tuple[str, ...] = ()
    scale: str = "none"
    fundus: bool = False
    counts: str = ""
    licence: str = "see the source"
    reference: str = ""
    traps: str = ""


_FACTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CARDS = {name: Card(**facts | {"classes": CLASSES.get(facts.get("scale", ""), tuple(facts.get("classes", ())))})
         for name, facts in _FACTS.items()}  # fmt: skip
