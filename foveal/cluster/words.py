"""What the numbers mean, in plain words; a sentence claims no more than its interval does."""

from __future__ import annotations

from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.maps import NAMES
from foveal.cluster.tables import TITLES
from foveal.page.parts import Verdict
from foveal.page.words import capital, counted, difference_with_interval, listed, number, value_with_interval

MOSTLY = 0.6
FOLLOWED = ((MOSTLY, "mostly", "good"), (0.2, "partly", "unsure"), (-1.0, "hardly", "bad"))  # adjusted Rand index from
MANY_RIGHT = 0.9  # accuracy of the votes, below which most doubtful labels may be hard images rather than wrong labels
CANNOT_SHOW = (
    "Islands and gaps prove nothing: t-SNE and UMAP make them even out of noise.",
    "Distances between islands, their sizes and their densities mean nothing: both methods choose them freely.",
    "A label whose points are mixed may still be predictable: a map keeps two of many dimensions.",
    "A label whose points lie together may come from a shared camera or a shared patient.",
)


def find(result: dict[str, Any]) -> list[Verdict]:
    """What neighbours, clusters and the comparison with pixels show, after what the scores rest on."""
    about = result["about"]
    found = [_basis(about)] if about["run"] else []
    if about["why_not"]:
        text = "Whether similarity has to do with the labels was not measured."
        return [*found, Verdict(tone="unsure", text=text, grounds=f"{about['why_not'].capitalize()}.")]
    found += [_neighbours(result), _clusters(result)]
    return [*found, _compared(result)] if result["differences"] else found


def _label(about: dict[str, Any]) -> str:
    return "grade" if about["ordered"] else "class"


def _basis(about: dict[str, Any]) -> Verdict:
    """Which images the run had learned from."""
    learned, share = about["learned"], f"of {counted(about['images'], 'image')}"
    if about["taught"]:
        text = f"The run learned from {learned:,} {share} or their patients, with labels; these are not scored."
        grounds = "Their features know their labels: on the maps they lie farther apart than new images would."
        return Verdict(tone="unsure" if learned else "good", text=text, grounds=grounds)
    text = f"The run learned from {learned:,} {share}, without labels."
    grounds = "The encoder was trained to tell these images apart; new ones may be less clearly separated."
    return Verdict(tone="good", text=text, grounds=grounds if learned else "All scored images are new to it.")


def _neighbours(result: dict[str, Any]) -> Verdict:
    """Whether the nearest images predict the label better than a constant answer."""
    about, one = result["about"], result["looks"][0]
    name, score = next(iter(one["neighbours"].items()))
    grounds = (
        f"The nearest labelled images of other groups vote with {name} {value_with_interval(score)}; a "
        f"constant answer has {number(score['constant'])}. {score['n']:,} images in {score['groups']:,} groups, "
        f"compared by {one['name']}."
    )
    better = score["low"] is not None and score["low"] > score["constant"]
    text = f"The nearest images {'predict' if better else 'do not predict'} the {_label(about)} better than a constant "
    return Verdict(tone="good" if better else "bad", text=f"{text}answer.", grounds=grounds)


def _clusters(result: dict[str, Any]) -> Verdict:
    """How far the clusters follow the classes, by the method that comes nearest to them."""
    one, label = result["looks"][0], _label(result["about"])
    best = max(one["methods"], key=lambda method: method["scores"]["ari"]["value"])
    score, matched = best["scores"]["ari"], best["scores"]["accuracy"]
    grounds = (
        f"{capital(best['name'])} comes nearest: {TITLES['ari']} {value_with_interval(score)}, 0 by chance. With the "
        f"best label for each cluster {value_with_interval(matched)} of the images are right; one single cluster has "
        f"{number(matched['constant'])}."
    )
    if score["low"] is None and score["value"] >= MOSTLY:  # all clusters are classes: no resample moves the figure
        return Verdict(tone="good", text=f"Clusters mostly follow the {label}.", grounds=grounds)
    if score["low"] is None or score["low"] <= max(0.0, score["chance"]):
        return Verdict(tone="bad", text=f"Clusters do not visibly follow the {label}.", grounds=grounds)
    how, tone = next((how, tone) for least, how, tone in FOLLOWED if score["value"] >= least)
    return Verdict(tone=tone, text=f"Clusters {how} follow the {label}.", grounds=grounds)


def _compared(result: dict[str, Any]) -> Verdict:
    """Whether the network's features order the images better than their pixels do, by neighbours and by clusters."""
    votes = next(row for row in result["differences"] if row["of"] == NEIGHBOURS)
    by_method = [row for row in result["differences"] if row["measure"] == "ari"]
    texts = {
        "better": "The features beat plain pixels",
        "worse": "Plain pixels beat the features",
        "cannot tell": "The features and plain pixels cannot be told apart",
    }
    agree = all(row["answer"] == votes["answer"] for row in by_method)
    text = f"{texts[votes['answer']]} by neighbours{' and' if agree else ', but not'} by every clustering."
    tone = {"better": "good", "worse": "bad", "cannot tell": "unsure"}[votes["answer"]] if agree else "unsure"
    parts = [f"{row['of']}, {row['measure'] if row is votes else TITLES['ari']}: {difference_with_interval(row)}"
             for row in [votes, *by_method]]  # fmt: skip
    return Verdict(tone=tone, text=text, grounds=f"Features minus pixels: {'; '.join(parts)}.")


def lead(result: dict[str, Any]) -> str:
    """What was compared, in one sentence."""
    about, one = result["about"], result["looks"][0]
    drawn = f", drawn at random from {about['of']:,}," if about["of"] > about["images"] else ""
    return (
        f"{counted(about['images'], 'image')}{drawn} in {counted(about['groups'], 'group')}, "
        f"{about['labelled']:,} of them labelled, by {one['source']}: {one['dimensions']:,} numbers each; "
        f"{one['components']} principal components hold {one['variance']:.0%} of their variance."
    )


def beside_maps(result: dict[str, Any]) -> str:
    """The number that belongs beside the picture."""
    kept = listed([f"{NAMES[one['name']]} keeps {one['kept']:.0%}" for one in result["maps"]])
    text = f"Of the ten nearest neighbours of an image, {kept}."
    scores = result["looks"][0]["neighbours"]
    if scores:
        said = listed([f"{name} {value_with_interval(one)}" for name, one in scores.items()])
        text += f" In all dimensions, the ten nearest labelled images predict the label with {said}: trust this number."
    return text


def beside_doubts(result: dict[str, Any]) -> str:
    """How much weight the doubt of neighbours has."""
    text = f"Neighbours contradict {counted(result['doubtful'], 'label')}; doubtful.csv lists them."
    right = result["looks"][0]["neighbours"].get("accuracy")
    if right is None:
        return f"{text} How often neighbours are right was not measured."
    hard = ", so most of these may be hard images" if right["value"] < MANY_RIGHT else ""
    return f"{text} They are right on {right['value']:.0%} of the judged images{hard}."
