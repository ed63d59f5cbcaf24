"""Read the picture, a pseudonym of the patient, and the eye from a DICOM file.

Only the elements in formats.toml are parsed, except by `header_of`: names and birth dates cannot end up in a table or a
message. Only a hash of the patient's number is kept; the report that prints the number is not stored. This is not
anonymisation: the hash has no secret, so a short number can be found by trying all.

pydicom and Pillow read JPEG baseline, JPEG 2000, RLE, deflated and uncompressed files. Other compressions, such as
JPEG-LS or lossless JPEG, need another package (pylibjpeg, GDCM), which pydicom finds once it is installed.
"""

import hashlib
import logging
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile

from foveal.errors import FovealError
from foveal.fundus.header import FORMATS, START, check_alone, check_pixels, is_dicom, read_header, reader_of
from foveal.fundus.jpeg import decode_jpeg, segments

_BYTES_PER_PIXEL = 6  # three channels of 16 bits
_OTHER_BYTES = 1 << 24  # that a file may hold in addition to its picture
_NEUTRAL, _NEAR = 128, 24  # of Cb and Cr: the value in black, and how far from it they may be there
_SIDE = 256  # pixels along the shorter side that are enough to find black
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"  # a segment whose last byte, to be added, tells the colours
LONGEST_NAME = 80  # characters of a camera
logging.getLogger("pydicom").addHandler(logging.NullHandler())  # what it prints lacks the name of the file


def origin_in_header(file: Path | BytesIO, *, by_study: bool = False) -> tuple[str, str, str]:
    """Patient (a hash of the PatientID, or else of the StudyInstanceUID), eye (left, right), camera; "" if unknown.

    by_study: take the StudyInstanceUID in any case, for files whose PatientID is the same although the patients differ.
    """
    tags = ("PatientID", "StudyInstanceUID", "ImageLaterality", "Laterality", "Manufacturer", "ManufacturerModelName")
    patient, study, image, side, make, model = _texts(file, *tags)
    name, eye = study if by_study else patient or study, {"L": "left", "R": "right"}.get(image or side, "")
    return f"dicom-{hashlib.sha256(name.encode()).hexdigest()[:16]}" if name else "", eye, camera_name(make, model)


def number_and_date(file: Path | BytesIO) -> tuple[str, str]:
    """PatientID and the date of the picture or study, YYYY-MM-DD; "" for what is not there. Neither is to be stored."""
    patient, *dates = _texts(file, "PatientID", "AcquisitionDate", "ContentDate", "StudyDate")
    date = next(filter(None, dates), "")
    return patient, f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def header_of(file: Path | bytes) -> Any:
    """All elements of a DICOM file but its picture, a pydicom dataset; None for another file, or without pydicom."""
    try:
        import pydicom

        with BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
            if not is_dicom(stream.read(START), "" if isinstance(file, bytes) else file.suffix.lower()):
                return None
            stream.seek(0)
            return pydicom.dcmread(stream, force=True, stop_before_pixels=True)
    except Exception:  # noqa: BLE001 - one of a dozen kinds of errors of damaged files
        return None


def camera_name(make: str, model: str) -> str:
    """Maker and model, without the maker where the model repeats it."""
    return (model if model.lower().startswith(make.lower()) else f"{make} {model}".strip())[:LONGEST_NAME]


def _texts(file: Path | BytesIO, *tags: str) -> list[str]:
    try:
        import pydicom

        found = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(tags))
        return [str(found.get(tag) or "").strip() for tag in tags]
    except Exception:  # noqa: BLE001 - pydicom is missing, or one of a dozen kinds of errors; decoding will say which
        return [""] * len(tags)


def read_dicom(data: bytes, most_pixels: int) -> np.ndarray:
    """Return the first frame of a DICOM file, with or without preamble, as uint8 `[h, w, 3]` RGB.

    Grey pictures are scaled to 8 bits by their rescale slope and window where they have one, else by their stored bits.
    Raises FovealError: package.missing (pydicom), image.no_pixels, .damaged, .too_large (more than `most_pixels`),
    .compression (no installed package reads it), .unsupported (colours).
    """
    try:
        import pydicom
    except ImportError:
        raise FovealError("package.missing", "reading DICOM needs pydicom: pip install 'foveal[dicom]'") from None
    warnings.filterwarnings("ignore", module="pydicom")
    try:
        _check_deflated(data, most_pixels)
        dataset = pydicom.dcmread(BytesIO(data), force=True, specific_tags=list(FORMATS["tags"]))
        if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
            raise FovealError("image.no_pixels", "a DICOM file without a picture")
        check_pixels(dataset.Columns, dataset.Rows, most_pixels)
        return np.ascontiguousarray(_to_rgb(dataset, *_frame(dataset, most_pixels)))
    except FovealError:
        raise
    except Exception as error:  # pydicom raises a dozen kinds of errors on files that break the standard
        raise FovealError("image.damaged", "a damaged DICOM file") from error


