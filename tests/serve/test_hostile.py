"""Files and requests that were made to harm: each gets an answer, and the next good photograph is graded as before."""

import json
import random
import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
# Pillow and pydicom warn about many a damaged file, which must not become an error here that a server would not see.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PATIENT = {"deadline": None, "suppress_health_check": list(HealthCheck)}
ROOM = 48 * 2**20  # bytes by which memory may grow for a file that is refused


def tried(client, good, response):
    """What every answer is, and that the server goes on."""
    assert response.status_code < 500, response.text
    said = response.json()
    if response.status_code == 200:
        assert said["answers"] and {one["answer"] for one in said["answers"]} <= {"graded", "ungradable", "unreadable"}
    else:
        assert set(said["error"]) == {"code", "what", "expected", "fix"}
    assert "content-security-policy" in response.headers
    again = client.post("/v1/grade", content=good, headers={"Content-Type": "image/jpeg"}).json()
    assert again["answers"][0]["answer"] == "graded"
    return said


@pytest.fixture(scope="module")
def seeds(photographs):
    """One file of each format."""
    pixels = cv2.imdecode(np.frombuffer(photographs["3.png"], np.uint8), cv2.IMREAD_COLOR)
    endings = (".jpg", ".png", ".tif", ".webp", ".bmp", ".gif", ".jp2", ".ppm")
    files = {ending: cv2.imencode(ending, pixels)[1].tobytes() for ending in endings}
    return [*files.values(), photographs["5.dcm"]]


def mutated(seeds, chances):
    """One of the files with bytes flipped, set, cut, repeated, or taken from another; most often near its start."""
    data = bytearray(chances.choice(seeds))
    for _ in range(chances.randint(1, 6)):
        end = len(data) if chances.random() < 0.4 else min(len(data), 400)
        place = chances.randrange(max(end, 1))
        kind = chances.randrange(6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << chances.randrange(8)
        elif kind == 1:  # a header that lies
            data[place : place + 4] = chances.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\0\0\0\1"])
        elif kind == 2:
            del data[place : len(data) if chances.random() < 0.3 else place + chances.randint(1, 40)]
        elif kind == 3:
            data[place:place] = data[place : place + chances.randint(1, 60)]
        elif kind == 4:
            other = chances.choice(seeds)
            data[place:] = other[chances.randrange(len(other)) :]
        else:
            data[place : place + 2] = chances.randbytes(2)
    return bytes(data)


def test_damaged_files_are_answered(client, photographs, seeds):
    kinds = ("image/jpeg", "application/dicom", "application/octet-stream")

    @settings(max_examples=600, derandomize=True, database=None, **PATIENT)
    @given(st.integers(0, 2**32), st.sampled_from(kinds), st.booleans())
    def run(seed, kind, pictures):
        data = mutated(seeds, random.Random(seed))
        params = {"pictures": pictures, "similar": True}
        response = client.post("/v1/grade", content=data, headers={"Content-Type": kind}, params=params)
        tried(client, photographs["0.jpg"], response)

    run()


def test_odd_requests_are_answered(client, photographs):
    boundaries = st.text("xy-'()+_,./:=? \"\\;", max_size=90)
    kinds = st.one_of(
        st.sampled_from(["image/png", "application/json", "", "image/", "multipart/form-data", "text/html"]),
        st.builds("multipart/form-data; boundary={}; charset={}".format, boundaries,
                  st.sampled_from(["utf-8", "utf-7", "unicode_escape", "idna", "zlib", "", "utf-16"])),
    )  # fmt: skip
    pieces = st.sampled_from([
        b"--", b"x", b"\r\n", b"\n", b'Content-Disposition: form-data; name="images"; filename="a.jpg"', b": ", b"=",
        b"Content-Disposition: form-data; name*=utf-8''%00; filename*=x", b"Content-Transfer-Encoding: base64",
        b"Content-Type: image/jpeg", b"\xff\xd8\xff", b"\0", b"\\ud800", b'"', b";", photographs["0.jpg"],
    ])  # fmt: skip
    bodies = st.one_of(st.binary(max_size=300), st.lists(pieces, max_size=14).map(b"".join))
    names = st.binary(max_size=60).map(lambda name: name.translate(None, b"\r\n\0"))

    @settings(max_examples=300, derandomize=True, database=None, **PATIENT)
    @given(bodies, kinds, names, st.sampled_from(["/v1/grade", "/v1/report"]))
    def run(body, kind, name, path):
        headers = {b"Content-Type": kind.encode(), b"X-Name": name}
        response = client.post(path, content=body, headers=headers)
        if response.headers["content-type"].startswith("application/json"):
            tried(client, photographs["0.jpg"], response)
        else:
            assert (response.status_code, path) == (200, "/v1/report")

    run()


def test_odd_reviews_are_answered(browsing, photographs, review_of):
    client = browsing()
    right = review_of(client, photographs["0.jpg"])
    values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
        max_leaves=6,
    )
    keys = st.sampled_from([*right, "probabilities", "other"])

    @settings(max_examples=300, derandomize=True, database=None, **PATIENT)
    @given(st.dictionaries(keys, values, max_size=3), st.booleans())
    def run(changes, as_ascii):
        body = json.dumps(right | changes, ensure_ascii=as_ascii).encode("utf-8", "surrogatepass")
        response = client.post("/v1/reviews", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (201, 409, 422), response.text
        assert response.json()["id" if response.status_code == 201 else "error"]
        assert client.get("/v1/reviews").status_code == client.get("/v1/reviews/corrections.csv").status_code == 200

    run()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deflated(length, window=zlib.MAX_WBITS):
    """So many zeros, compressed a piece at a time."""
    packer, piece = zlib.compressobj(1, wbits=window), bytes(2**20)
    parts = [packer.compress(piece) for _ in range(length // len(piece))]
    return b"".join([*parts, packer.compress(bytes(length % len(piece))), packer.flush()])


def png_of_zeros():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    rows = deflated(50_000 * (1 + 6_250))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_with_a_profile_of_zeros():
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    profile = b"icc\0\0" + deflated(300 * 2**20)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"iCCP", profile)
        + chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")
    )  # fmt: skip


def tiff(width, height, strip_bytes, rows):
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 200), (277, 3, 1),
            (278, 4, rows), (279, 4, strip_bytes)]  # fmt: skip
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + listed + bytes(4)).ljust(200, b"\0") + deflated(10**6)


