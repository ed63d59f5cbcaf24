"""Small DICOM files of every kind that cameras write, made with pydicom; values are known, so pixels are checked."""

import sys
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.fundus.decode import decode
from foveal.fundus.dicom import _ADOBE
from foveal.fundus.jpeg import segments

pydicom = pytest.importorskip("pydicom")

WIDTH, HEIGHT = 12, 8


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 2


@pytest.fixture(scope="module")
def colour(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey // 2 + 40, 255 - grey], axis=-1)


def dicom(pixels: np.ndarray | bytes, meaning: str, bits: int = 8, **elements: object) -> bytes:
    """A file with a patient in it; `pixels` as they are to be stored."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"  # Ophthalmic Photography 8 Bit
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "4711", "19500101"
    dataset.Rows, dataset.Columns, dataset.PhotometricInterpretation = HEIGHT, WIDTH, meaning
    dataset.SamplesPerPixel = 1 if meaning.startswith(("MONO", "PALETTE")) else 3
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels if isinstance(pixels, bytes) else pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def decoded(folder: Path, data: bytes, name: str = "IM0001") -> np.ndarray:
    (folder / name).write_bytes(data)
    result = decode(folder / name, 1000)
    assert (result.width, result.height) == (result.pixels.shape[1], result.pixels.shape[0])
    assert result.pixels.dtype == np.uint8 and result.pixels.flags.c_contiguous
    return result.pixels


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def test_grey_and_inverted_grey(tmp_path: Path, grey: np.ndarray) -> None:
    assert np.array_equal(decoded(tmp_path, dicom(grey, "MONOCHROME2")), as_rgb(grey))
    assert np.array_equal(decoded(tmp_path, dicom(grey, "MONOCHROME1")), as_rgb(255 - grey))


def test_colour_by_pixel_and_by_plane(tmp_path: Path, colour: np.ndarray) -> None:
    assert np.array_equal(decoded(tmp_path, dicom(colour, "RGB")), colour)
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1))
    assert np.array_equal(decoded(tmp_path, dicom(planes, "RGB", PlanarConfiguration=1)), colour)


def test_ybr_becomes_rgb(tmp_path: Path, colour: np.ndarray) -> None:
    ybr = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    assert np.abs(decoded(tmp_path, dicom(ybr, "YBR_FULL")).astype(int) - colour).max() <= 3


def test_palette(tmp_path: Path) -> None:
    indices = (np.arange(WIDTH * HEIGHT) % 4).astype(np.uint8)
    tables = {"Red": [0, 10, 200, 255], "Green": [0, 20, 100, 255], "Blue": [0, 30, 50, 255]}
    elements: dict[str, object] = {}
    for name, table in tables.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (np.array(table, np.uint16) * 257).tobytes()
    pixels = decoded(tmp_path, dicom(indices, "PALETTE COLOR", **elements))
    assert np.array_equal(pixels.reshape(-1, 3), np.stack(list(tables.values()), axis=-1)[indices])


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_grey_is_scaled_by_its_stored_bits(tmp_path: Path, grey: np.ndarray, bits: int) -> None:
    deep = (grey * ((2**bits - 1) / 255)).round().astype(np.uint16)
    assert np.abs(decoded(tmp_path, dicom(deep, "MONOCHROME2", bits)).astype(int) - as_rgb(grey)).max() <= 1


def test_deep_colour(tmp_path: Path, colour: np.ndarray) -> None:
    assert np.array_equal(decoded(tmp_path, dicom(colour.astype(np.uint16) * 257, "RGB", 16)), colour)


def test_signed_values_begin_below_zero(tmp_path: Path, grey: np.ndarray) -> None:
    signed = (grey.astype(np.int16) - 128) * 256
    pixels = decoded(tmp_path, dicom(signed, "MONOCHROME2", 16, PixelRepresentation=1))
    assert np.abs(pixels.astype(int) - as_rgb(grey)).max() <= 1


def test_a_window_decides_what_is_black_and_white(tmp_path: Path) -> None:
    values = np.full((HEIGHT, WIDTH), 1000, np.uint16)
    values[0, :4] = 899, 900, 949, 1100
    window = {"WindowCenter": [951, 40], "WindowWidth": [101, 400], "RescaleSlope": "1", "RescaleIntercept": "0"}
    row = decoded(tmp_path, dicom(values, "MONOCHROME2", 12, **window))[0, :, 0]
    assert row[:4].tolist() == [0, 0, 124, 255] and row[5] == 254  # black 900.5, white 1000.5
    shifted = decoded(tmp_path, dicom(values, "MONOCHROME2", 12, **{**window, "RescaleIntercept": "5000"}))
    assert (shifted == 255).all()


def test_of_several_frames_none_is_taken_for_the_photograph(tmp_path: Path, grey: np.ndarray, refuses) -> None:
    with refuses("image.several", 3):
        decoded(tmp_path, dicom(np.stack([grey, 255 - grey, grey * 0]), "MONOCHROME2", NumberOfFrames=3))
    assert np.array_equal(decoded(tmp_path, dicom(grey[None], "MONOCHROME2", NumberOfFrames=1)), as_rgb(grey))


@pytest.mark.parametrize(
    ("format", "syntax"), [("JPEG", "1.2.840.10008.1.2.4.50"), ("JPEG2000", "1.2.840.10008.1.2.4.90")]
)
def test_compressed(tmp_path: Path, format: str, syntax: str) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    smooth = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)[..., None] * 4 + np.uint8([90, 60, 20])
    buffer = BytesIO()
    Image.fromarray(smooth).save(buffer, format, **({"quality": 95} if format == "JPEG" else {}))
    meaning = "YBR_FULL_422" if format == "JPEG" else "YBR_RCT"
    data = dicom(encapsulate([buffer.getvalue()]), meaning, syntax=UID(syntax))
    assert np.abs(decoded(tmp_path, data).astype(int) - smooth).max() < 12


def test_rle(tmp_path: Path, colour: np.ndarray) -> None:
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    dataset = dcmread(BytesIO(dicom(colour, "RGB")))
    dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = BytesIO()
    dataset.save_as(buffer)
    assert np.array_equal(decoded(tmp_path, buffer.getvalue()), colour)


def test_a_compression_that_nothing_here_reads(refuses, tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGLSLossless

    if get_decoder(JPEGLSLossless).is_available:
        pytest.skip("a decoder for JPEG-LS is installed")
    with refuses("image.compression", "JPEG-LS"):
        decoded(tmp_path, dicom(encapsulate([b"\xff\xd8\xff\xf7"]), "RGB", syntax=JPEGLSLossless))


@pytest.mark.parametrize("name", ["a.DCM", "IM000001", "a.IMA", "1.2.840.113619.2.5"])
@pytest.mark.parametrize("implicit", [True, False])
def test_without_preamble(tmp_path: Path, grey: np.ndarray, name: str, implicit: bool) -> None:
    from pydicom import dcmread
    from pydicom.uid import ImplicitVRLittleEndian

    dataset = dcmread(BytesIO(dicom(grey, "MONOCHROME2", syntax=ImplicitVRLittleEndian)))
    del dataset.preamble
    if implicit:
        del dataset.file_meta
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=True, little_endian=True)
    assert np.array_equal(decoded(tmp_path, buffer.getvalue(), name), as_rgb(grey))


JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def jpeg(pixels: np.ndarray, *, rgb: bool, mark: bytes, names: bytes = b"\1\2\3", subsampling: int = 0) -> bytes:
    """A JPEG of stored RGB or YCbCr with this marker of its colours, or with none, whose channels have these names."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, keep_rgb=rgb, subsampling=subsampling)
    data = bytearray(buffer.getvalue())
    for kind, start, end in reversed(segments(bytes(data))):
        if kind in (0xC0, 0xDA):
            step, first = (3, start + 6) if kind == 0xC0 else (2, start + 1)
            for channel in range(3):
                data[first + step * channel] = names[channel]
        elif kind in (0xE0, 0xEE):
            del data[start - 4 : end]
    return bytes(data[:2] + mark + data[2:])


@pytest.mark.parametrize("meaning", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("mark", [b"", JFIF, _ADOBE + b"\0", _ADOBE + b"\1", JFIF + _ADOBE + b"\0"])
@pytest.mark.parametrize("names", [b"\1\2\3", b"RGB"])
@pytest.mark.parametrize(("rgb", "subsampling"), [(False, 0), (False, 2), (True, 0)])
def test_the_colours_of_a_jpeg_are_right_whatever_the_file_says(
    tmp_path: Path, meaning: str, mark: bytes, names: bytes, rgb: bool, subsampling: int,
    capfd: pytest.CaptureFixture[str], photograph: np.ndarray,
) -> None:  # fmt: skip
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    data = encapsulate([jpeg(photograph, rgb=rgb, mark=mark, names=names, subsampling=subsampling)])
    pixels = decoded(tmp_path, dicom(data, meaning, syntax=JPEGBaseline8Bit, Rows=64, Columns=64))
    said = [mark[-1:] == b"\0"] * (b"Adobe" in mark) + [True] * (names == b"RGB") + [False] * (b"JFIF" in mark)
    said += [False] * bool(subsampling) + [meaning == "RGB"]
    unanimous_but_wrong = len(said) > 1 and set(said) == {not rgb}
    assert unanimous_but_wrong or np.abs(pixels.astype(int) - photograph).mean() < 4
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("mark", "rgb"), [(JFIF, False), (_ADOBE + b"\0", True), (_ADOBE + b"\1", False), (JFIF + _ADOBE + b"\0", True)]
)
@pytest.mark.parametrize("meaning", ["RGB", "YBR_FULL_422"])
def test_where_no_black_tells_the_markers_count(tmp_path: Path, meaning: str, mark: bytes, rgb: bool) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    bright = np.full((16, 16, 3), (230, 90, 60), np.uint8)
    data = encapsulate([jpeg(bright, rgb=rgb, mark=mark)])
    pixels = decoded(tmp_path, dicom(data, meaning, syntax=JPEGBaseline8Bit, Rows=16, Columns=16))
    assert np.abs(pixels.astype(int) - bright).mean() < 4


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """A disc in a black surround."""
    drawn = np.full((64, 64, 3), 2, np.uint8)
    cv2.circle(drawn, (32, 32), 28, (180, 90, 40), -1)
    cv2.circle(drawn, (40, 30), 9, (230, 200, 120), -1)
    return drawn


@pytest.mark.parametrize("meaning", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.80"])
@pytest.mark.parametrize("rgb", [True, False])
def test_a_jpeg_is_decoded_as_one_whatever_its_transfer_syntax_says(tmp_path, photograph, meaning, syntax, rgb) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    data = encapsulate([jpeg(photograph, rgb=rgb, mark=b"" if rgb else JFIF)])
    pixels = decoded(tmp_path, dicom(data, meaning, syntax=UID(syntax), Rows=64, Columns=64))
    assert np.abs(pixels.astype(int) - photograph).mean() < 4


@pytest.mark.parametrize("meaning", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_a_jpeg_2000_is_decoded_as_one_whatever_its_transfer_syntax_says(tmp_path, photograph, meaning) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    for bare in (True, False):
        buffer = BytesIO()
        Image.fromarray(photograph).save(buffer, "JPEG2000", no_jp2=bare, mct=1)
        data = dicom(encapsulate([buffer.getvalue()]), meaning, syntax=JPEGBaseline8Bit, Rows=64, Columns=64)
        assert np.array_equal(decoded(tmp_path, data), photograph)


def in_space(pixels: np.ndarray, space: str) -> np.ndarray:
    return pixels if space == "RGB" else np.asarray(Image.fromarray(pixels).convert("YCbCr"))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("meaning", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("stored", ["RGB", "YCbCr"])
def test_black_tells_the_colours_of_raw_pixels(tmp_path, photograph, stored, meaning, bits) -> None:
    values = in_space(photograph, stored).astype(np.uint16) * 257 if bits == 16 else in_space(photograph, stored)
    pixels = decoded(tmp_path, dicom(values, meaning, bits, Rows=64, Columns=64))
    assert np.abs(pixels.astype(int) - photograph).max() <= 3


def test_black_tells_the_colours_of_run_length_encoded_pixels(tmp_path, photograph) -> None:
    from pydicom.uid import RLELossless

    dataset = pydicom.dcmread(BytesIO(dicom(photograph, "RGB", Rows=64, Columns=64)))
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.PhotometricInterpretation = "YBR_FULL"
    dataset.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(decoded(tmp_path, (tmp_path / "rle.dcm").read_bytes()), photograph)


@pytest.mark.parametrize("value", [(230, 90, 60), (128, 128, 128), (120, 125, 130), (64, 64, 64), (30, 140, 200)])
def test_raw_pixels_without_black_are_what_the_header_says(tmp_path, value) -> None:
    plain = np.full((64, 64, 3), value, np.uint8)
    plain[20:40, 20:40] = 250
    assert np.array_equal(decoded(tmp_path, dicom(plain, "RGB", Rows=64, Columns=64)), plain)
    ybr = dicom(in_space(plain, "YCbCr"), "YBR_FULL", Rows=64, Columns=64)
    assert np.abs(decoded(tmp_path, ybr).astype(int) - plain).max() <= 3


@pytest.mark.parametrize("meaning", ["RGB", "YBR_RCT", "YBR_FULL", "YBR_FULL_422"])
def test_the_colours_of_jpeg_2000(tmp_path: Path, colour: np.ndarray, meaning: str) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    buffer = BytesIO()
    Image.fromarray(colour).save(buffer, "JPEG2000", no_jp2=True, mct=1)
    data = encapsulate([buffer.getvalue()])
    assert np.array_equal(decoded(tmp_path, dicom(data, meaning, syntax=JPEG2000Lossless)), colour)


def test_a_png_that_is_called_dcm_is_a_png(tmp_path: Path, colour: np.ndarray) -> None:
    Image.fromarray(colour).save(tmp_path / "a.png")
    assert np.array_equal(decoded(tmp_path, (tmp_path / "a.png").read_bytes(), "a.dcm"), colour)


@pytest.mark.parametrize("kept", [140, 200, 0.6, 0.95])
def test_cut_off(tmp_path: Path, colour: np.ndarray, kept: float) -> None:
    data = dicom(colour, "RGB")
    with pytest.raises(FovealError) as caught:
        decoded(tmp_path, data[: int(kept if kept > 1 else kept * len(data))])
    assert caught.value.code in ("image.damaged", "image.no_pixels")


@pytest.mark.parametrize(
    ("name", "data", "codes"),
    [
        ("a.dcm", b"", ("image.empty",)),
        ("a.dcm", b"left eye", ("image.no_pixels", "image.damaged")),
        ("a", bytes(128) + b"DICM", ("image.no_pixels",)),
    ],
)
def test_no_picture(tmp_path: Path, name: str, data: bytes, codes: tuple[str, ...]) -> None:
    with pytest.raises(FovealError) as caught:
        decoded(tmp_path, data, name)
    assert caught.value.code in codes


def test_too_many_pixels_are_refused_before_decoding(refuses, tmp_path: Path, grey: np.ndarray) -> None:
    with refuses("image.too_large", "30000 x 20000"):
        decoded(tmp_path, dicom(grey, "MONOCHROME2", Rows=20_000, Columns=30_000))


def test_unknown_colours(tmp_path: Path, colour: np.ndarray) -> None:
    with pytest.raises(FovealError) as caught:
        decoded(tmp_path, dicom(colour, "HSV"))
    assert caught.value.code in ("image.unsupported", "image.damaged")


def test_the_patient_is_never_parsed(grey: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveal.fundus import dicom as reader

    seen = []
    frame = reader._frame

    def spy(dataset, most_pixels):
        seen.append(str(dataset))
        return frame(dataset, most_pixels)

    monkeypatch.setattr(reader, "_frame", spy)
    reader.read_dicom(dicom(grey, "MONOCHROME2"), 10**6)
    assert "Rows" in seen[0] and not any(word in seen[0] for word in ("Doe", "4711", "1950"))


def test_without_pydicom_the_error_names_what_to_install(
    refuses, tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dicom(grey, "MONOCHROME2")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with refuses("package.missing", "foveal[dicom]"):
        decoded(tmp_path, data)


@pytest.mark.parametrize(("bits", "signed"), [(15, True), (12, True), (10, True), (12, False), (10, False)])
def test_the_range_of_deep_grey_values_is_that_which_they_use(tmp_path, grey, bits, signed) -> None:
    values = np.maximum(grey, 255 * (grey == grey.max())).astype(float)  # up to white
    deep = (values * ((2**bits - 1) / 255)).round().astype(np.int16 if signed else np.uint16)
    data = dicom(deep, "MONOCHROME2", 16, PixelRepresentation=int(signed))
    assert np.array_equal(decoded(tmp_path, data), as_rgb(values.round().astype(np.uint8)))


def test_dark_and_deep_values_stay_dark(tmp_path) -> None:
    dark = np.full((HEIGHT, WIDTH), 200, np.uint16)
    assert decoded(tmp_path, dicom(dark, "MONOCHROME2", 16)).max() <= 1


@pytest.mark.parametrize(
    "missing", ["PlanarConfiguration", "PixelRepresentation", "BitsStored", "PhotometricInterpretation"]
)
def test_elements_that_a_careless_program_leaves_out_have_their_usual_values(tmp_path, colour, grey, missing) -> None:
    for pixels, meaning, expected in ((colour, "RGB", colour), (grey, "MONOCHROME2", as_rgb(grey))):
        dataset = pydicom.dcmread(BytesIO(dicom(pixels, meaning)))
        if missing in dataset:
            del dataset[missing]
        dataset.save_as(tmp_path / "bare.dcm")
        assert np.array_equal(decoded(tmp_path, (tmp_path / "bare.dcm").read_bytes()), expected)
