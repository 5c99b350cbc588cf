"""Pictures and sentences one by one: as in a batch, whatever way they come, nothing lost."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edge_toys import make_toy
from PIL import Image

from edgegraft_edge import bundle, cli
from edgegraft_edge.bundle import Bundle, make
from edgegraft_edge.decision import Decision, decide
from edgegraft_edge.errors import DataError
from edgegraft_edge.items import (
    Item,
    Items,
    is_film,
    jpegs,
    lines,
    pictures_below,
    pictures_in,
    sentences_in,
)
from edgegraft_edge.picture import read_window
from edgegraft_edge.program import Draft
from edgegraft_edge.signal import GREY, ImageSpec, Spec, TextSpec, Windows

COMMAND = [sys.executable, "-m", "edgegraft_edge.cli"]
SPEC = ImageSpec(8, 8, GREY)


def _toy(spec: Spec, decision: Decision | None = None) -> Bundle:
    """Dark, middle or bright (or, of bytes, small, middle or large), by the mean."""
    draft = Draft()
    flat = draft.add("reshape", "x", shape=[int(np.prod(spec.shape))])
    mean = draft.add("mean", flat, axes=[1])
    away = draft.add("sub", mean, np.array([[30.0, 100.0, 200.0]]))
    logits = draft.add("mul", draft.add("abs", away), np.float32(-0.05))
    program = draft.finish(draft.add("softmax", logits, axis=-1))
    return make(program, spec, ("dark", "grey", "light"), decision)


def _picture(level: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-15, 16, (20, 30))
    return Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def _stream(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


FRAMES = [_jpeg(_picture(level, seed)) for seed, level in enumerate([30, 40, 100, 210, 205, 20])]


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "pictures"
    (root / "b").mkdir(parents=True)
    for number, frame in enumerate(FRAMES):
        (root / f"{'b/' if number > 3 else ''}{number}.jpg").write_bytes(frame)
    (root / ".hidden.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("no picture")
    return root


def _batch(toy: Bundle, frames: list[bytes]) -> np.ndarray:
    x = np.stack([read_window(frame, toy.spec) for frame in frames])
    blank = np.full(len(x), "")
    return toy.predict(Windows(x, blank, blank, toy.spec)).probabilities


def test_a_stream_of_pictures_equals_the_batch_exactly():
    decision = Decision(smooth=2, hold_off_s=0.2, emit="window")
    toy = _toy(SPEC, decision)
    items = Items(toy, apart=False, rate_hz=10)
    found = [items.push(item) for item in pictures_in(_stream(b"".join(FRAMES)))]
    batch = _batch(toy, FRAMES)
    expected = decide(
        decision, toy.predict(_windows(toy)), np.round(np.arange(len(FRAMES)) / 10, 6)
    )
    assert [each.event for each in found if each] == list(expected)
    alone = Items(toy)
    by_file = [alone.push(Item(str(n), frame)) for n, frame in enumerate(FRAMES)]
    assert [each.event.probability for each in by_file] == [
        round(float(row.max()), 6) for row in batch.astype(np.float64)
    ]


def _windows(toy: Bundle) -> Windows:
    x = np.stack([read_window(frame, toy.spec) for frame in FRAMES])
    blank = np.full(len(x), "")
    return Windows(x, blank, blank, toy.spec)


def test_what_comes_from_files_is_judged_by_itself(folder):
    toy = _toy(SPEC, Decision(smooth=5, hold_off_s=9.0))
    items = Items(toy)
    found = [items.push(item) for item in pictures_below(folder)]
    assert [(each.name, each.event.label) for each in found] == [
        ("0.jpg", "dark"),
        ("1.jpg", "dark"),
        ("2.jpg", "grey"),
        ("3.jpg", "light"),
        ("b/4.jpg", "light"),
        ("b/5.jpg", "dark"),
    ]


def test_what_cannot_be_read_is_counted_and_answered(folder):
    (folder / "1.jpg").write_bytes(FRAMES[1][:300])
    (folder / "2.jpg").write_bytes(b"")
    items = Items(_toy(SPEC))
    found = {each.name: each for item in pictures_below(folder) if (each := items.push(item))}
    assert found["1.jpg"].as_dict()["fault"] == "picture-truncated"
    assert found["2.jpg"].event.label == "unsure"
    counters = items.counters
    assert (counters.items, counters.unreadable, counters.events) == (6, 2, 6)
    assert set(counters.faults) == {"picture-truncated", "picture-empty"}


def test_thumbnails_and_heads_do_not_end_a_jpeg():
    thumb = _jpeg(Image.new("RGB", (8, 8)))
    exif = b"Exif\0\0" + thumb
    with_thumb = _jpeg(_picture(90).convert("RGB"), exif=exif, progressive=True)
    assert with_thumb.count(b"\xff\xd9") == 2
    head = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
    data = b"".join(head + frame + b"\r\n" for frame in (with_thumb, FRAMES[0], with_thumb))
    assert is_film(_stream(data))
    assert list(jpegs(_stream(data))) == [with_thumb, FRAMES[0], with_thumb]
    restarts = _jpeg(_picture(90), restart_marker_blocks=1)
    assert list(jpegs(_stream(restarts + restarts))) == [restarts, restarts]


class _Slow(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int):
        self.data, self.step, self.taken = data, step, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self.data[self.taken : self.taken + min(self.step, len(buffer))]
        buffer[: len(part)] = part
        self.taken += len(part)
        return len(part)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_picture_is_given_as_soon_as_it_is_whole(step):
    raw = _Slow(b"".join(FRAMES), step)
    taken = []
    for frame in jpegs(io.BufferedReader(raw, buffer_size=max(2, step))):
        taken.append(frame)
        assert raw.taken <= sum(map(len, taken)) + step
    assert taken == FRAMES


def test_damage_in_a_stream_costs_no_more_than_what_it_hits():
    broken = bytearray(FRAMES[1])
    broken[2:4] = b"\x00\x00"  # no marker follows the start
    data = FRAMES[0] + bytes(broken) + FRAMES[2] + FRAMES[3][:400]
    found = list(jpegs(_stream(data)))
    assert found[0] == FRAMES[0]
    assert FRAMES[2] in found
    assert found[-1] == FRAMES[3][:400]
    items = Items(_toy(SPEC))
    for number, frame in enumerate(found):
        items.push(Item(str(number), frame))
    assert items.counters.items - items.counters.unreadable == 2


def test_lists_of_paths_and_single_pictures(folder):
    listed = f"{folder}/3.jpg\n\n{folder}/gone.jpg\r\n".encode() + b"\xff\xfe\n"
    items = Items(_toy(SPEC))
    found = [items.push(item) for item in pictures_in(_stream(listed))]
    assert [each.event.label for each in found] == ["light", "unsure", "unsure"]
    assert [each.fault for each in found] == ["", "file-unreadable", "picture-empty"]
    out = io.BytesIO()
    _picture(100).save(out, "PNG")
    (one,) = pictures_in(_stream(out.getvalue()))
    assert items.push(one).event.label == "grey"
    (one,) = pictures_in(_stream(b"P5 2 1 255 " + bytes([200, 210])))
    assert items.push(one).event.label == "light"
    assert list(pictures_in(_stream(b""))) == []


def test_sentences():
    toy = _toy(TextSpec(16))
    items = Items(toy)
    data = b"\xef\xbb\xbfab\n\n  \r\n" + b"~" * 100_000 + b"\nb\xfcro\n" + "grün".encode()
    found = [items.push(item) for item in sentences_in(_stream(data))]
    assert [each.name for each in found] == ["line 1", "line 4", "line 5", "line 6"]
    assert [each.fault for each in found] == ["", "", "text-encoding", ""]
    counters = items.counters
    assert (counters.items, counters.unreadable, counters.cut) == (4, 1, 1)
    x = toy.spec.pack(["ab", "~" * 100_000, "grün"])
    scores = toy.score(x).max(axis=1).astype(np.float64).round(6)
    assert [found[n].event.probability for n in (0, 1, 3)] == scores.tolist()
    with pytest.raises(DataError):
        list(sentences_in(_stream("a".encode("utf-16"))))


def test_a_line_without_end_is_bounded():
    huge = b"x" * (3 << 20)
    first, second = lines(_stream(huge + b"\nrest"))
    assert len(first) == 1 << 20
    assert second == b"rest"


def test_a_bundle_of_another_kind_is_refused():
    with pytest.raises(DataError) as caught:
        Items(make_toy())
    assert caught.value.code == "kind-differs"


# -- the command


@pytest.fixture
def model(tmp_path) -> Path:
    return bundle.write(tmp_path / "toy.egb", _toy(SPEC))


def _main(capsys, *arguments: object) -> tuple[int, list[dict], str]:
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_run_over_a_folder_says_one_thing_of_each(capsys, model, folder):
    code, found, err = _main(capsys, "run", model, "--source", folder)
    assert code == 0
    assert [line["name"] for line in found][-1] == "b/5.jpg"
    counts, chosen = err.splitlines()
    assert counts == "6 items, 0 unreadable; events 6"
    assert chosen.startswith("runtime numpy (")
    code, found, err = _main(capsys, "run", model, "--source", folder, "--json", "--threshold", "1")
    assert (code, err) == (0, "")
    assert {line["reason"] for line in found[:-1]} == {"threshold"}
    assert found[-1]["summary"]["unsure"] == 6
    assert found[-1]["summary"]["backend"] == "numpy"


def test_run_over_one_file(capsys, model, folder):
    code, found, _ = _main(capsys, "run", model, "--source", folder / "3.jpg")
    assert (code, found[0]["name"], found[0]["label"]) == (0, "3.jpg", "light")
    (folder / "bad.png").write_bytes(b"junk")
    code, found, err = _main(capsys, "run", model, "--source", folder / "bad.png")
    assert (code, found[0]["fault"]) == (3, "picture-unreadable")
    assert "[picture-unreadable] 1 items" in err


def _process(arguments: list[object], data: bytes) -> tuple[int, list[dict], str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], input=data, capture_output=True, timeout=60, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, lines, done.stderr.decode()


def test_run_over_a_camera_goes_by_the_bundles_decision(model):
    code, found, err = _process(["run", model, "--rate-hz", 5, "--json"], b"".join(FRAMES))
    assert (code, err) == (0, "")
    assert [(line["at_s"], line["label"]) for line in found[:-1]] == [
        (0.0, "dark"),
        (0.4, "grey"),
        (0.6, "light"),
        (1.0, "dark"),
    ]
    assert found[-1]["summary"]["items"] == 6


def test_run_over_a_pipe_of_paths(model, folder):
    paths = "".join(f"{folder / f'{number}.jpg'}\n" for number in range(3))
    code, found, _ = _process(["run", model, "--source", "-"], paths.encode())
    assert code == 0
    assert [line["label"] for line in found] == ["dark", "dark", "grey"]


def test_run_over_sentences(tmp_path):
    model = bundle.write(tmp_path / "text.egb", _toy(TextSpec(4)))
    code, found, _ = _process(["run", model], b"~~~~\n    \n$$$$\n")
    assert code == 0
    assert [line["name"] for line in found] == ["line 1", "line 3"]


def test_wrong_inputs_of_the_command(capsys, model, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, expected, code in (
        (["--source", empty], 3, "items-missing"),
        (["--source", tmp_path / "gone.jpg"], 3, "source-missing"),
        (["--source", os.devnull], 3, "items-missing"),
        (["--source", folder, "--time-column", "t"], 2, "option-unsuited"),
    ):
        found, lines, _ = _main(capsys, "run", model, *arguments, "--json")
        assert (found, lines[0]["error"][0]["code"]) == (expected, code)
    text = bundle.write(tmp_path / "text.egb", _toy(TextSpec(4)))
    found, lines, _ = _main(capsys, "run", text, "--source", folder, "--json")
    assert (found, lines[0]["error"][0]["code"]) == (3, "source-folder")
