"""Metrics of detection, beside slow definitions and beside published scores."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from edgegraft.tasks.detection import (
    PROFILES,
    Range,
    Scored,
    auc_pr,
    detection_delay,
    false_alarms_per_day,
    flags,
    nab_score,
    nab_scores,
    range_f1,
    range_score,
    ranges,
    spans,
    volumes,
    vus_pr,
    window_of,
)
from edgegraft.tasks.nab_score import position_weight
from edgegraft_edge.errors import DataError, OptionError

ROOT = Path(__file__).parents[2]
NAB = ROOT.parent / "shared/data/nab"
bits = st.lists(st.booleans(), min_size=1, max_size=60).map(np.array)


def series(seed: int, n: int = 200, n_anomalies: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random, truth = np.random.default_rng(seed), np.zeros(n, dtype=bool)
    for first in random.integers(0, n - 5, n_anomalies):
        truth[first : first + random.integers(1, 12)] = True
    return np.round(random.random(n) + 0.3 * truth, 2), truth


def slow_volumes(scores: np.ndarray, truth: np.ndarray, window: int) -> tuple[float, float]:
    """The definition of Paparrizos and others, sample by sample and threshold by threshold."""
    n, spans_, falling = len(scores), ranges(truth), -np.sort(-scores)
    pr, roc = [], []
    for width in range(window + 1):
        half, soft = width // 2, truth.astype(float)
        for first, last in spans_:
            for away in range(1, half + 1):
                for at in (first - away, last + away):
                    if 0 <= at < n:
                        soft[at] += np.sqrt(1 - away / width)
        soft = np.minimum(soft, 1)
        wide = [[max(a - half, 0), min(b + half, n - 1)] for a, b in spans_]
        merged = wide[:1]
        for (_, before), (first, _), (a, b) in zip(spans_, spans_[1:], wide[1:], strict=False):
            if before + half < first - half:
                merged.append([a, b])
            else:
                merged[-1][1] = b
        points, heights = [(0.0, 0.0)], []
        for place in np.linspace(0, n - 1, 250).astype(int):
            found = scores >= falling[place]
            hits = float((soft * found).sum())
            positives = (truth.sum() + (soft * (found | truth)).sum()) / 2
            met = np.mean([found[a : b + 1].any() for a, b in merged])
            points.append((min(hits / positives, 1) * met, (found.sum() - hits) / (n - positives)))
            heights.append(hits / found.sum())
        recall, fall_out = np.array([*points, (1.0, 1.0)]).T
        pr.append(np.dot(np.diff(recall[:-1]), heights))
        roc.append(np.dot(np.diff(fall_out), (recall[1:] + recall[:-1]) / 2))
    return float(np.mean(pr)), float(np.mean(roc))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("window", [0, 1, 24])
def test_volumes_are_those_of_the_definition(seed, window):
    scores, truth = series(seed)
    assert volumes(scores, truth, window=window) == pytest.approx(
        slow_volumes(scores, truth, window)
    )


def test_a_lag_costs_less_under_the_surface_than_under_the_curve():
    truth = np.zeros(1000, dtype=bool)
    truth[400:440] = True
    late = np.roll(truth, 12) + 0.01 * np.random.default_rng(0).random(1000)
    assert vus_pr(late, truth, window=80) > auc_pr(late, truth) + 0.1
    assert vus_pr(np.random.default_rng(1).random(1000), truth, window=80) < 0.25


@given(st.integers(0, 10_000))
def test_area_is_average_precision(seed):
    scores, truth = series(seed, n=60, n_anomalies=2)
    assert auc_pr(scores, truth) == pytest.approx(average_precision_score(truth, scores))


def test_without_an_anomaly_nothing_is_defined():
    scores, nothing = np.arange(5.0), np.zeros(5, dtype=bool)
    assert np.isnan([auc_pr(scores, nothing), vus_pr(scores, nothing)]).all()
    assert np.isnan(range_score(nothing, nothing)).all()


@pytest.mark.parametrize("scores", [np.array([0.0, np.nan]), np.zeros(3), np.zeros((2, 2))])
def test_scores_that_fit_no_labels_are_refused(scores):
    with pytest.raises(DataError, match="scores-shape"):
        vus_pr(scores, np.array([True, False]))


def test_a_period_is_the_width_and_noise_has_the_usual_one():
    at = np.arange(5000)
    assert window_of(np.sin(at * np.pi / 48) + 0.3 * np.sin(at * np.pi / 16)) == 96
    assert window_of(np.zeros(100)) == window_of(np.arange(3.0)) == 125


@given(bits)
def test_ranges_and_flags_are_inverse(found):
    assert flags(ranges(found), len(found)).tolist() == found.tolist()


@settings(deadline=None)
@given(bits, st.data())
def test_range_scores_are_shares_and_perfect_only_where_equal(truth, data):
    found = data.draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))
    for bias in ("flat", "front", "middle", "back"):
        score = range_score(np.array(found), truth, existence=0.0, bias=bias)
        if not truth.any():
            assert np.isnan(score.f1)
            continue
        assert all(0 <= part <= 1 + 1e-12 for part in score)
        same = np.array_equal(found, truth)
        assert (score.f1 == pytest.approx(1.0)) == same


def test_range_recall_by_hand():
    truth = np.array([0, 1, 1, 1, 1, 0, 0, 1, 1, 0])
    found = np.array([0, 0, 0, 1, 1, 0, 1, 0, 0, 0])
    assert range_score(found, truth, existence=0.0).recall == 0.25
    assert range_score(found, truth, existence=1.0).recall == 0.5
    assert range_score(found, truth, existence=0.0, bias="back").recall == pytest.approx(0.35)
    assert range_score(found, truth, existence=0.0, bias="front").recall == pytest.approx(0.15)
    assert range_score(found, truth).precision == 0.5
    pieces = np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    assert range_score(pieces, truth, existence=0.0).recall == 0.125
    assert range_score(pieces, truth, existence=0.0, cardinality=False).recall == 0.25
    assert range_f1(truth, truth) == 1.0
    assert range_score(np.zeros(10, bool), truth) == (0.0, 0.0, 0.0)


def test_flags_that_are_none_are_refused():
    with pytest.raises(DataError, match="flags-shape"):
        ranges(np.array([0.0, 0.5]))
    with pytest.raises(DataError, match="flags-shape"):
        range_f1(np.array([0, 1]), np.array([0, 1, 1]))
    with pytest.raises(OptionError, match="range-option"):
        range_score(np.array([0, 1]), np.array([0, 1]), bias="left")


def test_delay_counts_from_the_beginning_and_false_alarms_by_day():
    truth = flags([(10, 19), (50, 59), (80, 89)], 100)
    found = flags([(5, 7), (13, 30), (57, 57), (95, 96)], 100)
    delays = detection_delay(found, truth, rate_hz=0.5)
    assert (delays.found, delays.total, delays.mean_s) == (2, 3, 10.0)
    assert delays.each_s[:2] == (6.0, 14.0)
    assert np.isnan(delays.each_s[2])
    assert false_alarms_per_day(found, truth, rate_hz=70 / 86400) == 2.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 5))
def test_spans_hold_every_alarm_and_lie_apart(scores, gap):
    scores = np.array(scores)
    found = spans(scores, 0.5, gap=gap)
    inside = flags([(one.first, one.last) for one in found], len(scores))
    assert (inside >= (scores >= 0.5)).all()
    assert all(b.first - a.last - 1 > gap for a, b in pairwise(found))
    assert all(one.severity == scores[one.first : one.last + 1].max() for one in found)


def test_nab_points_by_hand():
    scores = np.zeros(200)
    scores[[10, 99, 105, 120, 150]] = 1.0  # in probation, early, hit, hit again, after it
    corpus = [Scored(scores, (Range(100, 119),)), Scored(np.zeros(50), (Range(20, 29),))]
    found = nab_score(corpus, threshold=1.0)
    hit = position_weight(np.array([-15 / 20]))[0] / position_weight(np.array([-1.0]))[0]
    after = position_weight(np.array([1 / 19, 31 / 19]))
    assert found.each[0] == pytest.approx(hit + 0.11 * (after.sum() - 1))
    assert found.each[1] == -1.0
    assert nab_score(corpus, "reward_low_FN", threshold=1.0).each[1] == -2.0
    assert found.score == pytest.approx(100 * (found.raw + 2) / 4)


def test_the_best_threshold_is_the_best_of_all():
    random = np.random.default_rng(0)
    corpus = [
        Scored(np.round(random.random(300), 2), (Range(100, 130), Range(200, 230)))
        for _ in range(3)
    ]
    for profile in PROFILES:
        best = nab_score(corpus, profile)
        each = [nab_score(corpus, profile, threshold=t).raw for t in np.arange(0, 1.2, 0.01)]
        assert best.raw == pytest.approx(max(each))


def test_a_corpus_that_cannot_be_scored_is_refused():
    with pytest.raises(DataError, match="nab-empty"):
        nab_score([Scored(np.zeros(5))])
    for windows in ([(3, 9)], [(4, 2)], [(2, 3), (1, 4)]):
        with pytest.raises(DataError, match="nab-series"):
            Scored(np.zeros(6), tuple(Range(*window) for window in windows))
    with pytest.raises(DataError, match="nab-series"):
        Scored(np.array([0.0, np.nan]))


@pytest.fixture(scope="module")
def peers():
    path = ROOT / "bench/nab_peers.py"
    spec = importlib.util.spec_from_file_location("nab_peers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["nab_peers"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not NAB.is_dir(), reason="the benchmark is not beside the checkout")
@pytest.mark.parametrize("name", ["null", "relativeEntropy", "windowedGaussian"])
def test_published_nab_scores_come_out(peers, name):
    published = json.loads((NAB / "results/final_results.json").read_text())[name]
    corpus = peers.corpus(NAB)
    assert (len(corpus), sum(len(one.windows) for one in corpus)) == (58, 116)
    found = nab_scores([one.scored(peers.PEERS[name](one.values)) for one in corpus])
    for profile, score in found.items():
        key = profile if profile in published else f"{profile}_rate"
        assert score.score == pytest.approx(published[key], abs=0.001)


@pytest.mark.shared
@pytest.mark.skipif(not NAB.is_dir(), reason="the benchmark is not beside the checkout")
def test_points_of_single_files_are_those_published(peers):
    # From the score files of KNN-CAD in the benchmark's repository.
    points = {
        "realKnownCause/rogue_agent_key_hold.csv": 0.3005000233548112,
        "realTraffic/speed_7578.csv": 1.2511338982128657,
        "realAdExchange/exchange-3_cpc_results.csv": 2.3635940842128584,
        "realAWSCloudwatch/iio_us-east-1_i-a2eb1cd9_NetworkIn.csv": -2.55,
    }
    for one in peers.corpus(NAB):
        if one.name in points:
            scored = one.scored(peers.knn_cad(one.values))
            found = nab_score([scored], threshold=1.0).raw
            assert found == pytest.approx(points[one.name], abs=1e-9), one.name
