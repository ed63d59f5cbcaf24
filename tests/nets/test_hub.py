"""Whether timm's model hub can be reached is known within seconds, and not asked where it is not needed."""

import socket
import time
import urllib.error
import urllib.request

import pytest

import foveal
from foveal.nets import hub


@pytest.fixture
def asked(monkeypatch):
    """The addresses that were asked for; `asked.answer` is what happens then."""

    class Asked(list):
        answer: object = None

    found = Asked()

    def urlopen(request, timeout):
        found.append(request.full_url)
        if isinstance(found.answer, Exception):
            raise found.answer
        time.sleep(found.answer)
        raise urllib.error.HTTPError(request.full_url, 404, "no", None, None)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    return found


@pytest.mark.parametrize("answer", [OSError("no route"), ValueError("no address"), 1.0], ids=["down", "wrong", "slow"])
def test_a_hub_that_cannot_be_reached_is_refused_in_time(asked, monkeypatch, answer):
    monkeypatch.setattr(hub, "WAIT", 0.2)
    asked.answer = answer
    started = time.perf_counter()
    assert hub.unreachable("resnet18") == "huggingface.co"
    assert time.perf_counter() - started < 0.9 and len(asked) == 1


def test_any_answer_counts(asked):
    asked.answer = 0.0
    assert not hub.unreachable("resnet18")
    assert asked == [hub.constants.ENDPOINT]


def test_weights_that_are_here_or_do_not_exist_need_no_hub(asked, monkeypatch):
    assert not hub.unreachable("small_conv")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: "/cache/model.safetensors")
    assert not hub.unreachable("resnet18")
    assert not asked


def test_a_hub_that_must_not_be_used_is_not_asked(asked, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.unreachable("resnet18") == "huggingface.co" and not asked


def test_without_a_network_training_is_refused_in_time_with_what_to_do(phantom_set, tmp_path, monkeypatch, refuses):
    tried = []

    def connect(address, *_, **__):
        tried.append(address[0])
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connect(address))
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    started = time.perf_counter()
    with refuses("weights.missing", "resnet18", "huggingface.co", "--init FILE", "foveal[weights]"):
        foveal.train(phantom_set, out=tmp_path / "run", init="imagenet", encoder="resnet18", batch_size=8)
    assert time.perf_counter() - started < 5 and len(tried) <= 1  # a proxy may be named in the environment
    assert not (tmp_path / "run").exists()
    tried.clear()
    run = foveal.train(phantom_set, out=tmp_path / "own", encoder="small_conv", epochs=1, batch_size=8)
    foveal.evaluate(run)
    assert not tried
