"""Heads map the encoder's features to projections, prototypes or grades; `Looking` also shows where a grader looks.

Texture, how the maps of an encoder's middle stage vary, tells cameras apart and hardly depends on the disease. Means
and spreads of maps describe the style of a picture (Huang and Belongie, 2017). benchmarks/unlike.py compares.

Legend: B images, D features, O outputs of the head, K classes, h and w places of the last map.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os.path import commonpath
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.losses.grading import expected_grade, to_logits
from foveal.nets.encoder import stage_of_parameters

Score = Callable[[Tensor], Tensor]
MIDDLE = 0.4  # of the depth: stride 8 in usual networks. Later stages see the disease, earlier ones only colours
STEP = 0.05  # step of an output to measure its effect on the score; outputs vary by about 1


class ProjectionHead(nn.Module):
    """`layers` linear layers with ReLU between: by default the projection of SimCLR (Chen et al. 2020, section 4.2).

    `batchnorm` normalises after every layer but the last; `last_batchnorm` after the last one, without weights.
    """

    def __init__(self, features: int, hidden: int, out: int, *, layers: int = 2, batchnorm: bool = False,
                 last_batchnorm: bool = False) -> None:  # fmt: skip
        super().__init__()
        if layers < 1:
            raise FovealError("option.value", f"the head has {layers} layers", expected="1 or more")
        widths = [features] + [hidden] * (layers - 1)
        modules: list[nn.Module] = []
        for width in widths[:-1]:
            modules.append(nn.Linear(width, hidden, bias=not batchnorm))
            modules += [nn.BatchNorm1d(hidden)] if batchnorm else []
            modules.append(nn.ReLU(inplace=True))
        modules.append(nn.Linear(widths[-1], out, bias=not last_batchnorm))
        modules += [nn.BatchNorm1d(out, affine=False)] if last_batchnorm else []
        self.layers = nn.Sequential(*modules)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, out], not normalised."""
        return self.layers(features)


class CumulativeHead(nn.Module):
    """CORAL's head: shared weights and one bias per cut: [B, D] -> log-odds [B, K - 1] of a grade above 0, 1, …"""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, features))
        self.bias = nn.Parameter(-(torch.arange(classes - 1) - (classes - 2) / 2))  # in order from the start

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, K - 1]."""
        return F.linear(features, self.weight) + self.bias


class Grader(nn.Module):
    """An encoder with a head: [B, C, s, s] -> logits [B, K], whose softmax gives the probabilities of the classes.

    form: of the head (losses/grading.py). second: number of classes of a second task, for `second_head`; 0 = none.
    """

    def __init__(self, encoder: nn.Module, features: int, classes: int, form: str = "softmax", second: int = 0) -> None:
        super().__init__()
        self.encoder, self.form, self.classes = encoder, form, classes
        outputs = {"softmax": classes, "conditional": classes - 1, "regression": 1}
        # [B, D] -> outputs [B, O], with `weight` [., D] and `bias`
        self.head = CumulativeHead(features, classes) if form == "cumulative" else nn.Linear(features, outputs[form])
        self.second_head = nn.Linear(features, second) if second else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.logits(self.head(self.encoder(images)))

    def logits(self, outputs: Tensor) -> Tensor:
        """Outputs of the head [B, O] -> logits [B, K]."""
        return to_logits(outputs, self.form, self.classes)


class Looking(nn.Module):
    """[B, C, s, s] -> logits [B, K], features [B, D] and, if `maps`, places [B, h, w] >= 0 that support the grade.

    The map is a class activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150): the last map of features,
    whose mean the head must use, weighted by the effect of each feature on the score: the expected grade, or the
    log-odds of the answer. It equals Grad-CAM (Selvaraju et al. 2017) without a backward pass, so it can be exported.
    score: another score, a function of logits [B, K] -> [B].
    """

    def __init__(self, grader: Grader, decision: str, maps: bool, score: Score | None = None) -> None:
        super().__init__()
        self.grader, self.decision, self.maps, self.score = grader, decision, maps, score

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(logits, features) or (logits, features, places)."""
        grader: Any = self.grader
        if not self.maps:
            features = grader.encoder(images)
            return self.grader.logits(grader.head(features)), features
        last = grader.encoder.forward_features(images)
        features = grader.encoder.forward_head(last)
        outputs = grader.head(features)
        rows = grader.head.weight.expand(outputs.shape[1], -1)  # a cumulative head shares one row for all its outputs
        weights = self._slopes(outputs.float()) @ rows.float()
        return self.grader.logits(outputs), features, torch.einsum("bd,bdhw->bhw", weights, last.float()).relu()

    def _slopes(self, outputs: Tensor) -> Tensor:
        """The effect of each output on the score, [B, O], by finite differences, which can be exported."""
        given = F.one_hot(self.grader.logits(outputs).argmax(1), self.grader.classes).bool()
        steps = F.one_hot(torch.arange(outputs.shape[1], device=outputs.device), outputs.shape[1]) * STEP
        effects = [self._score(outputs + step, given) - self._score(outputs - step, given) for step in steps]
        return torch.stack(effects, 1) / (2 * STEP)

    def _score(self, outputs: Tensor, given: Tensor) -> Tensor:
        logits = self.grader.logits(outputs)
        if self.score is not None:
            return self.score(logits)
        if self.decision == "most_probable":
            return (logits * given).sum(1) - logits.masked_fill(given, -torch.inf).logsumexp(1)
        return expected_grade(logits.softmax(1))


def has_map(grader: Grader, image: Tensor) -> bool:
    """Whether the features are the mean of a last map with more than one place. image: [1, C, s, s], to test it."""
    encoder: Any = grader.encoder
    if not hasattr(encoder, "forward_features") or not hasattr(encoder, "forward_head"):
        return False
    with torch.no_grad():
        last = encoder.forward_features(image)
        if not isinstance(last, Tensor) or last.dim() != 4 or last.shape[2] != last.shape[3] or last.shape[3] < 2:
            return False
        mean, features = last.mean((2, 3)), encoder.forward_head(last)
    return mean.shape == features.shape and bool(torch.allclose(mean, features, rtol=1e-4, atol=1e-5))


def middle_stage(encoder: nn.Module) -> nn.Module:
    """The stage at two fifths of the depth; the encoder itself if its stages are unknown."""
    try:
        stages = stage_of_parameters(encoder)
    except FovealError:
        return encoder
    number = max(1, round(MIDDLE * max(stages.values())))
    names = [name.replace(".", "/") for name, stage in stages.items() if stage == number]
    return encoder.get_submodule(commonpath([name.rpartition("/")[0] for name in names]).replace("/", "."))


@contextmanager
def watching(encoder: nn.Module) -> Iterator[list[Tensor]]:
    """A list that receives the output of the middle stage in each pass of the encoder."""
    seen: list[Tensor] = []
    handle = middle_stage(encoder).register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def texture_of(maps: Tensor) -> Tensor:
    """float32 [B, 2 M]: mean and spread of each channel of maps [B, M, h, w], tokens [B, n, M] or features [B, M]."""
    values = maps.float()
    places = values.flatten(2) if values.dim() == 4 else values.reshape(len(values), -1, values.shape[-1]).mT
    return torch.cat([places.mean(2), places.std(2, correction=0)], 1)
