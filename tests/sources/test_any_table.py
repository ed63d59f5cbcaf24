"""Tables and folders of any kind: a right reading or a FovealError, never a traceback, never a row that is lost."""

import contextlib
import csv
import io
import re
import shutil
import warnings
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveal.errors import FovealError
from foveal.predict.inputs import list_photographs, sort_inputs
from foveal.sources.names import MASKS
from foveal.sources.registry import read_source
from foveal.sources.source import SourceOptions
from foveal.sources.tables import read_rows

EXAMPLES = settings(
    max_examples=60, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
WORDS = st.sampled_from([
    "17", "017", "17.0", "P017", "a b", "\u00e9t\u00e9", "\u773c", "x.1", "-", "left", "OD", "train", "test", "images",
    "0", "1", "2", "4", "No_DR", "Severe", "NA", "5", "2019-01-02", "masks", "'", '"q"', "a,b", "a;b", "None", "=1+1",
])  # fmt: skip
NAMES = st.one_of(WORDS, st.text(st.characters(exclude_characters="/\0\r\n", codec="utf-8"), min_size=1, max_size=6))
FILES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
LABELS = st.sampled_from([
    "0", "1", "2", "3", "4", "5", "-1", "2.0", "1,0", "1.5", "NA", "nan", "ungradable", "Mild", "Moderate", "No_DR",
    "PDR", "x", "None", "", " ", "0 ",
])  # fmt: skip
MORE = st.lists(st.sampled_from(["patient", "eye", "x", "", "level", " Image "]), max_size=2)
COLUMNS = st.tuples(st.sampled_from(["image", "id_code", "file", "who"]), st.sampled_from(["level", "diagnosis"]), MORE)
OPTIONS = st.builds(
    SourceOptions, scale=st.sampled_from(["auto", "icdr", "none"]), unlabelled=st.sampled_from([0, 0, -1])
)


def write_pictures(root, files):
    """Files with these names as far as the file system allows; returns those that are there."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in files:
        file = root / f"{name}.png"
        try:
            file.resolve().relative_to(root.resolve())
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        except (OSError, ValueError):
            continue
    return [file for file in root.rglob("*.png") if file.is_file()]


@pytest.mark.slow
@EXAMPLES
@given(
    files=st.lists(FILES, min_size=1, max_size=6, unique=True), rest=st.lists(LABELS, min_size=24, max_size=24),
    columns=COLUMNS, separator=st.sampled_from(",;\t|"), ending=st.sampled_from(["", ".png", ".jpg"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]), back=st.booleans(), short=st.booleans(),
    stray=st.booleans(), options=OPTIONS,
)  # fmt: skip
def test_any_table(tmp_path, files, rest, columns, separator, ending, encoding, back, short, stray, options):
    root = tmp_path / "set"
    write_pictures(root, files)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    columns = [*columns[:2], *columns[2]]
    writer.writerow(columns)
    for number, name in enumerate(files):
        cells = [(name.replace("/", "\\") if back else name) + ending, *rest[4 * number :]][: len(columns)]
        writer.writerow(cells[:1] if short and not stray and number == 1 else cells)
    lines = text.getvalue().splitlines(keepends=True)
    if stray:  # an opening quotation mark in the second cell of the first row and of the last
        for row in {1, len(lines) - 1}:
            lines[row] = lines[row].replace(separator, separator + '"', 1)
    (root / "labels.csv").write_bytes("".join(lines).encode(encoding, errors="replace"))
    with contextlib.suppress(FovealError):
        assert len(read_rows(root / "labels.csv")) == len(files)
    try:
        source = read_source(root / "labels.csv", "table", options)[1]
        assert len(source.table) >= len(files) and source.table["label"].dropna().isin(range(len(source.classes))).all()
        assert source.table["id"].is_unique
    except FovealError as error:
        assert error.what
    try:
        listed = list_photographs(sort_inputs([root / "labels.csv"])[0])
        assert len(listed) == sum(bool(name.strip() or ending) for name in files)
        assert len({photograph.id for photograph in listed}) == len(listed)
    except FovealError as error:
        assert error.what


@pytest.mark.slow
@EXAMPLES
@given(files=st.lists(FILES, min_size=1, max_size=8, unique=True), options=OPTIONS)
def test_any_folder(tmp_path, files, options):
    there = write_pictures(tmp_path / "set", files)
    try:
        table = read_source(tmp_path / "set", "auto", options)[1].table
    except FovealError as error:
        assert error.what
    else:
        shown = [file for file in there if not any(p.startswith(".") for p in file.relative_to(tmp_path / "set").parts)]
        masks = [file for file in shown if any(map(MASKS.search, file.relative_to(tmp_path / "set").parts[:-1]))]
        assert len(table) == len(shown) - len(masks) * (masks != shown) and table["id"].is_unique


@pytest.mark.slow
@EXAMPLES
@given(names=st.lists(NAMES, min_size=1, max_size=6))
def test_any_archive(tmp_path, names):
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "all.zip", "w") as writer:
        warnings.simplefilter("ignore")  # of repeated names
        for name in names:
            writer.writestr(f"{name}.png", b"x")
    with zipfile.ZipFile(tmp_path / "all.zip") as reader:
        shown = [
            name for name in reader.namelist() if not any(p.strip(".")[:1] != p[:1] for p in re.split(r"[/\\]", name))
        ]
    try:
        listed = list_photographs([tmp_path / "all.zip"])
    except FovealError as error:
        assert error.code == "image.none" and not shown
    else:
        assert len(listed) == len(shown) and {photograph.source() for photograph in listed} == {b"x"}


@pytest.mark.slow
@EXAMPLES
@given(data=st.binary(max_size=60), suffix=st.sampled_from([".csv", ".tsv", ".xlsx"]))
def test_any_bytes(tmp_path, data, suffix):
    write_pictures(tmp_path / "set", ["a"])
    (tmp_path / "set" / f"labels{suffix}").write_bytes(data)
    for read in (
        lambda: read_source(tmp_path / "set" / f"labels{suffix}", "table", SourceOptions()),
        lambda: list(list_photographs(sort_inputs([tmp_path / "set" / f"labels{suffix}"])[0])),
    ):
        try:
            read()
        except FovealError as error:
            assert error.what


@pytest.mark.parametrize("cell", ["a\x00", "x" * 5000, "../../a", "/", "C:\\", "\\\\server\\share\\a.png", ".", ".."])
def test_names_that_no_file_can_have(tmp_path, cell):
    write_pictures(tmp_path / "set", ["a", "b"])
    (tmp_path / "set" / "labels.csv").write_text(f"image,level\na,1\n{cell},0\n")
    try:
        assert len(read_source(tmp_path / "set", "auto", SourceOptions())[1].table) >= 2
    except FovealError as error:
        assert error.what
