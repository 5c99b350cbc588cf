"""LogME and the H-score against their definitions, and rankings of backbones by them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf

from edgegraft.adapt.select import OUTWEIGHS, rank_backbones
from edgegraft.adapt.transferability import Spectrum, h_score, log_evidence, standardised
from edgegraft.data.split import few_shot
from edgegraft.tasks.classification import Classification
from edgegraft.testing.samples import sample_windows
from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import OptionError


def made_up(n, width, seed=0, n_classes=3):
    """Embeddings whose features differ in scale, and codes that they tell of."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n)
    return rng.normal(size=(n, width)) * rng.uniform(0.1, 2, width) + 0.5 * codes[:, None], codes


def evidence_of(z, goal, alpha, beta):
    """The log evidence of a Bayesian linear model as it is defined (You and others, eq. 2)."""
    n, width = z.shape
    precision = alpha * np.eye(width) + beta * z.T @ z
    mean = beta * np.linalg.solve(precision, z.T @ goal)
    return (
        n / 2 * np.log(beta / (2 * np.pi))
        + width / 2 * np.log(alpha)
        - beta / 2 * np.square(z @ mean - goal).sum()
        - alpha / 2 * mean @ mean
        - np.linalg.slogdet(precision)[1] / 2
    )


@pytest.mark.parametrize(("n", "width"), [(40, 8), (30, 40)])
def test_logme_is_the_highest_evidence_there_is(n, width):
    z, codes = made_up(n, width)
    best = []
    for each in range(3):
        goal = (codes == each).astype(float)
        found = [
            minimize(lambda p, g=goal: -evidence_of(z, g, *np.exp(p)), start, method="Nelder-Mead",
                     options={"xatol": 1e-5, "fatol": 1e-8, "maxiter": 400}).fun
            for start in ([0, 0], [3, 3], [-2, 2])
        ]  # fmt: skip
        best.append(-min(found) / n)
    assert log_evidence(z, codes, 3) == pytest.approx(np.mean(best), abs=1e-4)


@pytest.mark.parametrize(("n", "width"), [(40, 8), (30, 100)])
def test_h_scores_are_the_traces_that_define_them(n, width):
    z, codes = made_up(n, width)
    centred = z - z.mean(axis=0)
    means = np.stack([centred[codes == code].mean(axis=0) for code in codes])
    between = means.T @ means / n
    plain = np.trace(np.linalg.pinv(centred.T @ centred / n) @ between)
    assert h_score(z, codes, 3, shrunk=False) == pytest.approx(plain, rel=1e-6)
    wolf = LedoitWolf().fit(centred)
    assert Spectrum.of(centred).shrinkage == pytest.approx(wolf.shrinkage_, rel=1e-6)
    shrunk = np.trace(np.linalg.inv(wolf.covariance_) @ ((1 - wolf.shrinkage_) * between))
    assert h_score(z, codes, 3) == pytest.approx(shrunk, rel=1e-6)


def test_both_rise_with_what_features_tell_and_stay_finite_on_constant_ones():
    rng = np.random.default_rng(1)
    codes = np.repeat([0, 1, 2], 20)
    noise = rng.normal(size=(60, 12))
    for measure in (log_evidence, h_score):
        scores = [measure(noise + much * codes[:, None], codes, 3) for much in (0.0, 0.5, 3.0)]
        assert scores == sorted(scores)
        assert np.isfinite(measure(np.ones((60, 4)), codes, 3))
    assert not standardised(np.ones((5, 3))).any()


def test_single_precision_of_many_features_gives_the_same():
    z, codes = made_up(50, 3000, seed=2)
    exact = Spectrum.of(standardised(z).astype(np.float64))
    quick = Spectrum.of(standardised(z))
    assert log_evidence(quick, codes, 3) == pytest.approx(log_evidence(exact, codes, 3), abs=1e-3)
    assert h_score(quick, codes, 3) == pytest.approx(h_score(exact, codes, 3), rel=1e-3)


# -- rankings


@dataclass(frozen=True)
class Told:
    """A backbone that embeds what it was given, window by window."""

    card: BackboneCard
    table: dict

    def fit(self, windows, *, seed):
        return self

    def embed(self, x):
        return np.stack([self.table[window.tobytes()] for window in np.asarray(x, np.float32)])


def told(name, windows, z, kind="fixed"):
    card = BackboneCard(name, "told", "made up for a test", kind, "Apache-2.0")
    rows = zip(windows.x, np.asarray(z, np.float32), strict=True)
    return Told(card, {window.tobytes(): row for window, row in rows})


@pytest.fixture(scope="module")
def windows():
    return sample_windows()


def ranked(backbones, windows, **more):
    return rank_backbones(backbones, windows, Classification(), seed=0, normalise="none", **more)


def test_the_reference_stays_first_until_it_is_outweighed(windows):
    rng = np.random.default_rng(0)
    goal = np.eye(len(windows.classes))[windows.codes(windows.classes)]
    noise, doubt = rng.normal(size=(len(windows), 6)), rng.normal(size=goal.shape)
    weak = told("minirocket", windows, np.hstack([noise, 0.8 * goal + doubt]))
    near = told("near", windows, np.hstack([noise, 0.9 * goal + doubt]))
    good = told("other", windows, np.hstack([0.1 * noise, 5 * goal]))
    rows = ranked([near, good, weak], windows)
    assert rows[0].backbone == "other"
    assert "outweighs" in rows[0].because
    few = windows.take(few_shot(windows, 2, seed=0))
    rows = ranked([near, good, weak], few)
    gain = len(few) * (max(r.log_loss for r in rows) - min(r.log_loss for r in rows))
    assert gain < OUTWEIGHS
    assert rows[0].backbone == "minirocket"
    assert "reference of its kind" in rows[0].because


def test_one_label_each_goes_by_agreement_in_the_pool_and_says_so(windows):
    rng = np.random.default_rng(0)
    goal = np.eye(len(windows.classes))[windows.codes(windows.classes)]
    good, fair = (
        told(name, windows, goal + spread * rng.normal(size=goal.shape))
        for name, spread in (("good", 0.05), ("fair", 0.2))
    )
    bad = told("bad", windows, rng.normal(size=(len(windows), 5)), kind="pretrained")
    index = few_shot(windows, 1, seed=0)
    few = windows.take(index)
    rows = ranked([bad, good, fair], few)
    assert [row.agreement for row in rows] == [None] * 3
    assert rows[0].backbone == "bad"  # nothing is known, so pretrained comes first
    y = np.full(len(windows), "", dtype=windows.y.dtype)
    y[index] = windows.y[index]
    rows = ranked([bad, good, fair], replace(windows, y=y))
    assert rows[-1].backbone == "bad"
    assert all("structure of the pool" in row.because for row in rows)
    assert rows[0].agreement > 0.9 > rows[-1].agreement


@pytest.mark.parametrize("by", ["logme", "hscore"])
def test_rankings_by_the_other_measures_keep_left_out_figures(windows, by):
    names = ("statistics", "spectrum", "minirocket")
    rows = rank_backbones([load_backbone(name) for name in names], windows, Classification(),
                          seed=0, by=by)  # fmt: skip
    values = [getattr(row, by) for row in rows]
    assert values == sorted(values, reverse=True)
    assert all(row.log_loss is not None and "comparison" in row.because for row in rows)


def test_a_measure_that_is_not_known_is_refused(windows):
    with pytest.raises(OptionError) as caught:
        ranked([load_backbone("statistics")], windows, by="leep")
    assert caught.value.code == "measure-unknown"
