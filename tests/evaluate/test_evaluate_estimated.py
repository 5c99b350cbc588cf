"""Scores of estimates: errors, intervals, coverage, and what is resampled together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from estimate_toys import LIFE, LOAD, Toy, guesses, series_windows, unit_windows
from scipy.signal import lfilter

from edgegraft.evaluate.bootstrap import intervals
from edgegraft.evaluate.estimated import EstimateEvaluation, evaluate_estimates
from edgegraft.evaluate.evaluation import evaluate, evaluate_probabilities
from edgegraft.evaluate.units import blocks_of, units_of
from edgegraft_edge.decision import Predictions
from edgegraft_edge.errors import DataError, ModelError
from edgegraft_edge.estimate import Outputs


def test_errors_are_those_written_down_by_hand():
    windows, outputs = series_windows(), LOAD
    table = guesses(outputs, windows, noise=0.5)
    scored = evaluate_estimates(table, windows, Toy(outputs))
    error = table[:, 2::5] - windows.y  # the middle of five levels
    assert scored.n == 200
    assert scored.metrics["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    per_step = [entry["mse"] for entry in scored.per_step]
    columns = error.reshape(200, 2, 4)
    assert per_step == pytest.approx((columns**2).mean(axis=(0, 1)).tolist(), rel=1e-5)
    assert [entry["step"] for entry in scored.per_step] == [1, 2, 3, 4]
    assert scored.per_target["heat"]["unit"] == "degC"
    assert scored.per_target["heat"]["mae"] == pytest.approx(np.abs(columns[:, 1]).mean(), rel=1e-5)
    low, high = scored.intervals["mse"]
    assert low < scored.metrics["mse"] < high
    json.dumps(scored.as_dict(), allow_nan=False)


def test_intervals_that_fit_hold_what_they_say_and_narrow_ones_are_told():
    windows = series_windows(n_windows=1500)
    fitting = evaluate_estimates(guesses(LOAD, windows), windows, Toy(LOAD))
    assert [each.nominal for each in fitting.covered] == [0.9, 0.5]
    for each in fitting.covered:
        assert each.low <= each.share <= each.high
        assert each.share == pytest.approx(each.nominal, abs=0.02)
    assert fitting.reliability[0.25] == pytest.approx(0.25, abs=0.02)
    assert not fitting.warnings
    narrow = evaluate_estimates(guesses(LOAD, windows, spread=0.3), windows, Toy(LOAD))
    assert narrow.covered[0].share < 0.5
    assert "too narrow" in narrow.warnings[0]
    assert narrow.covered[0].width < fitting.covered[0].width


def test_unknown_targets_count_nowhere():
    windows = series_windows()
    y = windows.y.copy()
    y[:50] = np.nan
    y[50:100, 3] = np.nan
    holed = replace(windows, y=y)
    table = guesses(LOAD, windows, noise=0.5)
    scored = evaluate_estimates(table, holed, Toy(LOAD))
    assert scored.n == 150
    assert scored.per_step[3]["n"] == 150  # heat is known there
    alone = evaluate_estimates(table[50:], windows.take(np.arange(50, 200)), Toy(LOAD))
    assert scored.per_step[0]["mae"] == pytest.approx(alone.per_step[0]["mae"])
    assert scored.metrics["mae"] != pytest.approx(alone.metrics["mae"], rel=1e-4)
    y[:, 4:] = np.nan
    blind = evaluate_estimates(table, replace(windows, y=y), Toy(LOAD))
    assert any("heat" in warning for warning in blind.warnings)
    assert np.isnan(blind.per_target["heat"]["mae"])


def test_units_are_whole_machines_for_lives_and_blocks_of_time_for_forecasts():
    lives = unit_windows()
    scored = evaluate_estimates(guesses(LIFE, lives, noise=5.0), lives, Toy(LIFE))
    assert (scored.unit, scored.n_units) == ("group", 8)
    assert set(scored.per_group) == {f"unit {at}" for at in range(8)}
    assert scored.worst[0]["mae"] == max(entry["mae"] for entry in scored.per_group.values())
    bare = replace(lives, groups=np.full(len(lives), ""))
    assert units_of(bare, LIFE)[0] == "recording"
    series = series_windows()
    unit, blocks = units_of(series, LOAD)
    assert unit == "block"
    assert (np.diff(blocks) >= 0).all()
    assert len(np.unique(blocks)) == 20
    assert len(np.unique(blocks_of(series, 40))) == 200 // 80
    named = evaluate_estimates(guesses(LOAD, series), series, Toy(LOAD))
    assert named.worst[0]["unit"].startswith("windows from sample")


def test_series_recorded_side_by_side_share_their_blocks_and_others_do_not():
    one = series_windows(n_windows=100)
    pair = replace(
        one,
        x=np.concatenate([one.x] * 2), y=np.concatenate([one.y] * 2),
        groups=np.repeat(["a", "b"], 100), recording=np.repeat([0, 1], 100),
        start=np.concatenate([one.start] * 2), names=("a", "b"),
        domains=np.full(200, ""),
    )  # fmt: skip
    blocks = blocks_of(pair, 4)
    assert (blocks[:100] == blocks[100:]).all()
    later = replace(pair, start=np.concatenate([one.start, one.start + 500]))
    apart = blocks_of(later, 4)
    assert not set(apart[:100]) & set(apart[100:])
    assert units_of(pair, LOAD)[0] == "block"  # forecasts go by time, though groups are known
    assert units_of(pair, LIFE)[0] == "group"


def test_blocks_make_wider_intervals_than_windows_that_follow_each_other_would():
    windows = series_windows(n_windows=600)
    drift = np.repeat(np.random.default_rng(0).normal(size=24), 25)[:, None]
    table = np.repeat(windows.y + drift, 5, axis=1)
    scored = evaluate_estimates(table, windows, Toy(LOAD))
    low, high = scored.intervals["mae"]
    plain = 2 * 1.96 * np.abs(drift).std() / np.sqrt(600)
    assert high - low > 2 * plain


@pytest.mark.slow
def test_intervals_from_blocks_hold_the_true_error_and_those_from_windows_do_not():
    outputs = Outputs(("load",), ("kW",), steps=tuple(range(1, 13)))
    windows = series_windows(1200, 48, outputs)
    metrics = {"mae": Toy(outputs).metrics["mae"]}
    held = {"block": 0, "window": 0}
    units = {"block": units_of(windows, outputs)[1], "window": np.arange(1200)}
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=1412) * np.sqrt(1 - 0.9**2)
        error = lfilter([1.0], [1.0, -0.9], noise)[200:]
        off = np.stack([error[at : at + 12] for at in range(1200)])
        table = np.repeat(windows.y + off, 3, axis=1)
        for unit, each in units.items():
            low, high = intervals(metrics, table, windows.y, each, n_resamples=300)["mae"]
            held[unit] += low <= np.sqrt(2 / np.pi) <= high
    assert held["block"] >= 34
    assert held["window"] <= 22


def test_a_point_alone_has_no_coverage():
    outputs = Outputs(("life",), levels=(0.5,))
    lives = unit_windows()
    scored = evaluate_estimates(lives.y + 1, lives, Toy(outputs))
    assert scored.covered == ()
    assert "coverage" not in scored.metrics
    assert scored.per_target["life"]["bias"] == pytest.approx(1.0)


def test_a_target_that_never_varies_is_scored_without_a_warning_of_numpy():
    windows = series_windows()
    still = replace(windows, y=np.zeros_like(windows.y))
    scored = evaluate_estimates(np.zeros((200, LOAD.n_columns)), still, Toy(LOAD))
    assert scored.metrics["mae"] == 0.0
    assert np.isnan(scored.metrics["r2"])
    assert np.isnan(scored.intervals["r2"]).all()


class Seeing:
    """Says the truth, off by one."""

    def predict(self, windows):
        return Predictions(LIFE.columns, np.repeat(windows.y + 1, 3, axis=1), LIFE)


def test_one_function_scores_classes_and_estimates():
    lives = unit_windows()
    scored = evaluate(Seeing(), lives, Toy(LIFE))
    assert isinstance(scored, EstimateEvaluation)
    assert scored.seconds >= 0
    assert scored.metrics["mae"] == pytest.approx(1.0)
    table = Seeing().predict(lives).probabilities
    assert evaluate_probabilities(table, lives, LIFE.columns, Toy(LIFE)).metrics == scored.metrics


def test_what_cannot_be_scored_is_refused():
    lives = unit_windows()
    table = guesses(LIFE, lives)
    with pytest.raises(ModelError, match="estimates-shape"):
        evaluate_estimates(table[:, :2], lives, Toy(LIFE))
    broken = table.copy()
    broken[3] = np.nan
    with pytest.raises(ModelError, match="estimates-nan"):
        evaluate_estimates(broken, lives, Toy(LIFE))
    blind = replace(lives, y=np.full_like(lives.y, np.nan))
    with pytest.raises(DataError, match="labels-missing"):
        evaluate_estimates(table, blind, Toy(LIFE))


def test_one_unit_is_scored_without_intervals_and_says_so():
    lives = unit_windows(n_units=2)
    own = lives.take(lives.groups == "unit 0")
    own = replace(own, groups=np.full(len(own), ""), recording=np.zeros(len(own), dtype=int))
    scored = evaluate_estimates(guesses(LIFE, own), own, Toy(LIFE))
    assert scored.unit == "block"
    assert any("blocks of time" in warning for warning in scored.warnings)
    single = evaluate_estimates(guesses(LIFE, own)[:1], own.take([0]), Toy(LIFE))
    assert single.intervals == {}
