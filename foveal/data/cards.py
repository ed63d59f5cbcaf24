"""What is known of each data set: task, ordered classes, label scale, counts, licence, reference.

`prepare` copies these facts into DATA/card.json. Label scales are kept apart by name: "icdr" is the International
Clinical Diabetic Retinopathy scale 0-4; "none" marks classes that are no severity scale.
"""

from __future__ import annotations

from dataclasses import dataclass

ICDR = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
REFERABLE_FROM = {"icdr": 2}  # the lowest grade that is referred, per scale: moderate NPDR (Gulshan et al. 2016)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one data set; `classes` is in label order and empty where the source decides."""

    title: str
    task: str  # "grading" (ordered classes), "classification" (unordered) or "auto" (from the source)
    classes: tuple[str, ...] = ()
    scale: str = "none"
    fundus: bool = False
    counts: str = ""
    licence: str = "see the source"
    reference: str = ""


CARDS: dict[str, Card] = {
    "messidor2": Card(
        title="Messidor-2 with adjudicated grades",
        task="grading",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="1,748 photographs; 1,744 gradable: 1017/270/347/75/35",
        licence="research use, no redistribution (ADCIS)",
        reference="Decencière et al. 2014; grades: Krause et al. 2018",
    ),
    "retinamnist": Card(
        title="RetinaMNIST",
        task="grading",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="1,080 train, 120 val, 400 test",
        licence="CC BY 4.0",
        reference="Yang et al. 2023 (MedMNIST v2); source DeepDRiD",
    ),
    "phantom": Card(
        title="Phantom fundus photographs, drawn by Foveal",
        task="grading",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        licence="Apache-2.0 (drawn by this program)",
        reference="foveal/data/phantom.py",
    ),
    "mnist": Card(
        title="MNIST handwritten digits",
        task="classification",
        classes=tuple("0123456789"),
        counts="60,000 train, 10,000 test",
        licence="CC BY-SA 3.0",
        reference="LeCun et al. 1998",
    ),
    "cifar10": Card(
        title="CIFAR-10",
        task="classification",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        counts="50,000 train, 10,000 test",
        licence="as published by the authors",
        reference="Krizhevsky 2009",
    ),
    "folder": Card(title="Folder of images", task="auto", fundus=True),
    "table": Card(title="Table of labels with a folder of images", task="auto", fundus=True),
}
