"""Fetching weights, from a real server on this machine that breaks off, moves and lies."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgegraft.cli.app import run
from edgegraft.zoo import hub
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.registry import fetched_file, is_here, load_backbone
from edgegraft_edge.errors import ModelError, OptionError

DATA = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(DATA).hexdigest()


class Files:
    """What the server does: it gives `data`, and lets a transfer go after so many bytes."""

    def __init__(self):
        self.data, self.etag, self.ranges = DATA, f'"{DIGEST}"', True
        self.lets_go_after: list[int] = []
        self.asked: list[tuple[str, str]] = []
        self.moved_to = ""
        self.status = 200
        self.length = -1


@pytest.fixture
def server(monkeypatch, tmp_path):
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            asked = self.headers.get("Range", "")
            files.asked.append((self.command, asked))
            if files.status != 200:
                return self.send_error(files.status)
            if files.moved_to and self.path != "/moved":
                self.send_response(302)
                self.send_header("Location", files.moved_to)
                self.send_header("X-Linked-Etag", files.etag)
                self.send_header("X-Linked-Size", str(len(files.data)))
                return self.end_headers()
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and files.ranges else 0
            part = files.data[start:]
            self.send_response(206 if start else 200)
            if start:
                total = len(files.data)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("ETag", files.etag)
            self.send_header("Content-Length", str(len(part) if files.length < 0 else files.length))
            self.end_headers()
            if body:
                some = files.lets_go_after.pop(0) if files.lets_go_after else len(part)
                self.wfile.write(part[:some])
            self.close_connection = True

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    files.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    monkeypatch.setenv("EDGEGRAFT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_ENDPOINT", files.url)
    monkeypatch.setattr(hub.time, "sleep", lambda seconds: None)
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    yield files
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def card(fetch="hf:who/net/model.safetensors", **changed):
    return BackboneCard("net", "resnet", "a net", "pretrained", "MIT", fetch=fetch, **changed)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_hub_offer_is_shown_before_a_byte_is_fetched(server, tmp_path):
    offer = hub.ask(card())
    assert offer.as_dict() == {
        "name": "net",
        "address": f"{server.url}/who/net/resolve/main/model.safetensors",
        "n_bytes": len(DATA),
        "licence": "MIT",
        "checksum": DIGEST,
        "place": str(tmp_path / "weights" / "net.safetensors"),
    }
    assert server.asked == [("HEAD", "")]
    assert not (tmp_path / "weights").exists()


def test_hub_fetches_whole_with_its_checksum_beside(server, tmp_path):
    seen = []
    file = hub.fetch(card(), hub.ask(card()), lambda here, total: seen.append((here, total)))
    assert file.read_bytes() == DATA
    assert names(file.parent) == ["net.safetensors", "net.safetensors.sha256"]
    assert file.with_name("net.safetensors.sha256").read_text() == f"{DIGEST}  net.safetensors\n"
    assert seen[-1] == (len(DATA), len(DATA))
    assert fetched_file(card()) == file
    assert is_here(card())


def test_hub_transfer_that_breaks_off_goes_on_where_it_stopped(server):
    server.lets_go_after = [1000, 200_000]
    file = hub.fetch(card(), hub.ask(card()))
    assert file.read_bytes() == DATA
    assert [asked for way, asked in server.asked if way == "GET"] == [
        "",
        "bytes=1000-",
        "bytes=201000-",
    ]


def test_hub_transfer_that_never_ends_is_kept_for_the_next_call(server, tmp_path):
    server.lets_go_after = [5000, 0, 0, 0]
    offer = hub.ask(card())
    with pytest.raises(ModelError) as broken:
        hub.fetch(card(), offer)
    assert broken.value.code == "fetch-broken"
    assert "5000 of 512000 bytes" in broken.value.problems[0].found
    (left,) = names(tmp_path / "weights")
    assert left.endswith(".part")
    assert not is_here(card())
    server.asked.clear()
    assert hub.fetch(card(), offer).read_bytes() == DATA
    assert server.asked == [("GET", "bytes=5000-")]


def test_hub_begins_anew_where_the_server_cannot_go_on_or_the_file_changed(server, tmp_path):
    server.ranges, server.lets_go_after = False, [3000]
    assert hub.fetch(card(), hub.ask(card())).read_bytes() == DATA
    (tmp_path / "weights" / "net.safetensors").unlink()
    server.ranges, server.lets_go_after = True, [3000, 0, 0, 0]
    with pytest.raises(ModelError):
        hub.fetch(card(), hub.ask(card()))
    server.data = DATA[::-1]
    server.etag = f'"{hashlib.sha256(server.data).hexdigest()}"'
    assert hub.fetch(card(), hub.ask(card())).read_bytes() == DATA[::-1]
    assert names(tmp_path / "weights") == ["net.safetensors", "net.safetensors.sha256"]


@pytest.mark.parametrize("of_card", [True, False])
def test_hub_refuses_a_file_that_was_not_promised(server, tmp_path, of_card):
    promised = card(checksum="0" * 64) if of_card else card()
    server.etag = f'"{"1" * 64}"'
    with pytest.raises(ModelError) as other:
        hub.fetch(promised, hub.ask(promised))
    assert other.value.code == "checksum-mismatch"
    assert names(tmp_path / "weights") == []


def test_hub_follows_a_redirection_and_believes_what_the_hub_said_of_the_file(server):
    server.moved_to = f"{server.url}/moved"
    offer = hub.ask(card())
    assert (offer.n_bytes, offer.checksum) == (len(DATA), DIGEST)
    assert [way for way, _ in server.asked] == ["HEAD", "HEAD"]
    assert hub.fetch(card(), offer).read_bytes() == DATA


@pytest.mark.parametrize(
    "address", ["http://example.org/w.safetensors", "file:///etc/passwd.bin", "ftp://x/y.pth"]
)
def test_hub_takes_safe_addresses_only_also_when_sent_on(server, address):
    with pytest.raises(OptionError) as unsafe:
        hub.ask(card(address))
    assert unsafe.value.code == "address-unsafe"
    server.moved_to = address
    with pytest.raises((OptionError, ModelError)) as sent_on:  # urllib refuses file: by itself
        hub.ask(card())
    assert sent_on.value.code in ("address-unsafe", "fetch-refused")
    assert [way for way, _ in server.asked] == ["HEAD"]


def test_hub_says_what_to_do_when_it_is_refused_or_there_is_no_network(server, monkeypatch):
    for status in (404, 503):
        server.status = status
        with pytest.raises(ModelError) as refused:
            hub.ask(card())
        assert refused.value.code == "fetch-refused"
        assert str(status) in refused.value.problems[0].found
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError) as offline:
        hub.ask(card())
    assert offline.value.code == "fetch-offline"
    assert "net.safetensors" in offline.value.problems[0].remedy
    assert "net:FILE" in offline.value.problems[0].remedy
    for without in (card(""), card("https://example.org/net.zip")):
        with pytest.raises(ModelError) as unknown:
            hub.ask(without)
        assert unknown.value.code == "fetch-unknown"


def test_hub_bounds_what_it_takes(server, monkeypatch):
    monkeypatch.setattr(hub, "MAX_BYTES", 1000)
    with pytest.raises(ModelError) as large:
        hub.ask(card())
    assert large.value.code == "fetch-size"
    server.length = 500  # it says less than there is
    server.etag = ""
    offer = hub.ask(card())
    assert offer.n_bytes == 500
    server.length = -1
    with pytest.raises(ModelError) as more:
        hub.fetch(card(), offer)
    assert more.value.code == "fetch-size"


def test_hub_fetched_weights_are_checked_again_when_they_are_loaded(server, tmp_path):
    assert run(["models", "fetch", "resnet18", "--yes"]) == 0
    file = tmp_path / "weights" / "resnet18.safetensors"
    with pytest.raises(ModelError) as whole:
        load_backbone("resnet18")
    assert whole.value.code == "tensors-damaged"  # these bytes are no safetensors
    file.write_bytes(DATA[:-1])
    with pytest.raises(ModelError) as changed:
        load_backbone("resnet18")
    assert changed.value.code == "checksum-mismatch"


def test_models_fetch_asks_and_says_where_the_file_is(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("click.confirm", lambda *a, **k: False)
    assert run(["models", "fetch", "resnet18"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    for word in ("BSD-3-Clause", "0.5 MB", DIGEST, "/timm/resnet18.tv_in1k/"):
        assert word in said.err
    assert [way for way, _ in server.asked] == ["HEAD"]
    monkeypatch.setattr("click.confirm", lambda *a, **k: True)
    assert run(["models", "fetch", "resnet18"]) == 0
    place = tmp_path / "weights" / "resnet18.safetensors"
    assert capsys.readouterr().out.strip() == str(place)
    assert place.read_bytes() == DATA
    assert run(["models", "fetch", "resnet18"]) == 0
    assert "here already" in capsys.readouterr().out


def test_models_fetch_as_json_fetches_only_when_told_to(server, tmp_path, capsys):
    assert run(["models", "fetch", "resnet18", "--json"]) == 0
    offered = json.loads(capsys.readouterr().out)
    assert (offered["fetched"], offered["n_bytes"]) == (False, len(DATA))
    assert not (tmp_path / "weights").exists()
    assert run(["models", "fetch", "resnet18", "--json", "--yes"]) == 0
    fetched = json.loads(capsys.readouterr().out)
    assert fetched["fetched"] is True
    assert fetched["checksum"] == DIGEST
    assert run(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert rows["resnet18"]["here"] is True
    assert rows["resnet34"]["here"] is False
    assert rows["resnet34"]["size"] == 4 * rows["resnet34"]["n_parameters"]


def test_models_show_tells_of_weights_that_are_not_here(server, capsys):
    assert run(["models", "show", "resnet50"]) == 0
    said = capsys.readouterr().out
    assert "here           no" in said
    assert "hf:timm/resnet50" in said
    assert run(["models", "list"]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("resnet50"))
    assert "image" in line
    assert "93.9 MB" in line
