"""Sound on the device: every encoding, what is damaged, and streams that equal recordings."""

import io
import json
import struct
import sys
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge import bundle as bundles
from edgegraft_edge.bundle import make
from edgegraft_edge.cli import main
from edgegraft_edge.decision import Decision
from edgegraft_edge.errors import DataError, EdgegraftError, OptionError
from edgegraft_edge.program import Draft
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import FULL_SCALE, Channel, WindowSpec
from edgegraft_edge.sound import Form, SoundStream, decode, read_sound, wav_header
from edgegraft_edge.windowing import cut

RATE = 8000
SPEC = WindowSpec(0.1, 0.05, float(RATE), (Channel("sound", FULL_SCALE),))


def tone(n=2000, seed=0):
    """Between -0.9 and 0.9, on the steps of 16-bit sound."""
    rng = np.random.default_rng(seed)
    x = 0.6 * np.sin(np.arange(n) * 0.2) + 0.2 * rng.uniform(-1, 1, n)
    return np.round(x * 32768) / 32768


def wav(body, *, tag=1, bits=16, channels=1, rate=RATE, declared=None, extra=b""):
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)
    if tag == 0xFFFE:
        head += struct.pack("<HHIH", 22, bits, 0, 1) + b"\x00" * 14
    size = len(body) if declared is None else declared
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + extra
    chunks += b"data" + struct.pack("<I", size) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def s16(x):
    return (np.asarray(x) * 32768).astype("<i2").tobytes()


@pytest.fixture
def file(tmp_path):
    def write(data, name="a.wav"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def code_of(path):
    with pytest.raises(EdgegraftError) as caught:
        read_sound(path)
    return caught.value.code


def s24(x):
    wide = (np.asarray(x) * 2**23).astype("<i4").tobytes()
    return b"".join(wide[i : i + 3] for i in range(0, len(wide), 4))


@pytest.mark.parametrize(
    ("data", "step"),
    [
        (wav(((tone() * 128).round() + 128).astype(np.uint8).tobytes(), bits=8), 1 / 128),
        (wav(s16(tone())), 0),
        (wav(s16(tone()), tag=0xFFFE), 0),
        (wav(s24(tone()), bits=24), 0),
        (wav((tone() * 2**31).astype("<i4").tobytes(), bits=32), 0),
        (wav(tone().astype("<f4").tobytes(), tag=3, bits=32), 0),
        (wav(tone().astype("<f8").tobytes(), tag=3, bits=64), 0),
    ],
    ids=["u8", "s16", "extensible", "s24", "s32", "f32", "f64"],
)
def test_every_width_gives_the_same_samples(file, data, step):
    found = read_sound(file(data))
    assert found.rate_hz == RATE
    assert found.values.dtype == np.float32
    assert np.abs(found.values[0] - tone()).max() <= step / 2 + 1e-7


def test_it_reads_what_the_standard_library_writes_and_averages_channels(tmp_path):
    left, right = tone(seed=1), tone(seed=2)
    with wave.open(str(tmp_path / "two.wav"), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(s16(np.stack([left, right], axis=1).ravel()))
    found = read_sound(tmp_path / "two.wav")
    assert found.rate_hz == 16000
    assert np.allclose(found.values, [left, right], atol=1e-7)
    assert np.allclose(found.mono, [(left + right) / 2], atol=1e-7)


def test_other_chunks_are_passed_over(file):
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert read_sound(file(wav(s16(tone()), extra=odd))).values.shape == (1, 2000)


def test_a_header_written_before_the_end_was_known_is_read_to_the_end(file):
    for untold in (0xFFFFFFFF, 0x7FFFFFFF):
        assert read_sound(file(wav(s16(tone()), declared=untold))).values.shape == (1, 2000)


def test_flac_and_ogg_need_soundfile_and_say_so_without(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    for name in ("a.flac", "a.ogg"):
        soundfile.write(tmp_path / name, tone(8000), RATE)
        assert read_sound(tmp_path / name).values.shape == (1, 8000)
    assert np.allclose(read_sound(tmp_path / "a.flac").values[0], tone(8000), atol=1e-6)
    soundfile.write(tmp_path / "law.wav", tone(), RATE, subtype="ULAW")
    assert np.abs(read_sound(tmp_path / "law.wav").values[0] - tone()).max() < 0.05
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(OptionError) as caught:
        read_sound(tmp_path / "a.flac")
    assert caught.value.code == "extra-missing"
    assert "edgegraft-edge[audio]" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "sound-empty"),
        (wav(b""), "sound-empty"),
        (wav(s16(tone()), declared=5000), "sound-truncated"),
        (wav(s16(tone()))[:30], "sound-header"),
        (wav(s16(tone()), rate=0), "sound-header"),
        (b"no sound at all" * 9, "sound-format"),
        (b"RIFF\x10\0\0\0AVI LIST" * 9, "sound-format"),
    ],
)
def test_what_is_damaged_has_a_code(file, data, code):
    pytest.importorskip("soundfile")
    assert code_of(file(data)) == code


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "big.wav").open("wb") as out:
        out.truncate((1 << 30) + 1)
    assert code_of(tmp_path / "big.wav") == "sound-large"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 60))