def _check_deflated(data: bytes, most_pixels: int) -> None:
    """Refuse a deflated file that holds far more than a picture, before pydicom inflates all of it."""
    from pydicom.filereader import _read_file_meta_info, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    stream = BytesIO(data)
    read_preamble(stream, force=True)
    if _read_file_meta_info(stream).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    left, inflater = _BYTES_PER_PIXEL * most_pixels + _OTHER_BYTES, zlib.decompressobj(-zlib.MAX_WBITS)
    rest = stream.read()
    while rest and not inflater.eof:
        left -= len(inflater.decompress(rest, 1 << 20))
        rest = inflater.unconsumed_tail
        if left < 0:
            what = f"a DICOM file that inflates to more data than {most_pixels / 10**6:g} megapixels need"
            raise FovealError("image.too_large", what)


def _frame(dataset: Any, most_pixels: int) -> tuple[np.ndarray, str]:
    """Return the values of the frame, `[h, w]` or `[h, w, 3]`, and their colour space (RGB, of 8 bits, for YBR)."""
    check_alone(int(dataset.get("NumberOfFrames", 1) or 1), "frames")
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import convert_color_space

    _complete(dataset)
    if get_decoder(dataset.file_meta.TransferSyntaxUID).is_encapsulated:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        if _is_plain_jpeg(dataset, frame, most_pixels):
            return _from_jpeg(frame, str(dataset.PhotometricInterpretation))
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    if not decoder.is_available:
        what = f"a DICOM file compressed as {decoder.UID.name}: install pylibjpeg and its plugins"
        raise FovealError("image.compression", what)
    values, facts = decoder.as_array(dataset, index=0, raw=True)
    meaning = str(facts["photometric_interpretation"])
    if meaning not in ("RGB", "YBR_FULL", "YBR_FULL_422"):
        return values, meaning
    values = _scaled(values, 0, 2**dataset.BitsStored - 1)
    return values if _is_rgb(values, meaning == "RGB") else convert_color_space(values, "YBR_FULL", "RGB"), "RGB"


