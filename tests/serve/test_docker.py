"""The image and the services: what they may do, what they need, and that both files say what pyproject.toml says."""

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
import yaml

from foveal.serve.database import database_url

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OF_TORCH = {"torch", "timm", "safetensors"}
REFERENCE = re.compile(r"\$\{(\w+)(:[-?][^}]*)?\}")


def bounds(requirements):
    """Name (with its extras) of each package -> what its version is bound to."""
    return {re.match(r"[\w.\-\[\]]+", line).group(): line for line in requirements}


@pytest.fixture(scope="module")
def image():
    """The instructions of the Dockerfile, in their order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().split("\n") if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "").split("\n")
    return [tuple(line.split(maxsplit=1)) for line in joined if line.strip()]


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def packages():
    lines = (ROOT / "docker" / "requirements.txt").read_text().split("\n")
    return bounds(line for line in lines if line and not line.startswith("#"))


def test_the_image_has_the_bounds_of_the_project_and_all_that_serving_needs(packages):
    all_of_them = bounds([*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)])
    assert {name: line for name, line in packages.items() if all_of_them.get(name, line) != line} == {}
    lines = [*PROJECT["dependencies"], *EXTRAS["serve"], *EXTRAS["postgresql"], *EXTRAS["dicom"]]
    assert set(bounds(lines)) - OF_TORCH <= set(packages) and "onnxruntime" in packages
    assert not OF_TORCH & set(packages)


def test_torch_is_in_the_image_only_where_it_is_asked_for_with_the_bound_of_the_project(image):
    assert ("ARG", "TORCH=0") in image
    steps = [rest for word, rest in image if word == "RUN" and "torch" in rest]
    for step in steps:
        before, _, after = step.partition('if [ "$TORCH" = 1 ]; then')
        assert "torch" not in before and "torch" not in after.partition("else")[2]
    bound = bounds(PROJECT["dependencies"])["torch"]
    assert len(steps) == 1 and f'"{bound}"' in steps[0] and "https://download.pytorch.org/whl/cpu" in steps[0]


def test_the_image_runs_as_an_account_without_rights_and_copies_only_what_is_needed(image):
    last = max(number for number, (word, _) in enumerate(image) if word == "FROM")
    users = [rest for word, rest in image[last:] if word == "USER"]
    assert users == ["10001:10001"] and "--uid 10001" in dict(image[last:])["RUN"]  # a number: Kubernetes can tell
    assert [rest.split()[0] for word, rest in image[last:] if word == "COPY"] == ["--from=build"]
    assert dict(image)["ENTRYPOINT"] == '["foveal"]'
    assert json.loads(dict(image)["CMD"]) == ["serve", "/model", "--host", "0.0.0.0"]
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored and "**/__pycache__" in ignored
    copied = {name for word, rest in image[:last] if word == "COPY" for name in rest.split()[:-1]}
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_no_secret_is_in_the_image_or_the_repository(image, compose):
    settings = " ".join(rest for word, rest in image if word in ("ENV", "ARG", "LABEL"))
    assert not re.search("token|password|reviews", settings, re.IGNORECASE)
    assert ".env" in (ROOT / ".gitignore").read_text().split("\n")
    page, database = (compose["services"][name]["environment"] for name in ("page", "database"))
    for value in (page["FOVEAL_TOKEN"], database["POSTGRES_PASSWORD"], page["FOVEAL_REVIEWS"]):
        _, otherwise = REFERENCE.search(value).groups()
        assert otherwise.startswith(":?") and len(otherwise) > 10  # without it nothing starts, and compose says why


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_is_true_of_a_healthy_server_only(image, status, code):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    check = json.loads(dict(image)["HEALTHCHECK"].partition("CMD ")[2])
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        port = server.server_address[1]
        if status:
            threading.Thread(target=server.handle_request).start()
        else:
            server.server_close()
        program = check[2].replace("8000", str(port))
        done = subprocess.run([sys.executable, *check[1:2], program], capture_output=True)
    assert check[0] == "python" and done.returncode == code


@pytest.mark.parametrize("name", ["page", "database"])
def test_a_service_has_no_rights_that_it_does_not_need(compose, name):
    service = compose["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"] and not service.get("privileged")
    assert all(place.split(":")[0] in ("/tmp", "/run/postgresql") for place in service["tmpfs"])


def test_the_page_is_reached_from_this_machine_only_and_the_database_from_the_page_only(compose):
    page, database = compose["services"]["page"], compose["services"]["database"]
    assert page["ports"] == ["127.0.0.1:8000:8000"] and "ports" not in database
    assert database["networks"] == ["store"] and compose["networks"]["store"] == {"internal": True}
    (model,) = page["volumes"]
    assert model["target"] == "/model" and model["read_only"] is True
    assert database["volumes"] == ["reviews:/var/lib/postgresql/data"] and "reviews" in compose["volumes"]
    assert database["image"] == "postgres:17" and database["user"] == "postgres"


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_what_is_mounted_in_the_examples_is_what_export_writes(name):
    text = "\n".join(line for line in (ROOT / name).read_text().split("\n") if line.startswith("#"))
    (folder,) = re.findall(r"foveal export RUN --out (\S+)", text)
    assert set(re.findall(r"\$PWD/([^\s:\"]+)", text)) == {folder}


def test_foveal_is_installed_from_its_source_as_it_is_on_no_index():
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "howto" / "export.md").read_text(), re.DOTALL)
    lines = [line.partition("#")[0].split()[2:] for line in "".join(blocks).split("\n") if line.startswith("pip ")]
    assert lines == [["--no-deps", "."], ["-r", "exported/requirements.txt"]]


def test_the_page_waits_for_the_database_that_its_reviews_go_to(compose):
    page, database = compose["services"]["page"], compose["services"]["database"]
    assert page["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert database["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "--host=127.0.0.1"]
    url = database_url(REFERENCE.sub("secret", page["environment"]["FOVEAL_REVIEWS"]))
    account = database["environment"]
    assert (url.host, url.port) == ("database", 5432)
    assert (url.username, url.database) == (account["POSTGRES_USER"], account["POSTGRES_DB"])
    asked = [
        REFERENCE.search(text).group(1)
        for text in (account["POSTGRES_PASSWORD"], page["environment"]["FOVEAL_REVIEWS"])
    ]
    assert asked == ["POSTGRES_PASSWORD"] * 2