def dicom_of(make, **elements):
    return make(np.zeros((4, 4, 3), np.uint8), **elements)


def deflated_dicom(make):
    from pydicom.filereader import _read_file_meta_info, read_preamble

    data = make(np.zeros((4, 4, 3), np.uint8), "1.2.840.10008.1.2.1.99")
    stream = BytesIO(data)
    read_preamble(stream, force=False)
    _read_file_meta_info(stream)
    return data[: stream.tell()] + deflated(800 * 2**20, -zlib.MAX_WBITS)


def dicom_around_a_larger_jpeg(make):
    from pydicom.encaps import encapsulate

    jpeg = cv2.imencode(".jpg", np.zeros((10_000, 10_000), np.uint8))[1].tobytes()
    return dicom_of(make, syntax="1.2.840.10008.1.2.4.50", PixelData=encapsulate([jpeg]), SamplesPerPixel=1,
                    PhotometricInterpretation="MONOCHROME2")  # fmt: skip


BOMBS = {
    "png": (lambda make: png_of_zeros(), "megapixels"),
    "tiff": (lambda make: tiff(60_000, 60_000, 10**9, 60_000), "megapixels"),
    "tiff strip": (lambda make: tiff(4_000, 4_000, 2**32 - 16, 2**32 - 1), ""),
    "dicom": (lambda make: dicom_of(make, Rows=65_535, Columns=65_535), "megapixels"),
    "dicom deflated": (deflated_dicom, "inflates"),
    "dicom jpeg": (dicom_around_a_larger_jpeg, "megapixels"),
    "bmp": (lambda make: b"BM" + struct.pack("<IIIIiiHHIIiiII", 1000, 0, 54, 40, 10**5, 10**5, 1, 24, 0, 0, 0, 0, 0, 0)
            + bytes(1000), "megapixels"),
    "ppm": (lambda make: b"P6 99999 99999 255\n" + bytes(1000), "megapixels"),
    "gif": (lambda make: b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
            + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x01\x00\x00;", "megapixels"),
    "jpeg": (lambda make: b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
             + b"\xff\xda" + bytes(2000) + b"\xff\xd9", "megapixels"),
    "profile": (lambda make: png_with_a_profile_of_zeros(), None),
}  # fmt: skip


def memory(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if word in line).split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says how much memory was used")
@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_before_memory_is_spent(client, photographs, dicom_file, kind):
    make, reason = BOMBS[kind]
    data = make(dicom_file)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    headers = {"Content-Type": "application/dicom" if "dicom" in kind else "image/jpeg"}
    response = client.post("/v1/grade", content=data, headers=headers)
    grown = memory("VmHWM") - before
    said = tried(client, photographs["0.jpg"], response)
    assert grown < ROOM + 4 * len(data), f"{grown / 2**20:.0f} MB"
    if reason is not None:  # what stands beside a small good picture may be left out
        assert response.status_code == 422 and reason in said["error"]["what"]
