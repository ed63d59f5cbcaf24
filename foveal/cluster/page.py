"""The page: one HTML file with scores, maps, and some images with their nearest images.

The dots of a map are drawn in random order: in class order, the last class would hide the others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal.cluster.features import SEED, Images
from foveal.cluster.look import Look
from foveal.cluster.methods import CHECKED, NAMES, NEAREST, STARTS, SUBSTANTIAL, Map, Nearest
from foveal.page import render as rendering
from foveal.page.charts import fitted
from foveal.page.parts import SPLITS, TONES, Columns, Gallery, Html, Note, Part, Picture, Section, Table, Verdict
from foveal.page.pictures import embedded
from foveal.page.render import told
from foveal.page.words import counted, listed

DOUBTED, AT_RANDOM = 8, 4  # number of images shown with their nearest
ACROSS = 7  # nearest images shown for each
DOT_SIDE = 56  # pixels of the picture shown for a dot
MOST_PICTURES = 1200  # of these, about 2 KB each, so that the page stays below 5 MiB
SIDE, MARGIN = 600, 10  # units of the drawing
FREQUENT = 0.2  # share of a cluster from which a quality flag is named
OUTLIERS = 0.002  # share of the images at each end that are moved to the edge
MOST_KINDS = 12  # most colours that a reader can tell apart; the most common kinds get them
# Medium lightness, visible on white and on black. Hues after Okabe & Ito 2008, and six more.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98500", "#56b4e9",
           "#7a5fc7", "#8f8f00", "#c2255c", "#1a9c9c", "#9c6b4e", "#7d8590")  # fmt: skip
RAMP = ("#3a7bd5", "#17a398", "#c79a00", "#e0662b", "#c2255c")  # ordered grades, from the lowest to the highest
MANY_RIGHT = 0.9  # accuracy of the votes; below it, most doubtful labels may be hard images rather than wrong labels
TITLES = {"accuracy": "matched accuracy", "ari": "adjusted Rand index"}
MUTED = ("no label", "no flag", "others")  # kinds that must not stand out


def tables(result: dict[str, Any]) -> list[Table]:
    """All tables, for the terminal and the page; only the one of the maps if nothing was scored."""
    known = {"titles": TITLES, "names": NAMES, "nearest": NEAREST, "checked": CHECKED, "starts": STARTS}
    return told("clusters.txt", result=result, **known)


def find(result: dict[str, Any]) -> list[Verdict]:
    """What the run learned from, then the results of neighbours, clusters and the comparison with pixels."""
    return told("alike.txt", result=result, titles=TITLES, tones=TONES, substantial=SUBSTANTIAL)


def render(result: dict[str, Any], images: Images, look: Look, maps: Sequence[Map]) -> str:
    """The page as HTML."""
    generator = np.random.default_rng(SEED)
    licences = dict.fromkeys(prepared.card["licence"] for prepared in images.sets)
    told_beside = told("beside.txt", result=result, names=NAMES, many_right=MANY_RIGHT, licences=list(licences))
    ((lead, beside_maps, beside_doubts, beside_alike),) = told_beside
    drawn = _drawn_maps(images, look, maps, generator)
    at_random = np.sort(generator.choice(len(images), AT_RANDOM, replace=False))
    sections = [Section(name="findings", title="What this shows",
                        parts=[Note(lead, "lead"), *(Verdict(**finding) for finding in result["findings"])]),
                Section(name="maps", title="Maps", parts=[beside_maps, drawn]),
                Section(name="clusters", title="Clusters", parts=list(_clusters(images, look))),
                Section(name="numbers", title="Numbers", parts=[Columns([[one] for one in tables(result)])]),
                Section(name="doubted", title="Doubtful labels",
                        parts=[beside_doubts, *_rows(images, look, look.voters, look.doubted["position"][:DOUBTED])]),
                Section(name="alike", title="Examples of similar images",
                        parts=[beside_alike, *_rows(images, look, look.near, at_random)])]  # fmt: skip
    titles = dict.fromkeys(prepared.card["title"] for prepared in images.sets)
    return rendering.page([section for section in sections if section.name != "doubted" or len(look.doubted)],
                          title=listed(list(dict.fromkeys(images.table["source"]))), kind="Foveal clusters",
                          subtitle="which images are similar", style="cluster.css", script="cluster.js",
                          about=" · ".join(titles))  # fmt: skip


def _drawn_maps(images: Images, look: Look, maps: Sequence[Map], generator: np.random.Generator) -> Html:
    rows, clusters, variance = maps[0].rows, look.clusters, look.features.components[1]
    colours = colourings(images, clusters)
    pictures = {row: embedded(images.pixels(np.array([row]))[0], DOT_SIDE)
                for row in generator.permutation(rows)[:MOST_PICTURES]}  # fmt: skip
    part = images.table.iloc[rows]
    columns = zip(part["id"], map(images.name, images.labels[rows]), (clusters[rows] + 1).tolist(), part["source"],
                  part["split"].map(SPLITS), part["flags"], (pictures.get(row, "") for row in rows),
                  strict=True)  # fmt: skip
    return Html(rendering.render(
        "dots.html", colourings=colours, points=list(columns), pictured=len(pictures), images=len(images), side=SIDE,
        maps=[(NAMES[one.name], one.kept, fitted(one.places, SIDE, MARGIN, OUTLIERS)) for one in maps],
        order=np.random.default_rng(SEED).permutation(len(rows)).tolist(), variance=variance[:2].sum(),
        marks=[" ".join(one["marks"][row] for one in colours) for row in rows],
    ))  # fmt: skip


def colourings(images: Images, clusters: np.ndarray) -> list[dict[str, Any]]:
    """Every colouring with more than one kind, labels first: key, title, marks (str [n], the CSS class of each dot) and
    kinds: mark, name, count and colour of each, and whether it must not stand out (muted)."""
    table, classes = images.table, images.classes
    flags = pd.Series([", ".join(flags.split()) or "no flag" for flags in table["flags"]])
    grades = dict(zip(classes, ramp(len(classes)), strict=True)) if images.ordered else {}
    found = [_colouring("label", "grade" if images.ordered else "class", pd.Series(map(images.name, images.labels)),
                        [*classes, "no label"], grades),
             _colouring("cluster", "cluster", pd.Series(clusters + 1).astype(str)),
             _colouring("source", "prepared set", table["source"], list(dict.fromkeys(table["source"]))),
             _colouring("split", "part", table["split"].map(SPLITS), list(SPLITS.values())),
             _colouring("flag", "quality flag", flags, ["no flag"])]  # fmt: skip
    return [one for one in found if len(one["kinds"]) > 1]


def _colouring(
    key: str, title: str, values: pd.Series, order: Sequence[str] = (), colours: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A kind for each value, those in `order` first; if there are too many, the rarest share one."""
    counts = values.value_counts()
    numbers = sorted((str(name) for name in counts.index if name not in order), key=lambda name: (len(name), name))
    found = [name for name in order if name in counts.index] + numbers
    if len(found) > MOST_KINDS:
        common = set(counts.index[: MOST_KINDS - 1])
        values = values.where(values.isin(common), "others")
        found = [name for name in found if name in common] + ["others"]
    counts, free = values.value_counts(), iter(PALETTE)
    own = dict.fromkeys(MUTED, "var(--muted)") | dict(colours or {})
    kinds = [{"mark": f"{key}-{n}", "name": name, "count": int(counts[name]), "muted": name in MUTED,
              "colour": own[name] if name in own else next(free)} for n, name in enumerate(found)]  # fmt: skip
    marks = values.map({kind["name"]: kind["mark"] for kind in kinds}).to_numpy()
    return {"key": key, "title": title, "kinds": kinds, "marks": marks}


