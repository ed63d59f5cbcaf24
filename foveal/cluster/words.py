"""What the numbers mean, in plain words; a sentence claims no more than its interval does."""

from __future__ import annotations

from typing import Any

from foveal.cluster.look import NEIGHBOURS
from foveal.cluster.maps import NAMES
from foveal.cluster.tables import TITLES
from foveal.page.parts import Verdict
from foveal.page.words import counted, interval, listed, number, signed

MOSTLY, PARTLY = 0.6, 0.2  # of the adjusted Rand index: from here clusters are mostly, or partly, the classes
CANNOT_SHOW = (
    "Islands and gaps: t-SNE and UMAP make them out of even noise.",
    "Distances between islands, their sizes and how dense they are: both methods choose those freely.",
    "That a label cannot be told because its points are mixed: a map keeps two of many dimensions.",
    "That a label can be told because its points lie together: they may share a camera, or a patient.",
)


def find(result: dict[str, Any]) -> list[Verdict]:
    """What neighbours, clusters and the comparison with pixels show; and what the figures rest on."""
    about = result["about"]
    found = [_basis(about)] if about["run"] else []
    if about["why_not"]:
        text = "Whether likeness has to do with the labels was not measured."
        return [*found, Verdict(tone="unsure", text=text, grounds=f"{about['why_not'].capitalize()}.")]
    found += [_neighbours(result), _clusters(result)]
    if result["differences"]:
        found.append(_compared(result))
    return found


def _label(about: dict[str, Any]) -> str:
    return "grade" if about["ordered"] else "class"


def _basis(about: dict[str, Any]) -> Verdict:
    """Which images the run had learned from."""
    learned, share = about["learned"], f"of {counted(about['images'], 'image')}"
    if about["taught"]:
        text = f"The run had learned from {learned:,} {share}, labels included, or from their patients; none is scored."
        grounds = "Their features know their labels: on the maps they lie apart more clearly than new images would."
        return Verdict(tone="unsure" if learned else "good", text=text, grounds=grounds)
    text = f"The run had seen {learned:,} {share} without their labels."
    grounds = "Scores are of images that the encoder was trained to tell apart; new ones may lie less clearly."
    if not learned:
        grounds = "All scores are of images that are new to it."
    return Verdict(tone="good", text=text, grounds=grounds)


def _neighbours(result: dict[str, Any]) -> Verdict:
    """Whether the nearest images tell the label better than a constant answer."""
    about, one = result["about"], result["looks"][0]
    name, score = next(iter(one["neighbours"].items()))
    of = f"{name} {number(score['value'])} ({interval(score)})"
    grounds = (
        f"{of[0].upper()}{of[1:]} by the vote of the nearest labelled images of other groups; a constant answer has "
        f"{number(score['constant'])}. On {score['n']:,} images in {score['groups']:,} groups, in the {one['name']}."
    )
    label = _label(about)
    if score["low"] is None or score["low"] <= score["constant"]:
        text = f"The nearest images do not tell the {label} better than a constant answer."
        return Verdict(tone="bad", text=text, grounds=grounds)
    text = f"The nearest images tell the {label} better than a constant answer."
    return Verdict(tone="good", text=text, grounds=grounds)


def _clusters(result: dict[str, Any]) -> Verdict:
    """How far the clusters are the classes, by the method that comes nearest to them."""
    one, label = result["looks"][0], _label(result["about"])
    best = max(one["methods"], key=lambda method: method["scores"]["ari"]["value"])
    score, matched = best["scores"]["ari"], best["scores"]["accuracy"]
    grounds = (
        f"Of the three methods {best['name']} comes nearest: {TITLES['ari']} {number(score['value'])} "
        f"({interval(score)}; 0 by chance). With the best label for each cluster {number(matched['value'])} "
        f"({interval(matched)}) of the images are right; one single cluster has {number(matched['constant'])}."
    )
    if score["low"] is None or score["low"] <= max(0.0, score["chance"]):
        return Verdict(tone="bad", text=f"Clusters have nothing to do with the {label}, as far as can be told.",
                       grounds=grounds)  # fmt: skip
    how = "mostly" if score["value"] >= MOSTLY else "partly" if score["value"] >= PARTLY else "hardly"
    tone = {"mostly": "good", "partly": "unsure", "hardly": "bad"}[how]
    return Verdict(tone=tone, text=f"Clusters go {how} with the {label}.", grounds=grounds)


