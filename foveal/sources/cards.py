"""What is known about each data set: task, ordered classes, label scale, counts, licence, reference.

`prepare` copies these facts into DATA/card.json. Label scales are kept apart by name: "icdr" is the International
Clinical Diabetic Retinopathy scale 0-4; "messidor" is the scale 0-3 of Messidor-1, whose grade 3 includes
neovascularisation, so a map between the two would invent labels; "none" marks classes that are not a severity scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

ICDR = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
MESSIDOR = ("Messidor R0", "Messidor R1", "Messidor R2", "Messidor R3")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one data set; `classes` is in label order and empty where the source decides."""

    title: str
    task: str  # "grading" (ordered classes), "classification" (unordered) or "auto" (from the source)
    layout: str = ""  # the files that identify it
    classes: tuple[str, ...] = ()
    scale: str = "none"
    fundus: bool = False
    counts: str = ""
    licence: str = "see the source"
    reference: str = ""


_icdr = partial(Card, task="grading", classes=ICDR, scale="icdr", fundus=True)

CARDS: dict[str, Card] = {
    "phantom": _icdr(
        title="Phantom fundus photographs, drawn by Foveal",
        layout="phantom:600 in place of a folder",
        licence="Apache-2.0 (drawn by this program)",
        reference="foveal/sources/phantom.py",
    ),
    "messidor2": _icdr(
        title="Messidor-2 with adjudicated grades",
        layout="messidor_data.csv and a folder of photographs; messidor-2.csv (pairs) if there",
        counts="1,748 photographs; 1,744 gradable: 1017/270/347/75/35",
        licence="research use, no redistribution (ADCIS)",
        reference="Decencière et al. 2014; grades: Krause et al. 2018",
    ),
    "idrid": _icdr(
        title="IDRiD, disease grading",
        layout="'a. IDRiD_Disease Grading_Training Labels.csv' and 'b. … Testing Labels.csv', with the folders "
        "'a. Training Set' and 'b. Testing Set'",
        counts="413 train: 134/20/136/74/49; 103 test: 34/5/32/19/13",
        reference="Porwal et al. 2020",
    ),
    "ddr": _icdr(
        title="DDR, grading",
        layout="DR_grading/train.txt, valid.txt and test.txt (lines 'name.jpg label') beside folders of the same names",
        counts="12,522 gradable: 6266/630/4477/236/913; 1,151 ungradable",
        reference="Li et al. 2019",
    ),
    "deepdrid": _icdr(
        title="DeepDRiD, regular fundus photographs",
        layout="regular_fundus_images/regular-fundus-training/regular-fundus-training.csv with Images/, the same for "
        "validation; Online-Challenge1&2-Evaluation/Challenge1_labels.csv or .xlsx if there",
        reference="Liu et al. 2022",
    ),
    "aptos2019": _icdr(
        title="APTOS 2019 Blindness Detection",
        layout="train.csv (id_code, diagnosis) or train_1.csv, valid.csv and test.csv, with photographs below",
        counts="3,662 graded: 1805/370/999/193/295; 1,928 without a grade",
        reference="Kaggle, APTOS 2019 Blindness Detection",
    ),
    "eyepacs": _icdr(
        title="EyePACS, Kaggle Diabetic Retinopathy Detection 2015",
        layout="trainLabels.csv (image, level) or retinopathy_solution.csv (image, level, Usage), photographs below",
        counts="35,126 train: 25810/2443/5292/873/708; 53,576 test: 39533/3762/7861/1214/1206",
        reference="Kaggle, Diabetic Retinopathy Detection 2015",
    ),
    "messidor": Card(
        title="Messidor-1",
        task="grading",
        layout="Annotation_Base11.xls to Annotation_Base34.xls (or .csv), or one CSV that names …_PP photographs in a "
        "column 'image' with 'Retinopathy_grade', or 'image_fname' with 'diagnosis'",
        classes=MESSIDOR,
        scale="messidor",
        fundus=True,
        counts="1,200 photographs; 1,187 without copies: 547/149/240/251",
        reference="Decencière et al. 2014",
    ),
    "retinamnist": _icdr(
        title="RetinaMNIST",
        layout="one file retinamnist.npz (or _64, _128, _224)",
        counts="1,080 train, 120 val, 400 test",
        licence="CC BY 4.0",
        reference="Yang et al. 2023 (MedMNIST v2); source DeepDRiD",
    ),
    "medmnist": Card(
        title="MedMNIST, 2-D, one label per image",
        task="classification",
        layout="one .npz file with {train,val,test}_images and {train,val,test}_labels",
        reference="Yang et al. 2023 (MedMNIST v2)",
    ),
    "mnist": Card(
        title="MNIST handwritten digits",
        task="classification",
        layout="train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-… (or .gz)",
        classes=tuple("0123456789"),
        counts="60,000 train, 10,000 test",
        licence="CC BY-SA 3.0",
        reference="LeCun et al. 1998",
    ),
    "cifar10": Card(
        title="CIFAR-10",
        task="classification",
        layout="cifar-10-batches-py/data_batch_1 to 5 and test_batch, or cifar10.npz",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        counts="50,000 train, 10,000 test",
        licence="as published by the authors",
        reference="Krizhevsky 2009",
    ),
    "table": Card(
        title="Table of labels with a folder of images",
        task="auto",
        layout="a .csv file, or a folder with exactly one at its top or with metadata.csv (there, or in train, "
        "validation and test)",
        fundus=True,
    ),
    "folder": Card(
        title="Folder of images",
        task="auto",
        layout="a folder per class, {train,val,test} with a folder per class, or pictures without labels",
        fundus=True,
    ),
}
