"""erase: delete what a server has stored about a patient or a photograph, or before a day."""

import getpass
import re
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import tyro

from foveal.config import check
from foveal.console import say
from foveal.errors import FovealError
from foveal.page.words import counted


def is_day(text: str) -> bool:
    """Whether the text is a day of the calendar, as YYYY-MM-DD."""
    with suppress(ValueError):
        return date.fromisoformat(text).isoformat() == text
    return False


@dataclass(frozen=True, kw_only=True)
class EraseConfig:
    """Options of `foveal erase`."""

    # Database of a server: the file or URL that its --reviews names.
    database: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATABASE")]
    # Patient: the PatientID of the DICOM files, or the number in the names of the files.
    patient: str = ""
    # Photograph: the SHA-256 of its file.
    image: str = ""
    # Day (YYYY-MM-DD, UTC): everything older is erased.
    before: str = ""
    # Folder of serve --keep-images, whose photographs are deleted too, or none. --yes needs it. Stop the server first.
    keep_images: Path | None = None
    # Erase; without this option, the command only prints what it would erase.
    yes: bool = False

    def __post_init__(self) -> None:
        given = [name for name in ("patient", "image", "before") if getattr(self, name)]
        if len(given) != 1:
            what = f"{len(given) or 'none'} of --patient, --image and --before given"
            raise FovealError("option.missing", what, expected="exactly one")
        if self.yes and self.keep_images is None:
            what = "--yes needs --keep-images, because kept photographs may not be found once their reviews are erased"
            fix = "give the folder of serve --keep-images, or none if the server keeps no photographs"
            raise FovealError("option.missing", what, fix=fix)
        check(self, "before", not self.before or is_day(self.before), "a day as YYYY-MM-DD")
        check(self, "image", bool(re.fullmatch("([0-9a-f]{64})?", self.image)), "64 hexadecimal digits, in lower case")


def erase(config: EraseConfig) -> dict[str, int]:
    """Erase contents of the log, reviews and kept photographs; returns how many lines, reviews and photographs."""
    from foveal.serve.kept import forget
    from foveal.serve.origin import patient_in
    from foveal.serve.reviews import existing
    from foveal.sources.patients import hashes_of

    folder = None if config.keep_images == Path("none") else config.keep_images
    if folder is not None and not folder.is_dir():
        raise FovealError("file.missing", f"--keep-images {folder} is not a folder")
    patients = hashes_of(config.patient)
    with closing(existing(config.database, writes=True)) as database:
        reviews = database.all()
        with database.lines() as lines:
            # The other lines have nothing of a patient.
            logged = [(line.number, line.when, line.values()) for line in lines if "image" in line.values()]
        images = {values["image"] for _, _, values in logged if values.get("patient") in patients}
        images |= {review.image for review in reviews if patient_in(review.name)[0] in patients} | {config.image}

        def meant(image: str, when: str, patient: str = "") -> bool:
            return when < config.before if config.before else image in images or patient in patients

        numbers = [number for number, when, values in logged if meant(values["image"], when)]
        ids = [review.id or 0 for review in reviews if meant(review.image, review.when)]
        # Before the database: this fails while a server runs, and finds the photographs by the database.
        files = 0 if folder is None else forget(folder, meant, config.yes)
        if config.yes and (numbers or ids):
            database.erase(numbers, ids, getpass.getuser())
    if (config.patient or config.image) and not (numbers or ids or files):
        what = f"{config.database} has nothing about {config.patient or config.image}"
        fix = "give the patient as in the names of the photographs (P002 for P002_left.jpg), or use --image"
        raise FovealError("erase.nothing", what, fix=fix)
    told = f"{counted(len(numbers), 'line')} of the log, {counted(len(ids), 'review')}, {counted(files, 'photograph')}"
    if config.keep_images is None:
        say("Photographs that a server keeps (serve --keep-images FOLDER) are found only with --keep-images FOLDER.")
    say(f"Erased: {told}." if config.yes else f"This would erase {told}. Nothing is erased without --yes.")
    return {"lines": len(numbers), "reviews": len(ids), "photographs": files}
