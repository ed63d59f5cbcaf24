"""The options of `foveal prepare`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from foveal.config import plain
from foveal.errors import FovealError
from foveal.given import Given
from foveal.sources.registry import DatasetName

ALL = -1  # --unlabelled without a number: the pictures are a pool, whatever their folders are called
FREE_OPTIONS = ("out", "ray", "list", "accept_moves")  # decide where and whether the work is done, not its result


def number_or_all(words: list[str]) -> int | str:
    """The value of --unlabelled on the command line: a number, or nothing for ALL; other words are refused."""
    text = " ".join(words)
    return int(text) if re.fullmatch(r"-?\d+", text) else text or ALL


NumberOrAll = Annotated[int | bool, tyro.constructors.PrimitiveConstructorSpec(
    nargs="*", metavar="[N]", instance_from_str=number_or_all,
    is_instance=lambda value: isinstance(value, int), str_from_instance=lambda value: [str(value)],
)]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Options of `foveal prepare`."""

    ## What to read
    # Folder, ZIP archive, CSV or array file; phantom:600 for 600 drawn photographs; or several prepared sets to join.
    source: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = ()
    # Folder for the prepared set; a set made there earlier with the same options is extended by new pictures.
    out: Path = Path()
    # Print the known data sets with their layouts and licences, then stop.
    list: bool = False
    # Kind of source; auto recognises it from its files and prints the result.
    dataset: DatasetName = "auto"
    # Whether the pictures show retinas; auto knows this for published data sets, and checks a sample of other sources.
    fundus: Literal["auto", "yes", "no"] = "auto"
    # Column of the table that names the image.
    image_column: str | None = None
    # Column of the table that holds the label.
    label_column: str | None = None
    # Column of the table that names the patient.
    group_column: str | None = None
    # Column of the table that says train, val or test.
    split_column: str | None = None

    ## Pictures
    # Side of the prepared images in pixels; 0 means 256 for photographs, and keeps the size of arrays.
    size: int = 0
    # ellipse cuts out the retinal disc and makes it round if it was squeezed; disc cuts out round discs only, as for
    # older graders; none keeps the whole frame. auto is ellipse for fundus photographs, and none for arrays.
    crop: Literal["auto", "ellipse", "disc", "none"] = "auto"
    # For a whole frame that is not square: pad adds black, cut takes the square in its centre.
    fit: Literal["pad", "cut"] = "pad"
    # Make everything outside the disc black.
    mask: bool = False
    # local-mean subtracts the blurred picture (Graham 2015); clahe evens out local contrast.
    enhance: Literal["none", "local-mean", "clahe"] = "none"
    # Keep the green channel only, where vessels and lesions stand out most.
    green: bool = False

    ## Labels
    # Classes in order, merged with +, such as "0,1,2,3+4"; empty keeps those of the source.
    classes: str = ""
    # Scale of the classes (icdr, messidor, none, or a name of your own); auto takes it from the source.
    scale: str = "auto"
    # Leave out images that the source calls ungradable or that show no retina; rejected.csv lists them.
    drop_ungradable: bool = False

    ## Splits
    # Share of the labelled images for the validation part, if the source has none.
    val: float = 0.15
    # Share of the labelled images for the test part, if the source has none.
    test: float = 0.2
    # Number of training images that keep their label; the others become unlabelled. 0 keeps all labels.
    labelled: int = 0
    # Largest number of unlabelled images to keep; 0 keeps all. Without a number (in Python: unlabelled=True), every
    # image counts as unlabelled, whatever its folder is called.
    unlabelled: NumberOrAll = 0
    # When a set grows, allow images to move between training, validation and test if copies or the source require it.
    accept_moves: bool = False
    # Random seed for everything random: splits, new weights, the order of the images, views and resamples.
    seed: int = 0

    ## Where
    # Ray cluster to work on: its address, auto for one that runs on this machine, or local to start one.
    ray: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.unlabelled, bool):
            object.__setattr__(self, "unlabelled", ALL if self.unlabelled else 0)
        number = isinstance(self.unlabelled, int)  # of words after --unlabelled, one may have been meant as SOURCE
        shares = 0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1
        for given, right, expected in (
            (f"--unlabelled {self.unlabelled}", number, "one number or none; SOURCE comes before --unlabelled"),
            (f"--unlabelled {self.unlabelled}", number and self.unlabelled >= ALL, "0 or more, or -1 for all"),
            (f"--labelled {self.labelled}", self.labelled >= 0, "0 or more"),
            (f"--val {self.val} --test {self.test}", shares, "shares that leave some images for training"),
            (f"--scale '{self.scale}'", not re.search(r"\s", self.scale), "one word, such as four-grades"),
            (f"--size {self.size}", self.size == 0 or 8 <= self.size <= 4096, "8 to 4096 pixels, or 0"),
        ):
            if not right:
                raise FovealError("option.value", given, expected=expected)
        if not self.list and (not self.source or self.out == Path()):
            raise FovealError("option.missing", "prepare needs a SOURCE and --out DATA", fix="give both, or --list")

    @property
    def asked(self) -> dict[str, Any]:
        """The options that decide the result, as in card.json; sources by their absolute paths."""
        asked = {key: value for key, value in plain(self).items() if key not in FREE_OPTIONS}
        return asked | {"source": [str(path if is_drawn(path) else path.absolute()) for path in self.source]}


def is_drawn(path: Path | Given) -> bool:
    """True for phantom:600 and for images of a program, which are not files."""
    return isinstance(path, Given) or path.name.startswith("phantom:")
