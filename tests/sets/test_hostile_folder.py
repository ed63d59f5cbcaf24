"""A folder as a clinic hands it over: every file that cannot be used is a row in rejected.csv, and nothing hangs."""

import os
import zlib

import cv2
import numpy as np
import pandas as pd
from PIL import Image

import foveal
from foveal.sets.records import open_prepared
from foveal.sources.phantom import draw_phantom


def test_everything_that_can_be_wrong_with_files_at_once(tmp_path):
    root = tmp_path / "clinic"
    (root / "ward").mkdir(parents=True)
    picture = draw_phantom(2, "left", 256, np.random.default_rng(0)).image
    image = Image.fromarray(picture)
    good = {
        "plain.jpg": lambda file: image.save(file, quality=95),
        "cmyk.jpg": lambda file: image.convert("CMYK").save(file, quality=95),
        "palette.png": lambda file: image.quantize(256).save(file),
        "grey.tif": lambda file: image.convert("L").save(file),
        "deep.png": lambda file: cv2.imwrite(str(file), picture[..., ::-1].astype(np.uint16) * 257),
        "a_png_called.jpeg": lambda file: image.save(file, format="PNG"),
    }
    for name, write in good.items():
        write(root / "ward" / name)
    whole = (root / "ward" / "plain.jpg").read_bytes()
    bad = {
        "cut.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "letter.jpg": b"Dear colleague",
        "huge.png": huge_png(40_000, 40_000),
    }
    for name, content in bad.items():
        (root / name).write_bytes(content)
    image.save(root / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    os.mkfifo(root / "pipe.jpg")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "ward" / "round").symlink_to(root)
    out = foveal.prepare(root, out=tmp_path / "set", size=64)
    records = open_prepared(out).records
    assert sorted(path.rpartition("/")[2] for path in records["file"]) == sorted(good)
    rejected = pd.read_csv(out / "rejected.csv").set_index("file")["reason"]
    assert {*bad, "moving.gif", "pipe.jpg", "gone.jpg"} == set(rejected.index) and rejected.str.len().min() > 5
    assert "megapixels" in rejected["huge.png"] and "empty" in rejected["empty.jpg"]
    copies = pd.read_csv(out / "duplicates.csv")
    assert len(copies) >= len(good) - 1 and records["group"].nunique() == 1  # six forms of one photograph


def huge_png(width, height):
    """The start of a PNG file that promises so many pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


def chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_a_set_can_be_read_while_it_is_extended(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()

    def add(names):
        for name in names:
            picture = draw_phantom(1, "left", 96, random).image
            cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), picture[..., ::-1])

    add(range(5))
    out = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32)
    before = open_prepared(out)
    pixels = before.pixels(before.records)
    add(range(5, 9))
    seen = []

    def look_first(*arguments, **options):
        now = open_prepared(out)  # new shards are there, the new tables are not
        seen.append((len(now.records), np.array_equal(now.pixels(now.records), pixels)))
        return assemble(*arguments, **options)

    from foveal.sets.assemble import assemble

    monkeypatch.setattr("foveal.sets.prepare.assemble", look_first)
    foveal.prepare(tmp_path / "photos", out=out, size=32)
    assert seen == [(5, True)] and len(open_prepared(out).records) == 9