def test_no_bytes_crash_the_header(noise, place):
    data = bytearray(wav(s16(tone(50))))
    data[place : place + len(noise)] = noise
    try:
        form, _ = wav_header(io.BytesIO(bytes(data)), "a.wav")
    except DataError:
        return
    assert form is None or form.frame_bytes > 0


@given(st.binary(max_size=240))
def test_samples_stand_in_full_scale(data):
    for encoding in ("u8", "s16le", "s24le", "s32le"):
        form = Form(encoding, 2, 8000.0)
        whole = data[: len(data) - len(data) % form.frame_bytes]
        found = decode(whole, form)
        assert found.shape == (2, len(whole) // form.frame_bytes)
        assert np.abs(found).max(initial=0) <= 1


# -- streams


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time, as a microphone does; never on the border of a sample."""

    def __init__(self, data, sizes=(1, 7, 333)):
        self.data, self.place, self.sizes, self.count = data, 0, sizes, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        step = self.sizes[self.count % len(self.sizes)]
        self.count += 1
        part = self.data[self.place : self.place + min(step, len(buffer))]
        buffer[: len(part)] = part
        self.place += len(part)
        return len(part)


def loud_or_quiet():
    """A bundle that hears loudness, over windows of a tenth of a second."""
    draft = Draft()
    power = draft.add("mean", draft.add("mul", "x", "x"), axes=[1, 2], keepdims=False)
    power = draft.add("reshape", power, shape=[1])
    logits = draft.add("matmul", power, np.array([[-40.0, 40.0]]))
    logits = draft.add("add", logits, np.array([4.0, -4.0]))
    program = draft.finish(draft.add("softmax", logits, axis=-1))
    golden = np.stack([tone(800, seed)[None] * level for seed, level in ((0, 0.1), (1, 1.0))])
    named = {"lineage": {"strategy": "probe"}, "licences": {}}
    return make(program, SPEC, ("quiet", "loud"), golden=golden.astype(np.float32), **named)


def day():
    """Loud, quiet, loud."""
    return np.round(np.repeat([0.9, 0.05, 0.9], 3000) * tone(9000) * 32768) / 32768


@pytest.mark.parametrize("encoding", ["wav", "s16le", "f32le"])
def test_a_stream_gives_the_scores_of_the_recording(encoding):
    bundle = loud_or_quiet()
    body = day().astype("<f4").tobytes() if encoding == "f32le" else s16(day())
    data = wav(body) if encoding == "wav" else body
    stream = SoundStream(Pipe(data), SPEC, encoding=encoding)
    runner = Runner(bundle, decision=Decision(emit="window"))
    events = [event for _, samples in stream for event in runner.push(samples)]
    x, _ = cut(day()[None].astype(np.float32), SPEC)
    expected = bundle.program.run(x)
    assert stream.account.rows == len(day())
    assert not stream.account.malformed
    assert len(events) == len(x)
    labels = np.array(bundle.classes)[expected.argmax(axis=1)]
    assert [event.label for event in events] == labels.tolist()
    found = [event.probability for event in events]
    assert np.allclose(found, expected.max(axis=1), atol=2e-6)


def test_another_rate_is_refused_with_the_way_out():
    for stream in (
        lambda: SoundStream(io.BytesIO(wav(s16(tone()), rate=16000)), SPEC),
        lambda: SoundStream(io.BytesIO(s16(tone())), SPEC, encoding="s16le", rate_hz=16000.0),
    ):
        with pytest.raises(DataError) as caught:
            stream()
        assert caught.value.code == "rate-mismatch"
        assert "-ar 8000" in str(caught.value)


def test_a_stream_that_breaks_off_is_counted_and_its_samples_kept():
    stream = SoundStream(Pipe(wav(s16(tone(500)))[:-301]), SPEC)
    assert sum(samples.shape[1] for _, samples in stream) == 349
    assert list(stream.account.faults) == ["sound-truncated"]


def test_several_channels_become_one():
    body = s16(np.stack([tone(seed=1), tone(seed=2)], axis=1).ravel())
    stream = SoundStream(Pipe(wav(body, channels=2)), SPEC)
    found = np.concatenate([samples for _, samples in stream], axis=1)
    assert np.allclose(found[0], (tone(seed=1) + tone(seed=2)) / 2, atol=1e-6)


@pytest.fixture
def egb(tmp_path):
    bundles.write(tmp_path / "loud.egb", loud_or_quiet())
    return str(tmp_path / "loud.egb")


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_runs_a_wav(egb, file, capsys):
    assert main(["run", egb, "--source", str(file(wav(s16(day())))), "--json"]) == 0
    *events, summary = lines(capsys)
    assert [event["label"] for event in events] == ["loud", "quiet", "loud"]
    assert summary["summary"]["rows"] == summary["summary"]["accepted"] == 9000


def test_the_command_runs_bare_samples_from_a_pipe(egb, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe(s16(day())))))
    assert main(["run", egb, "--format", "s16le", "--rate-hz", "8000"]) == 0
    assert [event["label"] for event in lines(capsys)] == ["loud", "quiet", "loud"]


def test_the_command_knows_a_wav_in_a_pipe(egb, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe(wav(s16(day()))))))
    assert main(["run", egb, "--source", "-"]) == 0
    assert len(lines(capsys)) == 3


def test_a_clip_shorter_than_a_window_is_followed_by_silence(egb, file, capsys):
    assert main(["run", egb, "--source", str(file(wav(s16(day()[:750]))))]) == 0
    assert [event["label"] for event in lines(capsys)] == ["loud"]


def test_a_table_of_samples_still_runs(egb, file, capsys):
    rows = "sound\n" + "\n".join(f"{value:.6f}" for value in day())
    assert main(["run", egb, "--source", str(file(rows.encode(), "a.csv"))]) == 0
    assert len(lines(capsys)) == 3


@pytest.mark.parametrize(
    ("data", "more", "code"),
    [
        (wav(s16(tone()), rate=16000), [], "rate-mismatch"),
        (wav(b""), [], "rows-missing"),
        (wav(s16(tone()), tag=17, bits=4), [], "sound-encoding"),
        (b"RIFF....WAVE", [], "sound-header"),
        (wav(s16(tone())), ["--rate-hz", "16000"], "rate-mismatch"),
    ],
)
def test_the_command_refuses_with_a_code(egb, file, capsys, data, more, code):
    assert main(["run", egb, "--source", str(file(data)), "--json", *more]) == 3
    assert lines(capsys)[0]["error"][0]["code"] == code
