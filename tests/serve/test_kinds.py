"""Files of every kind that people send: graded whatever they are called, or refused with a reason."""

import zipfile
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image


def written(pixels, format, **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def written_tiff(pixels, *options):
    return cv2.imencode(".tif", pixels[..., ::-1], options)[1].tobytes()


MAKE = {
    "a.jpe": lambda p: written(p, "JPEG"), "A.JFIF": lambda p: written(p, "JPEG"),
    "a.mpo": lambda p: written(p, "MPO", save_all=True, append_images=[Image.fromarray(p)]),
    "a.avif": lambda p: written(p, "AVIF"), "a.j2k": lambda p: written(p, "JPEG2000", no_jp2=True),
    "a.webp": lambda p: written(p, "WEBP"), "a.TIFF": lambda p: written(p, "TIFF", compression="tiff_lzw"),
    "packed.tif": lambda p: written(p, "TIFF", compression="packbits"),
    "jpeg.tif": lambda p: written(p, "TIFF", compression="jpeg"),
    "big.tif": lambda p: written(p, "TIFF", big_tiff=True),
    "pages.tif": lambda p: written(p[::4, ::4], "TIFF", save_all=True, append_images=[Image.fromarray(p)]),
    "deep.tif": lambda p: written_tiff(p.astype(np.uint16) * 257), "scan": lambda p: written(p, "PNG"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pixels(photographs):
    return cv2.imdecode(np.frombuffer(photographs["3.png"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def answers(client, name, data):
    """What the server says of a file in a form, and of one that is the whole body."""
    headers = {"Content-Type": "application/octet-stream", "X-Name": name}
    return [
        client.post("/v1/grade", files=[("images", (name, data))]),
        client.post("/v1/grade", content=data, headers=headers),
    ]


@pytest.mark.parametrize("name", MAKE)
def test_pictures_of_every_kind_are_graded(client, pixels, name):
    for response in answers(client, name, MAKE[name](pixels)):
        (answer,) = response.json()["answers"]
        assert (answer["name"], answer["answer"]) == (name, "graded")
        assert (answer["width"], answer["height"]) == pixels.shape[1::-1]


@pytest.mark.parametrize("name", ["IM000001", "scan.IMA", "1.2.840.10008"])
@pytest.mark.parametrize("bare", [False, True])
def test_dicom_of_every_name_is_graded(client, photographs, name, bare):
    data = photographs["5.dcm"][132 if bare else 0 :]
    for response in answers(client, name, data):
        assert response.json()["answers"][0]["answer"] == "graded"


@pytest.mark.parametrize(("name", "code"), [("a.heic", "image.unsupported"), ("a.zip", "image.not_a_picture")])
def test_what_no_decoder_here_opens_is_refused_with_advice(client, photographs, name, code):
    data, advice = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "pillow-heif"
    if name == "a.zip":
        buffer, advice = BytesIO(), "unpack"
        with zipfile.ZipFile(buffer, "w") as writer:
            writer.writestr("right/17/1.jpg", photographs["0.jpg"])
        data = buffer.getvalue()
    for response in answers(client, name, data):
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (422, code) and advice in error["what"]
