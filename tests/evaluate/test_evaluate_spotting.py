"""Words in a stream: what counts as found, the curve, the threshold that is chosen."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import edgegraft as eg
from edgegraft.cli.app import cli
from edgegraft.data.clips import sound_windows
from edgegraft.evaluate.spotting import (
    Curve,
    Point,
    Spotting,
    choose_threshold,
    det_plot,
    matched,
    spot,
)
from edgegraft_edge import bundle as bundles
from edgegraft_edge.decision import Event, Predictions
from edgegraft_edge.errors import EdgegraftError
from edgegraft_edge.runner import Runner
from edgegraft_edge.signal import Channel, LabelSpan, Recording, Windows, WindowSpec

soundfile = pytest.importorskip("soundfile")
RATE = 8000
SOUND = (Channel("sound", "FS"),)
SPEC = WindowSpec(0.5, 0.1, float(RATE), SOUND)


def event(at_s, label="yes", kind="change"):
    return Event(at_s, label, 0.9, kind)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([event(2.0)], (1, 0)),
        ([event(2.0), event(2.3)], (1, 0)),  # the same word again
        ([event(0.9)], (1, 0)),  # within the tolerance before it
        ([event(0.7)], (0, 1)),
        ([event(2.7)], (1, 0)),  # its window still holds the end of the word
        ([event(3.0)], (0, 1)),
        ([event(2.0, "no")], (0, 1)),  # another word
        ([event(2.0, "unsure"), event(2.0, "noise")], (0, 0)),
        ([event(2.0, kind="window")], (0, 0)),
        ([], (0, 0)),
    ],
)
def test_what_counts_as_found(events, expected):
    spans = [(1.0, 1.5, "yes"), (7.0, 7.5, "noise")]
    assert matched(events, spans, ["yes", "no"], 1.0, 0.25) == expected


def test_each_span_is_found_by_an_event_of_its_own():
    spans = [(1.0, 1.4, "yes"), (1.6, 2.0, "yes")]
    assert matched([event(1.7)], spans, ["yes"], 1.0, 0.25) == (1, 0)
    assert matched([event(1.7), event(2.2)], spans, ["yes"], 1.0, 0.25) == (2, 0)


class Told:
    """A model whose probabilities are written down."""

    classes = ("noise", "yes")
    spec = WindowSpec(1.0, 1.0, 10.0, SOUND)

    def __init__(self, yes):
        self.yes = np.asarray(yes, dtype=np.float32)

    def predict(self, windows):
        return Predictions(self.classes, np.stack([1 - self.yes, self.yes], axis=1))


def quiet(seconds, *spans):
    labels = tuple(LabelSpan(round(a * 10), round(b * 10), label) for a, b, label in spans)
    return Recording(np.zeros((1, seconds * 10), np.float32), SOUND, 10.0, labels)


def test_the_curve_is_what_the_device_would_do():
    yes = [0.0, 0.9, 0.0, 0.0, 0.7, 0.0, 0.6, 0.0, 0.0, 0.0]
    stream = quiet(10, (1, 2, "yes"), (6, 7, "yes"))
    curve = spot(Told(yes), [stream], thresholds=(0.5, 0.65, 0.8, 0.95))
    assert curve.hours == pytest.approx(10 / 3600)
    assert curve.keywords == ("yes",)
    found = [(p.false_accepts, p.missed, p.false_reject_rate) for p in curve.points]
    assert found == [(1, 0, 0.0), (1, 1, 0.5), (0, 1, 0.5), (0, 2, 1.0)]
    assert curve.points[0].false_accepts_per_hour == pytest.approx(360)
    assert curve.points[2].at_most == pytest.approx(2.9957 * 360, rel=1e-3)  # the rule of three
    json.dumps(curve.as_dict())


def test_hold_off_and_smoothing_are_those_of_the_device():
    yes = [0.9, 0.0, 0.9, 0.0, 0.0, 0.0]
    stream = quiet(6, (0, 0.9, "yes"))
    fast = spot(Told(yes), [stream], Spotting(tolerance_s=0.0), (0.5,)).points[0]
    slow = spot(Told(yes), [stream], Spotting(tolerance_s=0.0, hold_off_s=2.5), (0.5,)).points[0]
    later = quiet(6, (1, 2, "yes"))
    dull = spot(Told([0.0, *yes[:5]]), [later], Spotting(smooth=3), (0.7,)).points[0]
    assert (fast.false_accepts, slow.false_accepts, dull.missed) == (1, 0, 1)


def points(*rows, hours=10.0):
    made = [Point(t, n, n / hours, n / hours, 0, missed) for t, n, missed in rows]
    return Curve(tuple(made), ("yes",), hours, 100, Spotting())


def test_the_threshold_that_is_chosen():
    curve = points((0.2, 50, 0.0), (0.5, 10, 0.1), (0.6, 8, 0.1), (0.9, 0, 0.4))
    assert choose_threshold(curve, per_hour=1).threshold == 0.6
    assert choose_threshold(curve, per_hour=5).threshold == 0.2
    assert choose_threshold(curve, per_hour=0.1).threshold == 0.9


def test_no_threshold_is_chosen_where_none_can_be():
    with pytest.raises(EdgegraftError) as caught:
        choose_threshold(points((0.2, 50, 0.0), (0.9, 20, 0.4)), per_hour=1)
    assert caught.value.code == "threshold-none"
    with pytest.raises(EdgegraftError) as caught:
        choose_threshold(points((0.2, 5, 0.0), (0.9, 0, 0.4), hours=0.1), per_hour=1)
    assert caught.value.code == "stream-short"


def test_the_plot_falls_and_shows_thresholds_without_false_accepts():
    picture = det_plot(points((0.2, 50, 0.0), (0.5, 10, 0.1), (0.9, 0, 0.4)))
    root = ET.fromstring(str(picture))
    path = next(item.get("d") for item in root.iter("path") if item.get("class", "") == "line c0")
    heights = [float(part.split()[1]) for part in path[1:].split("L")]
    assert len(heights) == 3
    assert heights == sorted(heights)


def test_what_cannot_be_found_has_a_code():
    told = Told(np.zeros(10))
    for stream, spotting, code in (
        (quiet(10, (1, 2, "else")), Spotting(), "spans-none"),
        (quiet(10, (1, 2, "yes")), Spotting(("yess",)), "keyword-unknown"),
        (quiet(0), Spotting(), "recordings-short"),
    ):
        with pytest.raises(EdgegraftError) as caught:
            spot(told, [stream], spotting)
        assert caught.value.code == code


# -- with sound


def word(label, rng):
    """A low or a high hum of a third of a second."""
    time = np.arange(2600) / RATE
    hertz = (300 if label == "low" else 1200) * rng.uniform(0.9, 1.1)
    envelope = np.hanning(len(time)) * rng.uniform(0.1, 0.3)
    return envelope * sum(np.sin(2 * np.pi * k * hertz * time) / k for k in (1, 2, 3))


def day(seconds, rng):
    """Noise with a word every three seconds, as a recording with labelled spans."""
    values = 0.01 * rng.normal(size=seconds * RATE)
    spans = []
    for start_s in range(2, seconds - 2, 3):
        label = str(rng.choice(["low", "high"]))
        start, sound = start_s * RATE, word(label, rng)
        values[start : start + len(sound)] += sound
        spans.append(LabelSpan(start, start + len(sound), label))
    return Recording(values[None].astype(np.float32), SOUND, float(RATE), tuple(spans), name="day")


@pytest.fixture(scope="module")
def model():
    """Trained on clips of words at any place in their windows, and on windows of noise."""
    rng = np.random.default_rng(0)
    x, y = [], []
    for label in ("low", "high", "noise"):
        for _ in range(16):
            values = 0.01 * rng.normal(size=SPEC.n_timepoints)
            if label != "noise":
                sound = word(label, rng)
                start = int(rng.integers(0, len(values) - len(sound)))
                values[start : start + len(sound)] += sound
            recording = Recording(values[None].astype(np.float32), SOUND, float(RATE))
            x.append(sound_windows(recording, SPEC, 0.5)[0][0])
            y.append(label)
    windows = Windows(np.stack(x), np.array(y), np.full(len(y), ""), SPEC)
    run = eg.adapt(windows, backbone="mel-statistics", strategy="probe", folds=2, curve=False)
    return run.bundle


def test_words_are_found_in_a_noisy_day(model):
    stream = day(45, np.random.default_rng(5))
    curve = spot(model, [stream], Spotting(hold_off_s=0.3))
    assert curve.n_spans == 14
    best = min(curve.points, key=lambda p: (p.false_accepts, p.missed))
    assert best.false_accepts == 0
    assert best.false_reject_rate < 0.15
    chosen = choose_threshold(curve, per_hour=100)
    assert chosen.false_reject_rate <= best.false_reject_rate
    # and the device, fed in pieces, says the same
    decision = replace(model.decision, threshold=chosen.threshold, hold_off_s=0.3)
    runner = Runner(model, decision=decision)
    events = [e for part in np.array_split(stream.values, 37, axis=1) for e in runner.push(part)]
    spans = [(s.start / RATE, s.stop / RATE, s.label) for s in stream.labels]
    found, false = matched(events, spans, ["low", "high"], SPEC.length_s, 0.25)
    assert (len(spans) - found, false) == (chosen.missed, chosen.false_accepts)


def test_the_command_tells_and_draws(model, tmp_path):
    stream = day(30, np.random.default_rng(6))
    soundfile.write(tmp_path / "day.wav", stream.values[0], RATE)
    lines = [f"{s.start / RATE},{s.stop / RATE},{s.label}" for s in stream.labels]
    (tmp_path / "day.spans.csv").write_text("start_s,end_s,label\n" + "\n".join(lines) + "\n")
    bundles.write(tmp_path / "m.egb", model)
    arguments = ["spot", str(tmp_path / "m.egb"), str(tmp_path / "day.wav"), "--per-hour", "120"]
    done = CliRunner().invoke(cli, [*arguments, "--json", "--plot", str(tmp_path / "det.svg")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["n_spans"] == len(stream.labels)
    assert found["chosen"]["false_accepts_per_hour"] <= 120
    assert (tmp_path / "det.svg").read_text().startswith("<svg")
    assert "--threshold" in CliRunner().invoke(cli, arguments).stdout
