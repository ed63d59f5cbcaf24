"""The results of a training run: model.json, the readout, the predictions, and the misgraded images.

    RUN/errors/epoch-007-val.csv    id, true, given, probability of the given grade, worst first; -train likewise
    RUN/misgraded.csv               the same for the best epoch; RUN/misgraded/NN.jpg shows the worst images

Training images were graded in their random views of that epoch.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from foveal import checkpoint
from foveal.console import say, warn
from foveal.evaluate.columns import USUAL
from foveal.evaluate.operating import fit_referral
from foveal.files import write_bytes, write_json, write_table, write_text
from foveal.fundus.overlay import to_jpeg
from foveal.page.render import print_template
from foveal.page.words import counted
from foveal.predict.likeness import LEAST_HELD, MOST_IMAGES, diameters_of, fit_likeness, looks_of, write_likeness
from foveal.predict.model import joined
from foveal.predict.predictor import Predictor
from foveal.readout.calibration import COLDEST, HOTTEST
from foveal.readout.readout import LEAST_IMAGES, ReadoutOptions, crossed, fit_readout, write_readout
from foveal.readout.referral import labelled_oedema, least_sensitivity, predicted_oedema, score
from foveal.readout.scales import referable_from
from foveal.runs import FINISHED, Run, read_model
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.leaks import TAUGHT, seen_of, write_seen
from foveal.sets.records import PreparedSet
from foveal.sets.splits import HELD_OUT, group_codes, parts_of_groups
from foveal.train.learned import Learned
from foveal.train.task import Task

FILE = "predictions.csv"
MISGRADED_SHOWN = 12  # pictures; the table lists all
Answers = tuple[Sequence[str], np.ndarray, np.ndarray, np.ndarray]  # ids, true, given [n], probabilities [n, K]


def write_start(run: Run, task: Task, learned: Learned, before: pd.DataFrame) -> None:
    """Write the files that are known before training: model.json, and seen.csv including the rows of `before`."""
    write_seen(run.path, seen_of(learned.parts).assign(taught=TAUGHT), before)
    write_model(run, task, learned)


def write_model(run: Run, task: Task, learned: Learned) -> None:
    """Write model.json, which holds everything `predict` needs besides the weights, and the data card."""
    config, card = task.config, task.prepared.card
    second = {"second": config.second, "second_classes": list(learned.second_classes)} if config.second else {}
    sources = list(dict.fromkeys(learned.parts[0][1]["source"]))
    travels = {"sources": sources, "held_out": list(config.hold_out)} if has_sources(task) else {}
    write_json(run.path / "model.json", {
        "kind": "grader", "encoder": config.encoder, "channels": task.prepared.channels, "features": task.features,
        **vars(task.spec), "preparation": card["options"], "fundus": card["fundus"], "classes": task.prepared.classes,
        "scale": card["scale"], "task": card["task"], "referable_from": referable_from(card["scale"]),
        "loss": config.loss, "decision": task.decision, "tta": config.tta, "init": config.init,
        "frozen": config.freeze, **second, **travels,
    })  # fmt: skip
    write_json(run.path / "card.json", card)  # with the counts after corrections
    if (corrections := task.prepared.path / CORRECTIONS).is_file():
        write_text(run.path / CORRECTIONS, corrections.read_text(encoding="utf-8"))


def has_sources(task: Task) -> bool:
    """Whether the images come from several sources, so that results are shown for each."""
    return task.abroad is not None or task.prepared.records["source"].nunique() > 1


def finish(run: Run, task: Task, judged: pd.DataFrame, best_epoch: int, trained: pd.DataFrame) -> None:
    """Write the encoder of the best epoch, and its predictions for `judged`; trained: what it learned from."""
    predictor = Predictor(run.path, task.device, encoder=task.config.encoder)
    checkpoint.save_weights(predictor.grader.encoder, run.path / FINISHED)
    write_json(run.path / "model.json", read_model(run.path) | {"best_epoch": best_epoch})
    keep_likeness(run, task, predictor, trained, judged[judged["split"] == "val"])
    if not len(judged):
        warn("there are no validation or test images: the last epoch was kept, and its quality is unknown")
        return
    raw = predictor.raw_answers_of(task.prepared, judged)
    assert raw.probabilities is not None
    second = predictor.second_table(raw, task.prepared, judged)
    parts = parts_of_groups(judged["group"][judged["split"] == "val"].to_numpy(), task.config.seed)
    write_predictions(run, task, predictor, judged, raw.probabilities, parts, second)
    which = "validation or test image" if task.abroad is None else "validation, test or held-out image"
    say(f"predictions of epoch {best_epoch} for {counted(len(judged), which)}: {run.path / FILE}")
    say(f"next: foveal evaluate {run.path}")


def keep_likeness(run: Run, task: Task, predictor: Predictor, trained: pd.DataFrame, held: pd.DataFrame) -> None:
    """Write RUN/likeness.npz, with limits from `held`, or from half of the training photographs if it is too small."""
    few = [np.linspace(0, len(each) - 1, min(len(each), MOST_IMAGES)).astype(int) for each in (trained, held)]
    trained, held = trained.iloc[few[0]], held.iloc[few[1]]
    if len(held) < LEAST_HELD:
        trained, held = trained.iloc[::2], trained.iloc[1::2]
    if len(held) < LEAST_HELD:
        return
    side, found = predictor.input.image_size, list[np.ndarray]()
    for records in (trained, held):
        looks, answers = [], []
        for part, images in predictor.images_of(task.prepared, records):
            looks.append(looks_of(images, diameters_of(part, task.prepared.measures), side))
            answers.append(predictor.answer(images, ("texture",)))
        texture = joined(answers).texture
        assert texture is not None
        found += [np.concatenate(looks), texture]
    write_likeness(run.path, fit_likeness(found[0], found[1], found[2], found[3], side))


def write_predictions(run: Run, task: Task, predictor: Predictor, judged: pd.DataFrame, raw: np.ndarray,
                      parts: np.ndarray, extra: pd.DataFrame | None) -> None:  # fmt: skip
    """Fit the readout on the validation images, and write predictions.csv for all images in `judged`.

    raw: probabilities [n, K] before the readout. parts: int [validation images]; each part gets a readout that was
    fitted on the other parts. extra: further columns. predictions.csv is written last: a run that has it is complete.
    """
    config, classes = task.config, task.prepared.classes
    steps, fitted = task.loss.form == "regression", config.cutoffs == "fitted"
    options = ReadoutOptions(decision=task.decision, ordered=task.ordered, temperature=config.calibrate, steps=steps,
                             cutoffs=fitted, coverage=config.coverage)  # fmt: skip
    val = (judged["split"] == "val").to_numpy()
    labels = judged["label"].to_numpy(np.int64)
    groups = group_codes(judged["group"].to_numpy()[val])
    readout = fit_readout(raw[val], labels[val], options, groups)
    probabilities = readout.probabilities(raw)
    grades = readout.grades(probabilities)
    sets = np.array(readout.sets(probabilities, grades), dtype=object)
    if readout.images:
        own, known = raw[val], labels[val]
        probabilities[val], grades[val], sets[val] = crossed(
            lambda chosen: fit_readout(own[chosen], known[chosen], options, groups[chosen], least=1), own, parts
        )
    if (least := least_sensitivity(config.refer_at)) is not None:
        lowest = referable_from(predictor.scale)
        assert lowest is not None  # checked before training
        positive = (labels >= lowest) | (False if extra is None else labelled_oedema(extra))
        scores = score(probabilities, lowest, None if extra is None else predicted_oedema(extra))
        readout = replace(readout, referral=fit_referral(scores[val], positive[val], groups, least, lowest))
    if readout.images or readout.referral:
        write_readout(run.path, readout)
        write_json(run.path / "model.json", read_model(run.path) | {"readout": True})
        predictor.readout = readout
    given, limits = np.unique(grades[val]), readout.limits or ()  # without prediction sets
    always = [name for name, limit in zip(classes, limits, strict=False) if limit == 0]
    only = classes[int(given[0])] if len(given) == 1 else ""
    at_limit = readout.steps is None and not 1.01 * COLDEST < readout.temperature < HOTTEST / 1.01
    print_template("readout.txt", readout=readout, parts=len(np.unique(parts)), images=int(val.sum()), only=only,
                   least=LEAST_IMAGES, needed=config.calibrate, always=always, at_limit=at_limit)  # fmt: skip
    table = predictor.table(judged, probabilities, graded=(grades, list(sets)), extra=extra)
    if has_sources(task):
        table = table.assign(source=judged["source"].to_numpy())
    for name in USUAL:
        if name not in table and (judged[name] != "").any():  # a second task may have that name
            table[name] = judged[name].to_numpy()
    write_misgraded(run.path, task.prepared, table)
    write_table(run.path / FILE, table)


def write_errors(run: Path, epoch: int, parts: dict[str, Answers]) -> None:
    """Write the lists of one epoch. parts: train or val -> predictions."""
    folder = run / "errors"
    folder.mkdir(exist_ok=True)
    for part, (ids, true, given, probabilities) in parts.items():
        sure = np.asarray(probabilities)[np.arange(len(given)), given].astype(float)
        table = pd.DataFrame({"id": ids, "true": true, "given": given, "probability": sure.round(4)})
        worst = worst_first(table, "true", "given").drop(columns="distance")
        write_table(folder / f"epoch-{epoch:03d}-{part}.csv", worst)


def worst_first(table: pd.DataFrame, true: str, given: str) -> pd.DataFrame:
    """The misgraded rows, sorted by their `distance` in grades, then by `probability`, both largest first."""
    wrong = table[table[true].notna() & (table[true] != table[given])]
    wrong = wrong.assign(distance=(wrong[true] - wrong[given]).abs().astype(int))
    return wrong.sort_values(["distance", "probability", "id"], ascending=[False, False, True])


def write_misgraded(run: Path, prepared: PreparedSet, table: pd.DataFrame) -> None:
    """Write RUN/misgraded.csv from a table of predictions, and pictures of the worst (test) images."""
    rows = table.to_dict("records")
    wrong = worst_first(table.assign(probability=[row[f"p{row['grade']}"] for row in rows]), "label", "grade")
    shown = wrong[wrong["split"] == "test"] if (table["split"] == "test").any() else wrong[wrong["split"] != HELD_OUT]
    names = {name: f"{number:02d}.jpg" for number, name in enumerate(shown.head(MISGRADED_SHOWN)["id"])}
    wrong["picture"] = wrong["id"].map(names).fillna("")
    write_table(run / "misgraded.csv", wrong[["id", "split", "label", "grade", "probability", "distance", "picture"]])
    folder = run / "misgraded"
    folder.mkdir(exist_ok=True)
    records = prepared.records.set_index("id").loc[list(names)]
    for name, pixels in zip(names.values(), prepared.pixels(records), strict=True):
        write_bytes(folder / name, to_jpeg(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))))
