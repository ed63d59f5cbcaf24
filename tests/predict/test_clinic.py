"""Folders and archives as clinics keep them: each picture gets a row, whatever it is called."""

from io import BytesIO
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import foveal
from foveal.predict.inputs import list_photographs, sort_inputs
from foveal.sets.records import open_prepared
from foveal.sources.phantom import draw_phantom

FORMATS = {
    "a.jpe": "JPEG", "b.JFIF": "JPEG", "c.mpo": "MPO", "d.avif": "AVIF", "e.j2k": "JPEG2000", "F.TIF": "TIFF",
    "g": "PNG", "17.05.2020": "JPEG", "scan.dat": "TIFF", "deep/er/h.jpg": "JPEG", "deep/h.jpg": "JPEG",
    "deep/er/h.webp": "WEBP",
}  # fmt: skip


@pytest.fixture
def clinic(tmp_path):
    """A folder with a picture of each kind, a HEIC, and files that are no pictures."""
    folder = tmp_path / "clinic"
    (folder / "deep" / "er").mkdir(parents=True)
    for number, (name, kind) in enumerate(FORMATS.items()):
        drawn = draw_phantom(number % 5, "left", 80, np.random.default_rng(number)).image
        buffer = BytesIO()
        Image.fromarray(drawn).save(buffer, kind)
        (folder / name).write_bytes(buffer.getvalue())
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500))
    for name in ("notes.txt", "deep/report.pdf", "Thumbs.db"):
        (folder / name).write_bytes(b"left eye")
    return folder


def test_prepare_and_predict_list_every_picture_of_a_folder_and_an_archive(clinic, tmp_path, grader_run, capsys):
    expected = {*FORMATS, "phone.heic"}
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in clinic.rglob("*"):
            archive.write(file, file.relative_to(clinic).as_posix())
    for source in (clinic, tmp_path / "all.zip"):
        found = [one.id for one in list_photographs(sort_inputs([source])[0])]
        assert {name.partition(f"{source.name}/")[2] for name in found} == expected and len(found) == len(expected)
    capsys.readouterr()
    table = pd.read_csv(foveal.predict(grader_run, clinic, out=tmp_path / "p.csv"), keep_default_na=False)
    told = capsys.readouterr().out
    assert all(part in told for part in ("1 hidden (Thumbs.db)", "1 .pdf", "1 .txt"))
    unread = table[table["answer"] == "unreadable"]
    assert len(table) == len(expected) and [name.rpartition("/")[2] for name in unread["id"]] == ["phone.heic"]
    assert "pillow-heif" in unread["reason"].iloc[0] and unread["advice"].all()
    out = foveal.prepare(clinic, out=tmp_path / "set", size=32, unlabelled=-1, fundus="yes")
    rejected = pd.read_csv(out / "rejected.csv")
    left_out = {name.partition("clinic/")[2] or name for name in rejected["file"]}
    assert left_out == {"phone.heic"}
    assert len(open_prepared(out).records) == len(FORMATS)
    assert "17.05.2020" in set(open_prepared(out).records["id"])


def test_a_patient_is_known_from_dicom_without_an_ending(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    folder = tmp_path / "export"
    folder.mkdir()
    for number, name in enumerate(("IM000001", "IM000002", "1.2.840.1", "1.2.840.2")):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", f"1.2.{number}"
        dataset.PatientID, dataset.Laterality = f"patient {number // 2}", "L"
        pixels = draw_phantom(number, "left", 64, np.random.default_rng(number)).image
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 64, 64, 3
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OB"
        dataset.save_as(folder / name, enforce_file_format=True)
    records = open_prepared(foveal.prepare(folder, out=tmp_path / "set", size=32)).records.set_index("id")
    assert len(records) == 4 and set(records["eye"]) == {"left"}
    assert records["group"]["IM000001"] == records["group"]["IM000002"] != records["group"]["1.2.840.1"]