def _compared(result: dict[str, Any]) -> Verdict:
    """Whether the network's features order the images better than their pixels do: by neighbours, and by clusters."""
    rows = result["differences"]
    told = next(row for row in rows if row["of"] == NEIGHBOURS)
    by_method = [row for row in rows if row["measure"] == "ari"]
    texts = {
        "better": "By neighbours, the features tell more than plain pixels do",
        "worse": "By neighbours, the features tell less than plain pixels do",
        "cannot tell": "By neighbours, the features cannot be told from plain pixels",
    }
    answers = {row["answer"] for row in [told, *by_method]}
    tone = {"better": "good", "worse": "bad"}.get(told["answer"], "unsure") if len(answers) == 1 else "unsure"
    parts = [f"{row['of']}, {row['measure'] if row is told else TITLES['ari']}: {signed(row['difference'])} "
             f"({interval(row, 3)})" for row in [told, *by_method]]  # fmt: skip
    text = f"{texts[told['answer']]}; by clusters, they {_by_clusters(by_method)}."
    return Verdict(tone=tone, text=text, grounds=f"Features minus pixels: {'; '.join(parts)}.")


def _by_clusters(rows: list[dict[str, Any]]) -> str:
    """`do better with k-means and worse with spectral`; the methods that cannot tell come last."""
    phrases = {"better": "do better", "worse": "do worse", "cannot tell": "cannot be told apart"}
    found = {answer: [row["of"] for row in rows if row["answer"] == answer] for answer in phrases}
    if len(rows) in map(len, found.values()):
        return f"{phrases[rows[0]['answer']]} with every method"
    return listed([f"{phrases[answer]} with {listed(names)}" for answer, names in found.items() if names])


def lead(result: dict[str, Any]) -> str:
    """What was looked at, in one or two sentences."""
    about, one = result["about"], result["looks"][0]
    drawn = f", drawn at random from {about['of']:,}," if about["of"] > about["images"] else ""
    return (
        f"{counted(about['images'], 'image')}{drawn} in {counted(about['groups'], 'group')}, "
        f"{about['labelled']:,} of them labelled, by {one['source']}: {one['dimensions']:,} numbers each, of which "
        f"{one['components']} principal components hold {one['variance']:.0%} of the variance."
    )


def beside_maps(result: dict[str, Any]) -> str:
    """The number that belongs beside the picture."""
    kept = listed([f"{NAMES[one['name']]} keeps {one['kept']:.0%}" for one in result["maps"]])
    text = f"Of the ten nearest neighbours of an image {kept}."
    scores = result["looks"][0]["neighbours"]
    if scores:
        said = listed([f"{name} {number(one['value'])} ({interval(one)})" for name, one in scores.items()])
        text += f" In all dimensions the ten nearest labelled images tell the label with {said}: go by this number."
    return text


def beside_doubts(result: dict[str, Any]) -> str:
    """How much weight the doubt of neighbours has."""
    scores = result["looks"][0]["neighbours"]
    if "accuracy" not in scores:
        return "How often neighbours are right was not measured."
    right = scores["accuracy"]
    return (
        f"Neighbours speak against {counted(result['doubtful'], 'label')}; doubtful.csv lists them. They are right on "
        f"{right['value']:.0%} of the judged images, so most of these may be hard images rather than wrong labels."
        if right["value"] < 0.9
        else f"Neighbours speak against {counted(result['doubtful'], 'label')}; doubtful.csv lists them."
    )