def ramp(count: int) -> list[str]:
    """`count` colours from low to high, evenly spaced along the ramp."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    return [to_hex(colour) for colour in LinearSegmentedColormap.from_list("", RAMP, max(1, count))(range(count))]


def _clusters(images: Images, look: Look) -> Iterator[Part]:
    """The images nearest to the centre of each cluster of k-means, and quality flags that are frequent in it."""
    flags = images.table["flags"].str.get_dummies(" ")
    for number in np.unique(look.clusters):
        own = np.flatnonzero(look.clusters == number)
        text = [f"Cluster {number + 1}: {counted(len(own), 'image')}, the most typical first"]
        for word in flags:
            within, overall = flags[word].iloc[own].mean(), flags[word].mean()
            text += [f"{within:.0%} {word} (of all {overall:.0%})"] if within > max(FREQUENT, 1.5 * overall) else []
        yield Note(f"{'; '.join(text)}.")
        points = look.features.components[0][own]
        order = np.argsort(np.linalg.norm(points - points.mean(0), axis=1), kind="stable")
        yield Gallery([_picture(images, place) for place in own[order[: ACROSS + 1]]], "small")


def _rows(images: Images, look: Look, near: Nearest, positions: Iterable[int]) -> Iterator[Part]:
    for position in positions:
        label, voted, found = images.labels[position], look.voted[position], near.index[position]
        pictures, found = [_picture(images, position, "own")], found[found >= 0][:ACROSS]
        for other in found:
            tone = "same" if label == images.labels[other] else "other"
            pictures.append(_picture(images, other, tone if min(label, images.labels[other]) >= 0 else ""))
        text = "Nearest first." if len(found) else "There are no images of other patients."
        if voted >= 0:
            text = f"The {NEAREST} nearest labelled images vote for {images.name(voted)}. {text}"
        yield Note(text)
        yield Gallery(pictures, "small")


def _picture(images: Images, position: int, tone: str = "") -> Picture:
    source, name = embedded(images.pixels(np.array([position]))[0]), images.name(images.labels[position])
    name = name if images.classes else images.table["flags"].iloc[position]
    return Picture(source=source, id=images.table["id"].iloc[position], text=name, tone=tone)
