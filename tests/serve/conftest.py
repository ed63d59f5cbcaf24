"""Photographs to send, a server in this process, and a PostgreSQL server that is killed and started as tests like."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.sources.phantom import draw_phantom

START = 30  # seconds


def program(name):
    """The path of one of PostgreSQL's programs, None where it is not installed."""
    beside = shutil.which("pg_config")
    asked = [subprocess.run([beside, "--bindir"], capture_output=True, text=True).stdout.strip()] if beside else []
    folders = [*asked, *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)]
    # A link in a folder of links would look for its libraries in the wrong place.
    found = shutil.which(name) or next((path for folder in folders if (path := shutil.which(name, path=folder))), None)
    return found and os.path.realpath(found)


def picture(seed, side=80):
    """A drawn photograph, uint8 [side, side, 3], RGB."""
    return draw_phantom(seed % 5, "left", side, np.random.default_rng(seed)).image


def encoded(pixels, ending=".jpg"):
    """The bytes of a file."""
    return cv2.imencode(ending, pixels[..., ::-1])[1].tobytes()


def dicom(pixels, syntax="1.2.840.10008.1.2.1", **elements):
    """The bytes of a DICOM file; `elements` replace what it says of its pixels."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape[:2], 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photographs():
    """Name -> the bytes of a file that can be graded."""
    drawn = {f"{seed}.jpg": encoded(picture(seed)) for seed in range(3)}
    return {**drawn, "3.png": encoded(picture(3), ".png"), "4.tif": encoded(picture(4), ".tif"),
            "5.dcm": dicom(picture(5))}  # fmt: skip


@pytest.fixture(scope="session")
def dicom_file():
    """The function that makes DICOM files."""
    return dicom


@pytest.fixture(scope="module")
def serving(grader_run, tmp_path_factory):
    """Gives an app; a grader without maps and reviews in a new file unless told otherwise."""
    pytest.importorskip("fastapi")
    from foveal.serve.options import Limits, ServeConfig
    from foveal.serve.serve import build_app

    def make(limits=None, **options):
        reviews = str(tmp_path_factory.mktemp("reviews") / "reviews.sqlite")
        config = ServeConfig(**{"run": grader_run, "reviews": reviews, "device": "cpu"} | options)
        return build_app(config, Limits(**limits or {}))

    return make


@pytest.fixture(scope="module")
def browsing(serving):
    """Gives a client of an app that is closed with the module."""
    from starlette.testclient import TestClient

    opened = []

    def make(**options):
        client = TestClient(serving(**options), base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(client)
        return client.__enter__()

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(browsing):
    """A client of a server with all defaults."""
    return browsing()


@pytest.fixture(scope="session")
def review_of():
    """Grades a photograph (the bytes of a JPEG or PNG); gives a review of this answer, with changes."""

    def make(client, data, **changes):
        (answer,) = client.post("/v1/grade", files={"images": ("left.jpg", data)}).json()["answers"]
        review = {"image": answer["sha256"], "name": "left.jpg", "given": answer["grade"], "grade": 3}
        return review | {"reviewer": "Dr. Ü", "note": "microaneurysms"} | changes

    return make


class Server:
    """A PostgreSQL server in a folder, without a port; `url` has its password."""

    def __init__(self, folder, account):
        self.folder, self.account, self.process = folder, account, None
        self.password = secrets.token_urlsafe(16)
        self.url = f"postgresql://clinic:{self.password}@/postgres?host={folder}"

    def make(self):
        (self.folder / "password").write_text(self.password)
        shutil.chown(self.folder / "password", **self.owner())
        options = ["-D", str(self.folder / "data"), "-U", "clinic", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256"]
        command = [program("initdb"), *options, f"--pwfile={self.folder / 'password'}"]
        done = subprocess.run(command, capture_output=True, text=True, **self.identity())
        if done.returncode:
            pytest.skip(f"no PostgreSQL server can be made here: {done.stderr.strip()[-300:]}")

    def owner(self):
        return {"user": self.account} if self.account else {"user": os.getuid()}

    def identity(self):
        there = {"cwd": self.folder}
        return there | ({"user": self.account, "group": self.account, "extra_groups": []} if self.account else {})

    def start(self):
        command = [program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), "-h", ""]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.identity())
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self.process.poll() is not None:
                pytest.skip(f"PostgreSQL does not start here: {(self.folder / 'log').read_text()[-300:]}")
            try:
                self.run("SELECT 1")
                return
            except self.error():
                time.sleep(0.05)
        pytest.fail(f"PostgreSQL did not answer within {START} s: {(self.folder / 'log').read_text()[-300:]}")

    def error(self):
        return pytest.importorskip("psycopg").OperationalError

    def run(self, statement):
        """The rows that a statement gives."""
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def paused(self):
        """Meanwhile neither the server nor a process that it has started does anything; the system keeps its lines."""
        family = self.freeze()
        try:
            yield
        finally:
            for process in family:
                os.kill(process, signal.SIGCONT)

    def freeze(self):
        """SIGSTOP to the server and all processes that it has started; returns them."""
        os.kill(self.process.pid, signal.SIGSTOP)
        family = [self.process.pid, *children(self.process.pid)]
        for process in family:
            os.kill(process, signal.SIGSTOP)
        return family

    def kill(self):
        """SIGKILL to the server and all processes that it has started, all stopped first, as a power cut would."""
        family = self.freeze()
        for process in family:
            os.kill(process, signal.SIGKILL)
        self.process.wait()
        while any(Path(f"/proc/{process}").exists() for process in family):  # they hold its shared memory
            time.sleep(0.01)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(START)


def children(parent):
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == parent:
            found.append(int(file.parent.name))
    return found


@pytest.fixture(scope="session")
def postgresql():
    """A running server that any test may kill and start again; each test makes what it needs in it."""
    if program("postgres") is None or program("initdb") is None:
        pytest.skip("PostgreSQL is not installed here")
    pytest.importorskip("psycopg")
    account = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="foveal-"))  # not below pytest's own folder, which is closed to others
    server = Server(folder, account)
    try:
        try:
            shutil.chown(folder, **server.owner())
        except LookupError:
            pytest.skip("the tests run as root, and there is no account 'postgres' to start a server as")
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def database(postgresql):
    """The address of an empty database."""
    name = f"test_{secrets.token_hex(6)}"
    postgresql.run(f"CREATE DATABASE {name}")
    return postgresql.url.replace("/postgres?", f"/{name}?")
