"""What is known of each data set: task, ordered classes, label scale, counts, licence, reference.

`prepare` copies these facts into DATA/card.json. Label scales are kept apart by name: "icdr" is the International
Clinical Diabetic Retinopathy scale 0-4; "messidor" is the scale 0-3 of Messidor-1, whose grade 3 includes
neovascularisation, so that a map between the two would invent labels;
"none" marks classes that are no severity scale.
"""

from __future__ import annotations

from dataclasses import dataclass

ICDR = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
MESSIDOR = ("Messidor R0", "Messidor R1", "Messidor R2", "Messidor R3")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts about one data set; `classes` is in label order and empty where the source decides."""

    title: str
    task: str  # "grading" (ordered classes), "classification" (unordered) or "auto" (from the source)
    layout: str = ""  # the files that are looked for
    classes: tuple[str, ...] = ()
    scale: str = "none"
    fundus: bool = False
    counts: str = ""
    licence: str = "see the source"
    reference: str = ""


CARDS: dict[str, Card] = {
    "phantom": Card(
        title="Phantom fundus photographs, drawn by Foveal",
        task="grading",
        layout="phantom:600 in place of a folder",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        licence="Apache-2.0 (drawn by this program)",
        reference="foveal/sources/phantom.py",
    ),
    "messidor2": Card(
        title="Messidor-2 with adjudicated grades",
        task="grading",
        layout="messidor_data.csv and a folder of photographs; messidor-2.csv (pairs) if there",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="1,748 photographs; 1,744 gradable: 1017/270/347/75/35",
        licence="research use, no redistribution (ADCIS)",
        reference="Decencière et al. 2014; grades: Krause et al. 2018",
    ),
    "idrid": Card(
        title="IDRiD, disease grading",
        task="grading",
        layout="'a. IDRiD_Disease Grading_Training Labels.csv' and 'b. … Testing Labels.csv', with the folders "
        "'a. Training Set' and 'b. Testing Set'",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="413 train: 134/20/136/74/49; 103 test: 34/5/32/19/13",
        reference="Porwal et al. 2020",
    ),
    "ddr": Card(
        title="DDR, grading",
        task="grading",
        layout="DR_grading/train.txt, valid.txt and test.txt (lines 'name.jpg label') beside folders of the same names",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="12,522 gradable: 6266/630/4477/236/913; 1,151 ungradable",
        reference="Li et al. 2019",
    ),
    "deepdrid": Card(
        title="DeepDRiD, regular fundus photographs",
        task="grading",
        layout="regular_fundus_images/regular-fundus-training/regular-fundus-training.csv with Images/, the same for "
        "validation; Online-Challenge1&2-Evaluation/Challenge1_labels.csv or .xlsx if there",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        reference="Liu et al. 2022",
    ),
    "aptos2019": Card(
        title="APTOS 2019 Blindness Detection",
        task="grading",
        layout="train.csv (id_code, diagnosis) or train_1.csv, valid.csv and test.csv, with photographs below",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="3,662 graded: 1805/370/999/193/295; 1,928 without a grade",
        reference="Kaggle, APTOS 2019 Blindness Detection",
    ),
    "eyepacs": Card(
        title="EyePACS, Kaggle Diabetic Retinopathy Detection 2015",
        task="grading",
        layout="trainLabels.csv (image, level) or retinopathy_solution.csv (image, level, Usage), photographs below",
        classes=ICDR,
        scale="icdr",
        fundus=True,
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
    "retinamnist": Card(
        title="RetinaMNIST",
        task="grading",
        layout="one file retinamnist.npz (or _64, _128, _224)",
        classes=ICDR,
        scale="icdr",
        fundus=True,
        counts="1,080 train, 120 val, 400 test",
        licence="CC BY 4.0",
        reference="Yang et al. 2023 (MedMNIST v2); source DeepDRiD",
    ),
    "medmnist": Card(
        title="MedMNIST, 2-D, one label an image",
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
