"""--keep-images: reviewed photographs without headers, and labels that `prepare` reads as they are."""

import hashlib
import os
import time
from contextlib import closing
from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image
from starlette.testclient import TestClient

import foveal
from foveal.fundus.decode import decode
from foveal.serve.kept import Kept
from foveal.serve.reviews import Review, open_reviews
from foveal.sets.records import open_prepared

SECRET = b"Doe"


def jpeg(data, orientation=1):
    """The same JPEG with EXIF, XMP, a comment and something after its end."""
    image, file = Image.open(BytesIO(data)), BytesIO()
    exif = image.getexif()
    exif[0x0112], exif[0x013B] = orientation, "Jane Doe"
    image.save(file, "JPEG", quality=90, exif=exif, comment="Doe^Jane", xmp=b"<x>Doe</x>")
    return file.getvalue() + b"Doe"


def reviewing(client, data, sent, kind, grade, reviewer="K", name=""):
    """Grade a photograph and review it, by default with the name with which it was sent; returns its digest."""
    answer = client.post("/v1/grade", content=data, headers={"Content-Type": kind, "X-Name": sent}).json()
    (found,) = answer["answers"]
    body = {
        "image": found["sha256"],
        "name": name or sent,
        "given": found["grade"],
        "grade": grade,
        "reviewer": reviewer,
    }
    assert client.post("/v1/reviews", json=body | {"key": answer["key"]}).status_code == 201
    return found["sha256"]


def test_reviewed_photographs_are_kept_without_headers_and_can_be_prepared(browsing, photographs, dicom_file, tmp_path):
    folder, pixels = tmp_path / "kept", np.array(Image.open(BytesIO(photographs["3.png"])))
    client = browsing(keep_images=str(folder))
    sent = {
        "17_left.jpg": (jpeg(photographs["0.jpg"]), "image/jpeg", 2),
        "17_right.jpg": (jpeg(photographs["1.jpg"], orientation=6), "image/jpeg", None),
        "a": (dicom_file(pixels, ImageLaterality="L"), "application/dicom", 0),
        "../b.tif": (photographs["4.tif"], "image/tiff", 4),
    }
    digests = {name: reviewing(client, data, name, kind, grade) for name, (data, kind, grade) in sent.items()}
    client.post("/v1/grade", content=photographs["2.jpg"], headers={"Content-Type": "image/jpeg"})  # not reviewed
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False).set_index("image")
    endings = {"17_left.jpg": ".jpg", "17_right.jpg": ".png", "a": ".png", "../b.tif": ".png"}
    assert list(table.index) == [digests[name] + endings[name] for name in sent]
    assert sorted(file.name for file in folder.iterdir()) == sorted([*table.index, "labels.csv", ".waiting"])
    for name, (data, _, _) in sent.items():
        kept = (folder / (digests[name] + endings[name])).read_bytes()
        assert SECRET not in kept and b"Exif" not in kept
        ending = ".dcm" if name == "a" else ""
        np.testing.assert_array_equal(decode(kept, 64).pixels, decode(data, 64, name=name + ending).pixels)
    assert table["label"].tolist() == ["moderate NPDR", "ungradable", "no DR", "proliferative DR"]
    assert table["eye"].tolist() == ["left", "right", "left", ""]
    patients = table["patient"].tolist()
    assert patients[0] == patients[1] != "" and patients[2].startswith("dicom-") and patients[0] != "17"
    reviewing(client, sent["a"][0], "a", "application/dicom", 1)  # the newest review counts
    records = open_prepared(foveal.prepare(folder, out=tmp_path / "set", size=32)).records.set_index("id")
    assert records.loc[[digests[name] for name in ("17_left.jpg", "a", "../b.tif")], "label"].tolist() == [2, 1, 4]
    unlabelled = records.loc[digests["17_right.jpg"]]
    assert len(records) == 4 and pd.isna(unlabelled["label"]) and "ungradable" in unlabelled["flags"]


def test_a_reviewer_named_like_a_formula_is_kept_as_text(serving, photographs, tmp_path):
    folder = tmp_path / "kept"
    for k in (0, 1):  # the second server reads what the first has written
        with TestClient(serving(keep_images=str(folder)), base_url="http://127.0.0.1") as client:
            reviewing(client, photographs[f"{k}.jpg"], f"{k}.jpg", "image/jpeg", k + 1, ("=cmd|calc", "-K")[k])
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    assert table["reviewer"].tolist() == ["'=cmd|calc", "'-K"]
    records = open_prepared(foveal.prepare(folder, out=tmp_path / "set", size=32)).records.set_index("id")
    assert records.loc[table["image"].str.removesuffix(".jpg"), "label"].tolist() == [1, 2]