def _complete(dataset: Any) -> None:
    """Give a dataset the elements that a careless program has left out, and one that all colours are there."""
    colours = int(dataset.get("SamplesPerPixel") or 1)
    usual = {"SamplesPerPixel": colours, "PlanarConfiguration": 0, "PixelRepresentation": 0,
             "PhotometricInterpretation": "RGB" if colours == 3 else "MONOCHROME2",
             "BitsStored": dataset.get("BitsAllocated")}  # fmt: skip
    for name, value in usual.items():
        if dataset.get(name) is None and value is not None:
            setattr(dataset, name, value)
    # A file without a preamble does not name its transfer syntax; the default of the standard applies.
    meta = dataset.file_meta
    meta.TransferSyntaxUID = getattr(meta, "TransferSyntaxUID", None) or "1.2.840.10008.1.2"
    whole = 3 * dataset.Rows * dataset.Columns * (int(dataset.BitsAllocated) // 8)
    native = not meta.TransferSyntaxUID.is_encapsulated
    if native and dataset.PhotometricInterpretation == "YBR_FULL_422" and len(dataset.PixelData) >= whole:
        dataset.PhotometricInterpretation = "YBR_FULL"


def _is_plain_jpeg(dataset: Any, frame: bytes, most_pixels: int) -> bool:
    """Whether a frame is a JPEG of 8 bits that is not lossless. Corrects what `dataset` says about JPEG 2000.

    FovealError if the picture in the frame is larger than `most_pixels`, whatever the DICOM elements say.
    """
    from pydicom.uid import JPEG2000, JPEG2000TransferSyntaxes

    header = read_header(BytesIO(frame), frame, most_pixels) if reader_of(frame) else None
    if isinstance(header, Jpeg2KImageFile) and dataset.file_meta.TransferSyntaxUID not in JPEG2000TransferSyntaxes:
        dataset.file_meta.TransferSyntaxUID = JPEG2000
    style = frame.find(b"\xff\x52") if frame.startswith(b"\xff\x4f") else -1  # of coding in JPEG 2000
    if style > 0 and frame[style + 8] == 1 and dataset.SamplesPerPixel == 3:  # the seventh byte: RGB once decoded
        dataset.PhotometricInterpretation = "YBR_RCT"
    sequential = any(0xC0 <= kind <= 0xC2 for kind, _, _ in segments(frame))
    return isinstance(header, JpegImageFile) and header.mode in ("L", "RGB") and header.bits == 8 and sequential


def _is_rgb(values: np.ndarray, otherwise: bool) -> bool:
    """Whether stored colours `[h, w, 3]` are RGB and not YCbCr. Black tells: it has neutral colours, or none."""
    step = max(1, min(values.shape[:2]) // _SIDE)
    values = values[::step, ::step]
    dark = np.median(values[values[..., 0] <= np.percentile(values[..., 0], 2)], axis=0)
    neutral, black = bool((np.abs(dark[1:] - _NEUTRAL) < _NEAR).all()), bool((dark[1:] < _NEAR).all())
    return black if black or (neutral and dark[0] < _NEUTRAL / 2) else otherwise  # a pale grey is neutral, too


def _from_jpeg(frame: bytes, meaning: str) -> tuple[np.ndarray, str]:
    """The values of a JPEG frame of 8 bits, and their colour space."""
    parts, bare = segments(frame), bytearray(frame)
    start = next(start for kind, start, _ in parts if 0xC0 <= kind <= 0xC2)
    if frame[start + 5] == 1:
        grey = meaning if meaning.startswith("MONOCHROME") or meaning == "PALETTE COLOR" else "MONOCHROME2"
        return decode_jpeg(frame)[..., 0], grey
    marks = {frame[start : start + 5]: frame[start:end] for kind, start, end in parts if kind in (0xE0, 0xEE)}
    names, sides = frame[start + 6 : start + 15 : 3], frame[start + 7 : start + 15 : 3]
    # Whether the colours are RGB and not YCbCr, by each thing that says so, the most reliable first. JFIF has to be
    # YCbCr, and "RGB" in the DICOM element is often what the colours were before compression.
    said = [mark[11:12] == b"\0" for name, mark in marks.items() if name == b"Adobe"]
    said += [True] * (names == b"RGB") + [False] * (b"JFIF\0" in marks or len(set(sides)) > 1) + [meaning == "RGB"]
    for kind, start, end in reversed(parts):  # libjpeg would believe them
        if kind in (0xE0, 0xEE):
            del bare[start - 4 : end]
    as_ycbcr, stored = (frame[:2] + _ADOBE + transform + bare[2:] for transform in (b"\1", b"\0"))
    if len(said) == 1 or len(set(said)) > 1:
        said = [_is_rgb(decode_jpeg(stored), said[0])]
    return decode_jpeg(stored if said[0] else as_ycbcr), "RGB"


def _to_rgb(dataset: Any, values: np.ndarray, meaning: str) -> np.ndarray:
    if meaning == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        values = apply_color_lut(values, dataset)
        return _scaled(values, 0, np.iinfo(values.dtype).max)
    if meaning == "RGB":
        return values
    if not meaning.startswith("MONOCHROME"):
        raise FovealError("image.unsupported", f"a DICOM file with the unknown colour space {meaning}")
    # Which values are black and white: DICOM PS3.3, C.11.1 and C.11.2.1.2.
    if dataset.get("WindowWidth") and dataset.get("WindowCenter") is not None:
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        # The first of several windows is the default.
        centre, width = (float(np.ravel(value)[0]) for value in (dataset.WindowCenter, dataset.WindowWidth))
        grey = _scaled(values * slope + intercept, centre - width / 2, centre + width / 2 - 1)
    else:
        bits, peak = dataset.BitsStored - dataset.PixelRepresentation, int(values.max())
        lowest = -(2**bits) if values.min() < 0 else 0  # values with a sign that none of them needs begin at 0
        if not lowest and peak > 255:  # a camera's own 10 or 12 bits, stored in 16
            bits = next((fewer for fewer in (10, 12) if peak < 2**fewer and fewer + 2 < bits), bits)
        grey = _scaled(values, lowest, 2**bits - 1)
    return np.stack([255 - grey if meaning == "MONOCHROME1" else grey] * 3, axis=-1)


def _scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    if values.dtype == np.uint8 and (black, white) == (0, 255):
        return values
    return (((values.astype(np.float32) - black) / max(white - black, 1)).clip(0, 1) * 255).round().astype(np.uint8)
