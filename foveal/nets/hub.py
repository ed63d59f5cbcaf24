"""timm's model hub: whether it can be reached, found out in seconds; the hub's own client would retry for minutes."""

import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants, try_to_load_from_cache

from foveal.nets.encoder import timm_card

WAIT = 4.0  # seconds
FILES = ("model.safetensors", "pytorch_model.bin")


def unreachable(name: str) -> str:
    """The server with the ImageNet weights of a timm network, if they are not here and it does not answer; else ""."""
    card = timm_card(name)
    if card is None or not (card.hf_hub_id or card.url):
        return ""
    if card.hf_hub_id:
        address = constants.ENDPOINT
        here = any(isinstance(try_to_load_from_cache(card.hf_hub_id, file), str) for file in FILES)
    else:
        address = card.url
        here = (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(address).path).name).is_file()
    return "" if here or (not constants.HF_HUB_OFFLINE and is_reachable(address)) else str(urlsplit(address).hostname)


def is_reachable(address: str) -> bool:
    """Whether a server answers within `WAIT` seconds; in a thread, because looking up a name has no time limit."""
    answered = threading.Event()

    def ask() -> None:
        with suppress(OSError, ValueError):
            with suppress(urllib.error.HTTPError):  # which is an answer
                urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=WAIT).close()
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(WAIT)
    return answered.is_set()