def test_the_set_of_kept_photographs_takes_later_reviews(browsing, photographs, tmp_path):
    client = browsing(keep_images=str(tmp_path / "kept"), reviews=str(tmp_path / "reviews.sqlite"))
    digests = [reviewing(client, photographs[f"{k}.jpg"], f"{k}.jpg", "image/jpeg", k) for k in range(3)]
    out = foveal.prepare(tmp_path / "kept", out=tmp_path / "set", size=32)
    reviewing(client, photographs["0.jpg"], "0.jpg", "image/jpeg", 4)
    foveal.correct(out, reviews=str(tmp_path / "reviews.sqlite"))
    assert open_prepared(out).records.set_index("id").loc[digests, "label"].tolist() == [4, 1, 2]


def test_a_kept_photograph_on_which_reviewers_disagree_has_no_label(browsing, photographs, tmp_path):
    folder, data = tmp_path / "kept", photographs["0.jpg"]
    client, expected = browsing(keep_images=str(folder)), ["severe NPDR", "", "", "moderate NPDR"]
    for (grade, reviewer), label in zip(((3, "A"), (2, "B"), (1, "a "), (2, "A")), expected, strict=True):
        reviewing(client, data, "0.jpg", "image/jpeg", grade, reviewer)
        table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
        assert table["label"].tolist() == [label]
    assert table["reviewer"].tolist() == ["B; A"]


def test_a_photograph_sent_without_a_name_has_the_patient_of_its_review(browsing, photographs, tmp_path):
    folder, place = tmp_path / "kept", str(tmp_path / "reviews.sqlite")
    client = browsing(keep_images=str(folder), reviews=place)
    reviewing(client, photographs["0.jpg"], "", "image/jpeg", 1, name="17_left.jpg")
    reviewing(client, photographs["1.jpg"], "18_right.jpg", "image/jpeg", 1)
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    assert table["eye"].tolist() == ["left", "right"]
    client.close()
    with closing(open_reviews(place)) as store:
        store.erase([], [1], "K")  # as earlier versions did, without the photograph
    assert foveal.erase(place, patient="17", keep_images=folder)["photographs"] == 1


def test_whole_keeps_the_files_as_they_were_sent(browsing, photographs, tmp_path):
    client = browsing(keep_images=f"whole:{tmp_path / 'kept'}")
    for name, kind in (("0.jpg", "image/jpeg"), ("4.tif", "image/tiff"), ("5.dcm", "application/dicom")):
        digest = reviewing(client, photographs[name], name, kind, 1)
        assert (tmp_path / "kept" / f"{digest}.{name[2:].replace('tif', 'tiff')}").read_bytes() == photographs[name]


def test_a_review_that_a_killed_server_stored_is_kept_at_the_next_start(serving, browsing, photographs, tmp_path):
    folder, place = tmp_path / "kept", str(tmp_path / "reviews.sqlite")
    sent = {"Content-Type": "image/jpeg", "X-Name": "0.jpg"}
    with TestClient(serving(keep_images=str(folder), reviews=place), base_url="http://127.0.0.1") as client:
        client.post("/v1/grade", content=photographs["0.jpg"], headers=sent)
    digest = hashlib.sha256(photographs["0.jpg"]).hexdigest()
    with closing(open_reviews(place)) as store:
        store.add(Review(image=digest, name="0.jpg", given=0, grade=3, reviewer="K"))
    browsing(keep_images=str(folder), reviews=place)
    assert pd.read_csv(folder / "labels.csv")["label"].tolist() == ["severe NPDR"]
    assert (folder / f"{digest}.jpg").exists() and not list((folder / ".waiting").iterdir())


def test_what_is_not_reviewed_within_a_day_is_deleted(tmp_path, photographs):
    from foveal.serve.intake import Sent

    kept, old = Kept(str(tmp_path), ["a"]), Sent("0.jpg", photographs["0.jpg"])
    kept.wait(old, "", "")
    (file,) = (tmp_path / ".waiting").iterdir()
    os.utime(file, (0, time.time() - 25 * 3600))
    kept._tidied = 0.0
    kept.wait(Sent("1.jpg", photographs["1.jpg"]), "", "")
    assert not file.exists()
    with closing(open_reviews(str(tmp_path / "r.sqlite"))) as reviews:
        kept.label(reviews, reviews.add(Review(image=old.sha256, name="0.jpg", given=0, grade=0, reviewer="K")).image)
    assert not (tmp_path / "labels.csv").exists()


def test_keeping_needs_reviews(grader_run, refuses):
    from foveal.serve.options import ServeConfig

    with refuses("option.conflict", "--keep-images", "--reviews"):
        ServeConfig(run=grader_run, reviews="none", keep_images="kept")
