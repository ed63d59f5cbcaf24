"""Written by docs/make_signatures.py from the option classes."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from torch import nn
from torch.utils.data import Dataset

from foveal.augment.recipes import View
from foveal.errors import FovealError as FovealError
from foveal.predict.loaded import LoadedGrader
from foveal.pretrain.interface import TwoViews

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]
Images: TypeAlias = np.ndarray | tuple[Any, ...] | list[Any] | Dataset[Any]

__version__: str

def adapt(
    run: PathLike,
    *,
    to: PathLike,
    prevalence: bool = False,
) -> Path: ...

def audit(
    database: PathLike,
    *,
    known: str = '',
) -> dict[str, Any]: ...

def cluster(
    *data: Paths,
    run: PathLike | None = None,
    out: PathLike | None = None,
    split: Literal['all', 'train', 'val', 'test', 'unlabelled'] = 'all',
    clusters: int = 0,
    device: str = 'auto',
) -> dict[str, Any]: ...

def compare(
    *data: Paths,
    out: PathLike,
    init: PathLike | Sequence[PathLike] = ...,
    encoder: str = 'auto',
    how: Literal['probe', 'finetune'] | Sequence[Literal['probe', 'finetune']] = ...,
    labels: str | Sequence[str] = ...,
    hold_out: str | Sequence[str] = ...,
    seeds: int = 3,
    folds: int = 0,
    epochs: int = 12,
    device: str = 'auto',
    allow_leaks: bool = False,
    seed: int = 0,
) -> pd.DataFrame: ...

def correct(
    data: PathLike,
    image: str = ...,
    *,
    new: str = '',
    why: str = '',
    who: str = '',
    reviews: PathLike = '',
    resolve: Literal['list', 'majority', 'newest'] = 'list',
) -> Path: ...

def demo(
    *,
    out: PathLike = ...,
    count: int = 600,
    labelled: int = 40,
    epochs: int = 35,
) -> Path: ...

def document(
    run: PathLike,
    *,
    on: PathLike | None = None,
    out: PathLike | None = None,
) -> Path: ...

def embed(
    run: PathLike | nn.Module,
    source: PathLike | Images,
    out: PathLike | None = ...,
    encoder: nn.Module | None = ...,
    *,
    init: PathLike = '',
    device: str = 'auto',
) -> pd.DataFrame: ...

def erase(
    database: PathLike,
    *,
    patient: str = '',
    image: str = '',
    before: str = '',
    keep_images: PathLike | None = None,
    yes: bool = False,
) -> dict[str, int]: ...

def evaluate(
    source: PathLike,
    *,
    on: PathLike | None = None,
    versus: PathLike | Sequence[PathLike] = ...,
    out: PathLike | None = None,
    split: Literal['auto', 'train', 'val', 'test', 'held-out', 'all'] = 'auto',
    hold_out: str | Sequence[str] = ...,
    referable_from: int | None = None,
    prevalence: float | None = None,
    by: str | Sequence[str] = ...,
    records: PathLike | None = None,
    corrections: PathLike | None = None,
    second_reader: str | None = None,
    stress: bool = False,
) -> Path: ...

def explain(
    run: PathLike,
    *images: Paths,
    out: PathLike | None = None,
    method: Literal['gradcam', 'integrated-gradients', 'occlusion'] = 'integrated-gradients',
    target: str = 'grade',
    split: Literal['all', 'train', 'val', 'test', 'unlabelled'] = 'test',
    device: str = 'auto',
) -> Path: ...

def export(
    run: PathLike,
    encoder: nn.Module | None = ...,
    *,
    out: PathLike | None = None,
    formats: Literal['onnx', 'onnx-fp16', 'torch', 'encoder'] | Sequence[Literal['onnx', 'onnx-fp16', 'torch', 'encoder']] = ...,
    images: PathLike | None = None,
    tta: Literal['auto', 'none', 'flips', 'turns'] = 'auto',
) -> Path: ...

def inspect(
    *data: Paths,
    page: PathLike | None = None,
    out: PathLike | None = None,
) -> dict[str, Any]: ...

def load(
    run: PathLike,
    *,
    device: str = ...,
    tta: str = ...,
    ungradable: Iterable[str] | None = ...,
    encoder: nn.Module | None = ...,
) -> LoadedGrader: ...

def monitor(
    database: PathLike,
    *,
    out: PathLike | None = None,
    baseline: int = 4,
) -> pd.DataFrame: ...

def predict(
    run: PathLike,
    *images: Paths,
    out: PathLike = ...,
    split: Literal['all', 'train', 'val', 'test', 'unlabelled'] = 'all',
    tta: Literal['auto', 'none', 'flips', 'turns'] = 'auto',
    ungradable: str | Sequence[str] = ...,
    fhir: PathLike | None = None,
    dicom_sr: PathLike | None = None,
    ray: str = '',
    device: str = 'auto',
) -> Path: ...

def prepare(
    *source: PathLike | Images,
    out: PathLike,
    list: bool = False,
    dataset: Literal['auto', 'phantom', 'messidor2', 'idrid', 'ddr', 'deepdrid', 'aptos2019', 'eyepacs', 'messidor', 'retinamnist', 'medmnist', 'mnist', 'cifar10', 'table', 'folder'] = 'auto',
    fundus: Literal['auto', 'yes', 'no'] = 'auto',
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    size: int = 0,
    crop: Literal['auto', 'ellipse', 'disc', 'none'] = 'auto',
    fit: Literal['pad', 'cut'] = 'pad',
    mask: bool = False,
    enhance: Literal['none', 'local-mean', 'clahe'] = 'none',
    green: bool = False,
    classes: str = '',
    scale: str = 'auto',
    drop_ungradable: bool = False,
    val: float = 0.15,
    test: float = 0.2,
    labelled: int = 0,
    unlabelled: int | bool = 0,
    accept_moves: bool = False,
    seed: int = 0,
    ray: str = '',
) -> Path: ...

def pretrain(
    *data: PathLike | Images,
    out: PathLike,
    encoder: str | nn.Module | None = ...,
    method: str | Callable[[nn.Module, int], TwoViews] | None = ...,
    views: str | View | tuple[View, View] | None = ...,
    tracker: Callable[[dict[str, Any]], object] | None = ...,
    init: PathLike = 'random',
    random_stem: bool = False,
    preview: bool = False,
    image_size: int = 0,
    probe: PathLike | None = None,
    probe_every: int = 0,
    epochs: int = 100,
    budget: str | None = None,
    plan: bool = False,
    device: str = 'auto',
    track: Literal['tensorboard', 'mlflow', 'wandb'] | Sequence[Literal['tensorboard', 'mlflow', 'wandb']] = ...,
    batch_size: int = 128,
    micro_batch: str = 'auto',
    optimiser: Literal['adamw', 'sgd', 'lars'] = 'adamw',
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    warm_up: float = 0.05,
    freeze_stages: int = 0,
    layer_decay: float = 1.0,
    precision: Literal['auto', 'fp32', 'bf16'] = 'auto',
    compile: Literal['no', 'yes'] = 'no',
    allow_leaks: bool = False,
    seed: int = 0,
    simclr: Mapping[str, Any] = ...,
    supcon: Mapping[str, Any] = ...,
    byol: Mapping[str, Any] = ...,
) -> Path: ...

def probe(
    data: PathLike,
    *,
    encoder: str | nn.Module | None = ...,
    init: PathLike | Sequence[PathLike] = ...,
    image_size: int = 0,
    neighbours: int = 20,
    out: PathLike | None = None,
    allow_leaks: bool = False,
    device: str = 'auto',
    seed: int = 0,
) -> pd.DataFrame: ...

def pseudolabel(
    run: PathLike,
    *data: Paths,
    out: PathLike,
    threshold: float | Sequence[float] = ...,
    top_share: float | None = None,
    soft: bool = False,
    rounds: int = 1,
    device: str = 'auto',
) -> Path: ...

def report(
    *runs: Paths,
    out: PathLike | None = None,
    on: PathLike | None = None,
) -> Path: ...

def select(
    data: PathLike,
    *,
    run: PathLike,
    number: int = 50,
    out: PathLike = ...,
    device: str = 'auto',
) -> pd.DataFrame: ...

def serve(
    run: PathLike,
    *,
    host: str = '127.0.0.1',
    port: int = 8000,
    token: str = ...,
    reviews: PathLike = 'auto',
    cases: PathLike | None = None,
    keep_images: PathLike | None = None,
    second: PathLike | None = None,
    worklist: PathLike | None = None,
    ungradable: str | Sequence[str] = ...,
    tta: Literal['auto', 'none', 'flips', 'turns'] = 'auto',
    device: str = 'auto',
) -> None: ...

def train(
    *data: PathLike | Images,
    out: PathLike,
    encoder: str | nn.Module | None = ...,
    views: str | View | None = ...,
    tracker: Callable[[dict[str, Any]], object] | None = ...,
    init: PathLike = 'random',
    random_stem: bool = False,
    freeze: bool = False,
    pseudo_labels: PathLike | None = None,
    second: str | None = None,
    folds: int = 0,
    hold_out: str | Sequence[str] = ...,
    epochs: int = 20,
    budget: str | None = None,
    patience: int = 0,
    batch_size: int = 32,
    image_size: int = 0,
    grow_from: int = 0,
    loss: Literal['auto', 'cross_entropy', 'focal', 'ordinal', 'corn', 'coral', 'mse', 'smooth_l1'] = 'auto',
    class_weights: Literal['auto', 'balanced', 'root', 'effective', 'none'] = 'auto',
    sampling: Literal['natural', 'balanced'] = 'natural',
    calibrate: bool = True,
    cutoffs: Literal['auto', 'fitted', 'fixed', 'half-way'] = 'auto',
    coverage: float = 0.9,
    refer_at: str = 'grade',
    tta: Literal['auto', 'none', 'flips', 'turns'] = 'auto',
    device: str = 'auto',
    micro_batch: int = 0,
    precision: Literal['auto', 'fp32', 'bf16'] = 'auto',
    track: Literal['tensorboard', 'mlflow', 'wandb'] | Sequence[Literal['tensorboard', 'mlflow', 'wandb']] = ...,
    label_smoothing: float = 0.0,
    freeze_stages: int = 0,
    batch_norm: Literal['auto', 'learn', 'freeze', 're-estimate'] = 'auto',
    optimiser: Literal['adamw', 'adam', 'sgd', 'lars'] = 'adamw',
    learning_rate: float | None = None,
    warm_up: float = 0.1,
    schedule: Literal['cosine', 'steps', 'constant'] = 'cosine',
    final_rate: float = 0.01,
    decay: float = 0.7,
    layer_decay: float = 1.0,
    weight_decay: float = 0.02,
    allow_leaks: bool = False,
    seed: int = 0,
) -> Path: ...

def weights(
    file: PathLike,
) -> dict[str, Any]: ...
