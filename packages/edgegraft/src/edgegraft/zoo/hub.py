"""Weights that do not ship, fetched when they are asked for: shown first, whole or not at all.

A transfer that broke off goes on where it stopped. What was fetched lies in the folder of weights
under the backbone's name, with its checksum beside it; nothing in the file is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.registry import SUFFIXES, weights_file
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.files import replace_file

HUB = "https://huggingface.co"
MAX_BYTES = 8 << 30
TIMEOUT_S = 30.0
TRIES = 4
_CHUNK = 1 << 18
_NETWORK = (URLError, HTTPException, ConnectionError, TimeoutError, SSLError)
Watch = Callable[[int, int], None]
"""Told how many bytes are here and how many there are; 0 where that is not known."""


@dataclass(frozen=True)
class Offer:
    """What an address offers, before anything is fetched.

    Attributes:
        n_bytes: 0 where the address does not say.
        checksum: sha256, hexadecimal, of the card or as the address says; "" where neither does.
        mark: changes when the file at the address does.
        place: where the file will lie.
    """

    name: str
    address: str
    n_bytes: int
    licence: str
    checksum: str
    mark: str
    place: Path

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "address": self.address,
            "n_bytes": self.n_bytes or None,
            "licence": self.licence,
            "checksum": self.checksum or None,
            "place": str(self.place),
        }


def address_of(card: BackboneCard) -> str:
    """The URL of a card's weights; "hf:OWNER/REPOSITORY/FILE" is one of the Hugging Face hub.

    ``$HF_ENDPOINT`` names another hub, e.g. a mirror.

    Errors: `ModelError` "fetch-unknown", `OptionError` "address-unsafe".

    >>> from edgegraft.zoo.backbone import shipped_card
    >>> address_of(shipped_card("resnet18"))
    'https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors'
    """
    if not card.fetch:
        raise ModelError.of(
            "fetch-unknown",
            f"the card of {card.name!r} names no address",
            "only what a card names is fetched",
            f"{card.name}:FILE with a file you have",
        )
    url = card.fetch
    if url.startswith("hf:"):
        owner, repository, *file = url.removeprefix("hf:").split("/")
        hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
        url = f"{hub}/{owner}/{repository}/resolve/main/{quote('/'.join(file))}"
    _refuse_unsafe(url)
    if PurePosixPath(urlsplit(url).path).suffix not in SUFFIXES:
        raise ModelError.of(
            "fetch-unknown",
            f"{url} of card {card.name!r}",
            f"files of weights end in {', '.join(SUFFIXES)}",
            "correct `fetch` in the card",
        )
    return url


def ask(card: BackboneCard) -> Offer:
    """What the address of a card's weights offers; fetches nothing.

    Errors: `ModelError` "fetch-offline" without a network, "fetch-refused" where the address
    does not give it.
    """
    url = address_of(card)
    place = weights_file(card, PurePosixPath(urlsplit(url).path).suffix)
    steps = _Steps()
    with _opened(card, Request(url, method="HEAD"), place, steps) as answer:
        headers = dict(answer.headers.items())
    known = {k.lower(): v for k, v in {**headers, **steps.linked}.items()}
    mark = known.get("x-linked-etag") or known.get("etag", "")
    stated = mark.removeprefix("W/").strip('"')
    length = known.get("x-linked-size") or known.get("content-length", "0")
    n_bytes = int(length) if length.isdigit() else 0
    if n_bytes > MAX_BYTES:
        raise ModelError.of(
            "fetch-size",
            f"{n_bytes / 2**30:.0f} GiB at {url}",
            f"at most {MAX_BYTES >> 30} GiB are fetched",
            "a smaller model",
        )
    checksum = card.checksum or (stated if _is_sha256(stated) else "")
    return Offer(card.name, url, n_bytes, card.licence, checksum.lower(), mark, place)


def fetch(card: BackboneCard, offer: Offer, watch: Watch = lambda here, total: None) -> Path:
    """Fetch what was offered, into the folder of weights.

    Returns: the file; beside it lies its checksum, with ``.sha256`` added to its name.

    Errors: `ModelError` "fetch-broken" when the transfer breaks off again and again (what is
    here is kept, and the next call goes on from it), "checksum-mismatch", "fetch-offline".
    """
    place = offer.place
    place.parent.mkdir(parents=True, exist_ok=True)
    part = _part(offer)
    have = part.stat().st_size if part.is_file() else 0
    free = shutil.disk_usage(place.parent).free
    if offer.n_bytes - have > free:
        raise OptionError.of(
            "path-unusable",
            f"{free >> 20} MiB free in {place.parent}",
            f"{offer.name} needs {offer.n_bytes >> 20} MiB",
            "free space, or EDGEGRAFT_WEIGHTS=FOLDER on another disk",
        )
    broken = ""
    for attempt in range(TRIES):
        time.sleep(attempt)
        try:
            _transfer(card, offer, part, watch)
        except (OSError, HTTPException) as error:  # a full disk is told of, a network tried again
            if not isinstance(error, _NETWORK):
                raise
            broken = str(error) or type(error).__name__
            continue
        if offer.n_bytes in (0, part.stat().st_size):
            return _keep(offer, part)
        broken = f"{part.stat().st_size} of {offer.n_bytes} bytes came"
    raise ModelError.of(
        "fetch-broken",
        f"the transfer from {offer.address} broke off {TRIES} times ({broken})",
        "a file of weights is used whole or not at all",
        f"edgegraft models fetch {offer.name} again, which goes on from here",
    )


def _transfer(card: BackboneCard, offer: Offer, part: Path, watch: Watch) -> None:
    """Bytes from where the part ends to where the connection does."""
    have = part.stat().st_size if part.is_file() else 0
    if offer.n_bytes and have == offer.n_bytes:
        return
    request = Request(offer.address)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _opened(card, request, offer.place, _Steps()) as answer:
        begins = f"bytes {have}-"
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            begins
        )
        have = have if goes_on else 0
        bound = offer.n_bytes or MAX_BYTES
        with part.open("ab" if goes_on else "wb") as target:
            while chunk := answer.read(_CHUNK):
                have += len(chunk)
                if have > bound:
                    target.truncate(0)
                    raise ModelError.of(
                        "fetch-size", f"more than {bound} bytes from {offer.address}",
                        "it said that there are so many", "fetch it again",
                    )  # fmt: skip
                target.write(chunk)
                watch(have, offer.n_bytes)
            target.flush()
            os.fsync(target.fileno())


def _keep(offer: Offer, part: Path) -> Path:
    """The whole file under its name, with its checksum beside it."""
    digest = hashlib.sha256()
    with part.open("rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    if offer.checksum and found != offer.checksum:
        part.unlink()
        raise ModelError.of(
            "checksum-mismatch",
            f"{offer.address} gave a file with sha256 {found[:12]}...",
            f"{offer.checksum[:12]}... was promised",
            "fetch it again; if it stays so, the file there has changed",
        )
    beside = offer.place.with_name(offer.place.name + ".sha256")
    replace_file(beside, f"{found}  {offer.place.name}\n".encode())
    os.replace(part, offer.place)
    return offer.place


def _part(offer: Offer) -> Path:
    """The file of a transfer under way; those of other versions of the same weights go."""
    key = hashlib.sha256(f"{offer.address} {offer.mark} {offer.n_bytes}".encode()).hexdigest()
    part = offer.place.with_name(f"{offer.place.name}.{key[:12]}.part")
    for other in offer.place.parent.iterdir():
        old = other.name.startswith(f"{offer.place.name}.") and other.suffix == ".part"
        if old and (other != part or not offer.mark):
            with suppress(OSError):
                other.unlink()
    return part


class _Steps(HTTPRedirectHandler):
    """Follows redirections to safe addresses only, and keeps what a hub says of the file."""

    def __init__(self) -> None:
        self.linked: dict[str, str] = {}

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        for name, value in headers.items():
            if name.lower().startswith("x-linked-"):
                self.linked.setdefault(name, value)
        _refuse_unsafe(newurl)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = req.get_method()
        return following


def _opened(card: BackboneCard, request: Request, place: Path, steps: _Steps) -> Any:
    request.add_header("User-Agent", "edgegraft")
    request.add_header("Accept-Encoding", "identity")
    by_hand = f"copy the file to {place} from where there is a network, or {card.name}:FILE"
    try:
        return build_opener(steps).open(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code >= 500 and request.get_method() != "HEAD":
            raise ConnectionError(f"answer {error.code}") from error
        raise ModelError.of(
            "fetch-refused",
            f"{request.full_url} answers {error.code} {error.reason}",
            "the address does not give the file",
            f"look at the page of the weights; {by_hand}",
        ) from error
    except _NETWORK as error:
        reason = getattr(error, "reason", None) or error
        if request.get_method() != "HEAD":
            raise ConnectionError(str(reason)) from error
        raise ModelError.of(
            "fetch-offline",
            f"{urlsplit(request.full_url).netloc} cannot be reached ({reason})",
            f"the weights of {card.name} are fetched from {request.full_url}",
            by_hand,
        ) from error


def _refuse_unsafe(url: str) -> None:
    parts = urlsplit(url)
    is_here = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme == "https" or (parts.scheme == "http" and is_here):
        return
    raise OptionError.of(
        "address-unsafe",
        f"address {url}",
        "weights are fetched over HTTPS, so that nobody changes them on the way",
        "an https:// address",
    )


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text.lower())
