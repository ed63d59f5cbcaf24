"""The server under pressure: it refuses, fails and gives up one request at a time, and goes on."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from foveal.predict.model import GRADE, Answers
from foveal.predict.predictor import Predictor
from foveal.serve import work
from foveal.serve.reviews import Reviews

pytest.importorskip("fastapi")
JPEG = {"Content-Type": "image/jpeg"}


@asynccontextmanager
async def asking(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=20) as client:
        yield client


async def in_work(client):
    text = (await client.get("/metrics")).text
    return float(next(line for line in text.splitlines() if line.startswith("foveal_in_work ")).split()[1])


async def until(client, number):
    """Wait until so many photographs are in work."""
    for _ in range(500):
        if await in_work(client) == number:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{await in_work(client)} photographs are in work, not {number}")


@pytest.fixture
def gate(serving, monkeypatch):
    """Gives an app whose network waits for `gate.set()`; the network is free once the test has ended."""
    opened, answer = threading.Event(), Predictor.answer

    def waits(model, images, want=GRADE):
        assert opened.wait(20)
        return answer(model, images, want)

    def make(**options):
        app = serving(**options)  # it is warmed up before the gate is shut
        monkeypatch.setattr(Predictor, "answer", waits)
        return app

    opened.make = make
    yield opened
    opened.set()


def test_a_full_queue_tells_when_to_retry(gate, photographs):
    app = gate.make(limits={"queue": 3, "images": 2})

    async def script():
        async with asyncio.TaskGroup() as group, asking(app) as client:
            ask = lambda: client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)  # noqa: E731
            first = [group.create_task(ask()) for _ in range(2)]
            await until(client, 2)
            two = await client.post("/v1/grade", files=[("images", ("a.jpg", photographs["0.jpg"]))] * 2)
            assert (two.status_code, two.json()["error"]["code"]) == (503, "server.busy")
            assert int(two.headers["retry-after"]) >= 1 and "content-security-policy" in two.headers
            last = group.create_task(ask())
            await until(client, 3)
            assert (await ask()).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            gate.set()
            assert [(await task).status_code for task in [*first, last]] == [200] * 3
            assert (await ask()).status_code == 200 and await in_work(client) == 0

    asyncio.run(script())


def test_a_timeout_is_reported_and_frees_the_place(gate, photographs):
    app = gate.make(limits={"queue": 2, "images": 2, "timeout": 1.0})

    async def script():
        async with asking(app) as client:
            files = [("images", ("a.jpg", photographs["0.jpg"]))] * 2
            late = await client.post("/v1/grade", files=files)
            assert (late.status_code, late.json()["error"]["code"]) == (408, "request.timeout")
            assert await in_work(client) == 0
            gate.set()
            good = await client.post("/v1/grade", files=files)
            assert good.status_code == 200 and len(good.json()["answers"]) == 2

    asyncio.run(script())


def test_a_client_that_gives_up_does_not_affect_others(serving, photographs, monkeypatch):
    """Photographs whose time is up lie in one batch with others: those are graded, and these are not."""
    app, seen, opened, answer = serving(limits={"timeout": 1.0}), [], threading.Event(), Predictor.answer

    def waits(model, images, want=GRADE):
        seen.append(len(images))
        if len(seen) == 1:
            assert opened.wait(20)
        return answer(model, images, want)

    monkeypatch.setattr(Predictor, "answer", waits)

    async def script():
        async with asyncio.TaskGroup() as group, asking(app) as client:
            ask = lambda: client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)  # noqa: E731
            early = [group.create_task(ask())]
            while not seen:
                await asyncio.sleep(0.01)
            early += [group.create_task(ask()) for _ in range(3)]
            await asyncio.sleep(0.6)
            late = [group.create_task(ask()) for _ in range(2)]
            assert [(await task).status_code for task in early] == [408] * 4
            opened.set()
            assert [(await task).status_code for task in late] == [200] * 2
            assert seen == [1, 2] and await in_work(client) == 0

    asyncio.run(script())


def test_a_stalled_body_is_cut_off(serving, photographs):
    app = serving(limits={"timeout": 0.8, "queue": 1, "images": 1})

    async def trickle():
        yield b"--x\r\nA: "
        for _ in range(100):
            yield b"x"
            await asyncio.sleep(0.05)

    async def script():
        async with asking(app) as client:
            kinds = {"image/jpeg": "grade", "multipart/form-data; boundary=x": "grade", "application/json": "reviews"}
            asked = [client.post(f"/v1/{place}", content=trickle(), headers={"Content-Type": kind})
                     for kind, place in kinds.items()]  # fmt: skip
            for late in await asyncio.gather(*asked):
                assert (late.status_code, late.json()["error"]["code"]) == (408, "request.timeout")
            assert await in_work(client) == 0
            assert (await client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)).status_code == 200

    asyncio.run(script())


def test_stalled_bodies_do_not_block_others(serving, photographs):
    app, stop = serving(limits={"queue": 2, "images": 1}), asyncio.Event()

    async def stalls():
        yield photographs["0.jpg"][:1]
        await stop.wait()
        yield photographs["0.jpg"][1:]

    async def script():
        async with asyncio.TaskGroup() as group, asking(app) as client:
            stalled = [group.create_task(client.post("/v1/grade", content=stalls(), headers=JPEG)) for _ in range(5)]
            await asyncio.sleep(0.2)
            for _ in range(3):
                good = await client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)
                assert good.status_code == 200 and not any(task.done() for task in stalled)
            stop.set()
            assert {(await task).status_code for task in stalled} <= {200, 503}  # all of them come at once

    asyncio.run(script())


def test_a_network_failure_affects_one_batch_only(serving, photographs, monkeypatch, caplog):
    app, answer = serving(), Predictor.answer

    def fails(model, images, want):
        raise RuntimeError("CUDA out of memory")

    async def script():
        async with asking(app) as client:
            files = [("images", ("a.jpg", photographs["0.jpg"]))] * 2
            monkeypatch.setattr(Predictor, "answer", fails)
            failed = await client.post("/v1/grade", files=files)
            assert (failed.status_code, failed.json()["error"]["code"]) == (500, "server.failed")
            assert "RuntimeError" in failed.json()["error"]["what"] and "CUDA out of memory" in caplog.text
            monkeypatch.setattr(Predictor, "answer", answer)
            good = await client.post("/v1/grade", files=files)
            assert good.status_code == 200 and await in_work(client) == 0

    asyncio.run(script())


def test_nan_outputs_affect_one_batch_only(serving, photographs, monkeypatch):
    app = serving()
    nothing = lambda model, images, want: Answers(probabilities=np.full((len(images), 5), np.nan))  # noqa: E731
    monkeypatch.setattr(Predictor, "answer", nothing)

    async def script():
        async with asking(app) as client:
            failed = await client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)
            assert (failed.status_code, failed.json()["error"]["code"]) == (500, "server.failed")

    asyncio.run(script())


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("path", ["/v1/grade", "/v1/report", "/v1/reviews"])
def test_disconnected_clients_free_their_place(serving, photographs, pieces, path, caplog):
    app = serving(limits={"queue": 1, "images": 1})
    kind = b"application/json" if path == "/v1/reviews" else b"image/jpeg"

    answers = []

    async def leave():
        messages = [{"type": "http.request", "body": b"\xff\xd8", "more_body": True}] * pieces
        messages.append({"type": "http.disconnect"})
        given = iter(messages)

        async def receive():
            return next(given, messages[-1])

        async def send(message):
            answers.append(message.get("body", b""))

        headers = [(b"host", b"127.0.0.1"), (b"content-type", kind)]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                 "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80),
                 "client": ("127.0.0.1", 1), "root_path": "", "asgi": {"version": "3.0"}}  # fmt: skip
        await app(scope, receive, send)

    async def script():
        async with asking(app) as client:
            for _ in range(3):
                await leave()
            assert await in_work(client) == 0
            assert (await client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)).status_code == 200

    asyncio.run(script())
    assert caplog.text == ""  # it is no failure of the server
    codes = [json.loads(answer)["error"]["code"] for answer in answers if answer]
    assert codes == ["request.gone"] * 3


def test_concurrent_requests_share_batches_and_get_their_own_answers(serving, photographs):
    app = serving()
    names = [name for name in photographs if name.endswith((".jpg", ".png"))] * 4

    async def script():
        async with asking(app) as client:
            ask = lambda name: client.post("/v1/grade", files={"images": (name, photographs[name])})  # noqa: E731
            alone = {name: (await ask(name)).json()["answers"][0] for name in set(names)}
            passes, asked = len(alone), len(alone)
            for _ in range(10):  # on a busy machine, requests may come one after the other
                for name, response in zip(names, await asyncio.gather(*map(ask, names)), strict=True):
                    (answer,) = response.json()["answers"]
                    assert answer["sha256"] == alone[name]["sha256"] and answer["grade"] == alone[name]["grade"]
                    assert answer["probabilities"] == pytest.approx(alone[name]["probabilities"], abs=2e-6)
                asked += len(names)
                text = (await client.get("/metrics")).text
                passes = float(text.split("foveal_batch_images_count ")[1].split()[0])
                if passes < asked:
                    break
            assert passes < asked

    asyncio.run(script())


def test_the_total_size_of_requests_is_limited_and_released(gate, photographs, monkeypatch):
    data = photographs["3.png"]
    monkeypatch.setattr(work, "HELD_REQUESTS", 1.5 * len(data) / 10**6)  # room for one photograph, not for two
    app = gate.make(limits={"megabytes": 1})

    async def script():
        async with asking(app) as client:
            headers = {"Content-Type": "image/png"}
            first = asyncio.create_task(client.post("/v1/grade", content=data, headers=headers))
            await until(client, 1)
            second = await client.post("/v1/grade", content=data, headers=headers)
            form = await client.post("/v1/grade", files=[("images", ("a.png", data))])
            assert [answer.status_code for answer in (second, form)] == [503, 503]
            assert second.headers["Retry-After"] == "1" and second.json()["error"]["code"] == "server.busy"
            gate.set()
            assert (await first).status_code == 200
            assert (await client.post("/v1/grade", content=data, headers=headers)).status_code == 200

    asyncio.run(script())


def test_a_hanging_database_blocks_nothing_else(serving, photographs, monkeypatch):
    app, opened, latest = serving(limits={"timeout": 1.0}), threading.Event(), Reviews.latest

    def waits(store, *given):
        assert opened.wait(20)
        return latest(store, *given)

    monkeypatch.setattr(Reviews, "latest", waits)

    async def script():
        async with asyncio.TaskGroup() as group, asking(app) as client:
            stuck = [group.create_task(client.get("/v1/reviews")) for _ in range(60)]  # more than there are threads
            await asyncio.sleep(0.2)
            try:
                async with asyncio.timeout(10):
                    for path in ("/healthz", "/metrics", "/v1/model", "/", "/static/page.js"):
                        assert (await client.get(path)).status_code == 200
                    good = await client.post("/v1/grade", content=photographs["0.jpg"], headers=JPEG)
                    assert good.status_code == 200
                    answers = [await task for task in stuck]
            finally:
                opened.set()
            assert {answer.status_code for answer in answers} == {503}
            assert answers[0].json()["error"]["code"] == "reviews.unavailable" and answers[0].headers["retry-after"]
            assert "1 s" in answers[0].json()["error"]["what"]
            assert (await client.get("/v1/reviews")).json()["total"] == 0

    asyncio.run(script())
