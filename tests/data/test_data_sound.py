"""The source of sound: rates, widths, labels from names, clips to windows, what is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_toys import outcome, quarantine

from edgegraft.data.audit import audit
from edgegraft.data.clips import sound_windows
from edgegraft.data.dataset import open_data, open_like
from edgegraft.data.sound import SoundSource, resample
from edgegraft.testing import check_source
from edgegraft_edge.errors import DataError
from edgegraft_edge.signal import Channel, LabelSpan, Recording, WindowSpec
from edgegraft_edge.sound import Sound

soundfile = pytest.importorskip("soundfile")
SHARED = Path(__file__).parents[2].parent / "shared/data"
RATE = 8000
SOUND = (Channel("sound", "FS"),)


def tone(length_s=0.5, hertz=440.0, rate=RATE, level=0.5, seed=0):
    time = np.arange(round(length_s * rate)) / rate
    rng = np.random.default_rng([seed, round(hertz)])
    return level * np.sin(2 * np.pi * hertz * time) + 0.002 * rng.normal(size=len(time))


@pytest.fixture
def folder(tmp_path):
    def save(name, x=None, rate=RATE, **more):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(x, bytes):
            path.write_bytes(x)
        else:
            soundfile.write(path, tone(seed=len(name)) if x is None else x, rate, **more)
        return path

    save.root = tmp_path
    return save


def few(folder, n=3):
    for index in range(n):
        folder(f"on/{index}.wav", tone(0.5, 440, seed=index))
        folder(f"off/{index}.flac", tone(0.4, 880, seed=index))


def test_the_contract_of_a_source(folder):
    few(folder)
    check_source(SoundSource(), str(folder.root))


def test_folders_are_labels_and_widths_and_formats_do_not_matter(folder):
    for index, subtype in enumerate(("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")):
        folder(f"on/{index}.wav", tone(seed=index), subtype=subtype)
    folder("off/a.flac", tone(hertz=880))
    folder("off/b.ogg", tone(hertz=990))
    data = open_data(folder.root, window_s=0.5)
    assert data.classes == ("off", "on")
    assert data.channels == SOUND
    assert data.account.rows_in == data.account.accepted == 8
    windows = data.windows()
    assert windows.spec.kind == "audio"
    assert windows.x.shape == (8, 1, 4000)
    on = windows.x[windows.y == "on", 0]
    assert np.abs(on - on[1]).max() < 0.02


def test_the_rate_is_the_commonest_and_nothing_folds_over(folder):
    for index in range(3):
        folder(f"a/{index}.wav", tone(seed=index))
    folder("b/high.wav", tone(hertz=440, rate=44100) + tone(hertz=7000, rate=44100), rate=44100)
    data = open_data(folder.root)
    assert data.rate_hz == 8000
    high = next(each for each in data.recordings if each.name == "b/high.wav").values[0]
    assert len(high) == 4000
    power = np.abs(np.fft.rfft(high * np.hanning(len(high)))) ** 2
    assert power.argmax() * 2 == pytest.approx(440, abs=4)
    assert power[1900:2100].max() < 1e-5 * power.max()  # 7 kHz would fold over to 1 kHz
    assert power[450:550].max() < 1e-5 * power.max()
    assert "rate-differs" in audit(data).codes
    assert open_data(folder.root, rate_hz=16000).recordings[0].n_timepoints == 8000


def test_channels_become_their_mean(folder):
    left, right = tone(hertz=440), tone(hertz=660)
    folder("a/two.wav", np.stack([left, right], axis=1))
    found = open_data(folder.root / "a/two.wav").recordings[0].values
    assert np.allclose(found[0], (left + right) / 2, atol=1e-4)


def test_a_rate_too_far_away_is_refused():
    with pytest.raises(DataError) as caught:
        resample(Sound(np.zeros((1, 10), np.float32), 100.0), 8000.0)
    assert caught.value.code == "rate-far"


# -- names


def test_names_of_a_usual_form_tell_label_and_speaker(folder):
    for label in ("yes", "no"):
        for who in ("ann", "bob"):
            for take in range(2):
                folder(f"clips/{label}_{who}_{take}.wav")
    data = open_data(folder.root)
    assert (data.classes, data.groups) == (("no", "yes"), ("ann", "bob"))
    assert any(step.name == "label-from" for step in data.log)


def test_the_part_before_the_first_dot_is_a_label(folder):
    for name in ("on.a.wav", "on.b.wav", "off.c.wav"):
        folder(name)
    assert open_data(folder.root).classes == ("off", "on")


def test_names_that_only_count_are_no_labels(folder):
    for name in ("rec_01.wav", "rec_02.wav"):
        folder(name)
    assert open_data(folder.root).classes == ()


def test_a_pattern_picks_label_and_group(folder):
    for name in ("take7-kim-go.wav", "take8-lee-stop.wav", "take9-kim-stop.wav"):
        folder(name)
    data = open_data(folder.root, label=r"-(\w+)\.wav", group=r"-(\w+)-")
    assert (data.classes, data.groups) == (("go", "stop"), ("kim", "lee"))


def test_metadata_tells_label_and_speaker(folder):
    few(folder, 1)
    lines = [
        {"file_name": "on/0.wav", "label": "hello", "speaker": "s1"},
        {"file_name": "off/0.flac", "label": "bye", "speaker": "s2"},
    ]
    (folder.root / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    data = open_data(folder.root, group="speaker")
    assert (data.classes, data.groups) == (("bye", "hello"), ("s1", "s2"))


def test_spans_label_parts_of_a_recording(folder):
    path = folder("day.wav", tone(3.0))
    path.with_name("day.spans.csv").write_text("start_s,end_s,label\n1.0,1.5,word\n2,2.25,other\n")
    found = open_data(path).recordings[0].labels
    assert found == (LabelSpan(8000, 12000, "word"), LabelSpan(16000, 18000, "other"))
    path.with_name("day.spans.csv").write_text("start_s,end_s,label\n1.0,1.5,word\n1.2,2,other\n")
    assert outcome(path)[0] == {"spans-overlap"}


# -- windows


def test_a_short_clip_is_filled_up_and_a_long_one_is_cut_where_it_is_heard(folder):
    word = tone(0.3, 500)
    late = np.concatenate([np.zeros(4000), word, np.zeros(500)])
    folder("a/short.wav", word)
    folder("a/late.wav", late)
    data = open_data(folder.root, window_s=0.5)
    assert any(step.name == "pad" and step.values["clips"] == 1 for step in data.log)
    windows = data.windows()
    assert len(windows) == 2
    for window, name in zip(windows.x[:, 0], windows.names, strict=True):
        energy = float(window @ window)
        assert energy == pytest.approx(float(word @ word), rel=1e-3), name
    assert windows.start.tolist() == [2900, 0]


def test_windows_know_recording_and_group(folder):
    for who in ("ann", "bob"):
        folder(f"{who}/on/a.wav", tone(0.5))
        folder(f"{who}/off/a.wav", tone(4.0, 880))
    data = open_data(folder.root, group="folder", window_s=0.5, stride_s=0.5)
    windows = data.windows()
    assert set(windows.groups) == {"ann", "bob"}
    assert np.bincount(windows.recording).tolist() == [8, 1, 8, 1]
    assert set(windows.y[windows.groups == "ann"]) == {"on", "off"}


def test_pauses_of_a_long_recording_carry_no_label():
    values = np.concatenate([tone(2.0), np.zeros(16000), tone(2.0)])[None].astype(np.float32)
    recording = Recording(values, SOUND, 8000.0, (LabelSpan(0, values.shape[1], "hum"),))
    _, y, _ = sound_windows(recording, WindowSpec(1.0, 1.0, 8000.0, SOUND), 0.5)
    assert y.tolist() == ["hum", "hum", "", "", "hum", "hum"]


def test_data_is_opened_as_a_model_takes_it(folder):
    few(folder)
    spec = open_data(folder.root, window_s=0.7, stride_s=0.1).windows().spec
    for path in folder.root.glob("on/*"):
        path.unlink()
    folder("on/new.wav", tone(3.0, rate=16000), rate=16000)
    windows = open_like(folder.root, spec).windows()
    assert windows.spec == spec
    assert windows.x.shape[1:] == (1, 5600)


# -- what is damaged


def test_every_damaged_file_is_set_aside_with_its_reason(folder):
    few(folder)
    whole = folder("on/0.wav").read_bytes()
    folder("on/empty.wav", b"")
    folder("on/none.wav", np.zeros(0))
    folder("on/cut.wav", whole[: len(whole) // 2])
    folder("on/noise.wav", b"\x01" * 5000)
    folder("on/nan.wav", np.where(np.arange(4000) == 7, np.nan, tone()), subtype="FLOAT")
    folder("off/silent.wav", np.zeros(4000))
    data = open_data(folder.root)
    assert quarantine(data) == {
        "sound-empty": 2,
        "sound-truncated": 1,
        "sound-format": 1,
        "sound-not-finite": 1,
        "sound-silent": 1,
    }
    assert data.account.rows_in == 12
    assert len(data.windows()) == 6


def test_silence_may_be_a_label(folder):
    few(folder)
    for index in range(2):
        folder(f"silence/{index}.wav", np.zeros(4000))
    assert open_data(folder.root).account.accepted == 8


def test_nothing_usable_is_an_error_with_the_reason(folder):
    folder("on/a.wav", b"")
    assert outcome(folder.root)[0] == {"sound-empty"}


# -- doctor


def test_doctor_hears_what_is_wrong(folder):
    for index in range(8):
        level = 0.5 if index % 2 else 0.02
        who = "loud" if index % 2 else "soft"
        folder(f"{who}/on/{index}.wav", tone(0.5, 300 + 50 * index, level=level, seed=index))
        folder(f"{who}/off/{index}.wav", tone(0.5, 900 + 70 * index, level=level, seed=index))
    folder("soft/on/quiet.wav", tone(level=0.0) * 1e-4)
    folder("soft/on/clipped.wav", np.clip(4 * tone(level=0.9), -1, 1))
    folder("soft/on/offset.wav", 0.1 + tone(0.5, 620, level=0.02))
    again, _ = soundfile.read(folder.root / "loud/on/1.wav")
    folder("soft/on/again.wav", 0.1 * np.pad(again, (300, 100)) + 1e-4)
    codes = audit(folder.root, group="folder").codes
    assert {"sound-quiet", "sound-clipped", "sound-offset", "level-differs", "sound-alike"} <= {
        *codes
    }


def test_doctor_finds_a_test_clip_that_was_in_training(folder):
    few(folder)
    again, _ = soundfile.read(folder.root / "on/1.wav")
    elsewhere = folder.root / "elsewhere"
    (elsewhere / "on").mkdir(parents=True)
    (elsewhere / "off").mkdir()
    soundfile.write(elsewhere / "on/x.ogg", 0.7 * again, RATE)
    soundfile.write(elsewhere / "off/y.wav", tone(0.4, 1500, seed=9), RATE)
    train = folder.root / "train"
    train.mkdir()
    for name in ("on", "off"):
        (folder.root / name).rename(train / name)
    found = audit(train, elsewhere)
    assert "train-test-repeated" in found.codes


def test_doctor_is_calm_about_good_sound(folder):
    for index in range(6):
        folder(f"on/{index}.wav", tone(0.5, 300 + 90 * index, seed=index))
        folder(f"off/{index}.wav", tone(0.5, 1200 + 90 * index, seed=index))
    assert not audit(folder.root).trouble


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the development data is not beside the checkout")
def test_spoken_digits_open_by_their_names():
    data = open_data(SHARED / "fsdd")
    assert data.classes == tuple("0123456789")
    assert len(data.groups) == 6
    windows = data.windows()
    assert windows.spec.length_s == 1.0
    assert 1200 <= len(windows) < 1220
    found = audit(data)
    assert not found.trouble
    assert "sound-alike" not in found.codes
