"""An expert: a bound backbone, a head, and what the pair says of windows it did not see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgegraft.adapt.augment import n_copies, vary
from edgegraft.adapt.calibration import log_loss
from edgegraft.adapt.leave_out import bundle_blocks, left_out_blocks, with_copies
from edgegraft.adapt.ridge import RidgeFit, fit_ridge
from edgegraft.catalog import find
from edgegraft.data.domains import labelled_target
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft.zoo.cache import embed_cached
from edgegraft_edge.errors import DataError
from edgegraft_edge.heads import Head, LinearHead, TreesHead
from edgegraft_edge.program import IDENTITY, Program
from edgegraft_edge.signal import Array, Windows

N_TREES = 200


@dataclass(frozen=True)
class Material:
    """Labelled training windows after the steps, ready for heads.

    Attributes:
        windows: labelled windows, `x` already run through `steps`.
        steps: the program that did it; its statistics come from these windows only.
        classes: names of the classes.
        codes: int (n_windows,), position of each label in `classes`.
    """

    windows: Windows
    steps: Program
    classes: tuple[str, ...]
    codes: Array

    @property
    def groups(self) -> Array | None:
        return self.windows.groups if self.windows.has_groups else None

    @property
    def weights(self) -> Array:
        """Sample weights that give every class the same total, mean 1."""
        counts = np.bincount(self.codes, minlength=len(self.classes))
        weights: Array = len(self.codes) / (counts[self.codes] * (counts > 0).sum())
        return weights


@dataclass(frozen=True)
class Expert:
    """A bound backbone with a fitted head; `left_out` probabilities (n_windows, n_classes)."""

    backbone: Backbone
    head: Head
    left_out: Array | None


def prepare(train: Windows, task: Task, normalise: str) -> Material:
    """Keep the labelled windows of the target, fit the normalisation on them, and apply it."""
    labelled = labelled_target(train)
    classes = task.classes(labelled)
    steps, windows = normalised(labelled, normalise)
    return Material(windows, steps, classes, labelled.codes(classes))


def suited(normalise: str, backbone: Backbone) -> str:
    """The step for a backbone: "auto" is "none" where it needs windows as they were measured."""
    return "none" if normalise == "auto" and getattr(backbone, "as_measured", False) else normalise


def normalised(windows: Windows, normalise: str) -> tuple[Program, Windows]:
    """The step of that name, fitted on the windows, and the windows after it.

    "auto" is "standard" for series and "none" for all else, which networks know as it comes.

    Errors: `DataError` "kind-differs" for a step that such windows cannot go through.
    """
    kind = windows.spec.kind
    if normalise == "auto":
        normalise = "standard" if kind == "series" else "none"
    if normalise == "none":  # pixels and bytes stay what they are, not four times as large
        return IDENTITY, windows
    if kind not in ("series", "audio"):
        raise DataError.of(
            "kind-differs",
            f"the step {normalise!r} on windows of kind {kind}",
            "it works along time",
            "normalise=none",
        )
    steps: Program = find("steps", normalise)(windows.x)
    return steps, replace(windows, x=steps.run(windows.x))


def fit_ridge_expert(
    backbone: Backbone,
    material: Material,
    *,
    seed: int,
    balanced: bool = False,
    copies: int = 0,
    emphasis: float = 0.0,
) -> Expert:
    """A ridge head on the backbone with its left-out probabilities; see `fit_ridge`.

    With `copies`, a head that also saw varied copies is kept if it does better on single windows
    left out, or if nothing can be left out.
    """
    bound = backbone.fit(material.windows, seed=seed)

    def fit(count: int) -> RidgeFit:
        z = _embed_with_copies(bound, material, count, seed)
        times = count + 1
        return fit_ridge(
            z,
            np.tile(material.codes, times),
            len(material.classes),
            groups=None if material.groups is None else np.tile(material.groups, times),
            weights=np.tile(material.weights, times) if balanced else None,
            n_originals=len(material.codes),
            emphasis=emphasis,
            one_scale=getattr(bound, "one_scale", False),
        )

    best = fit(0)
    count = n_copies(material.windows, copies)
    if count:
        varied = fit(count)
        without, with_them = best.choice_loss, varied.choice_loss
        if without is None or with_them is None or with_them < without:
            best = varied
    return Expert(bound, best.head, best.left_out)


def fit_trees_expert(
    backbone: Backbone, material: Material, *, seed: int, n_trees: int = N_TREES, copies: int = 0
) -> Expert:
    """Extremely randomised trees on the backbone (Geurts, Ernst, Wehenkel, Machine Learning 2006).

    Left-out probabilities come from refits that leave out whole groups; copies as for ridge.
    """
    bound = backbone.fit(material.windows, seed=seed)
    n_classes, n_windows = len(material.classes), len(material.codes)

    def rows(count: int) -> tuple[Array, Array]:
        z = _embed_with_copies(bound, material, count, seed)
        return z, np.tile(material.codes, count + 1)

    def left_out(blocks: list[Array], count: int) -> Array:
        z, codes = rows(count)
        table = np.zeros((n_windows, n_classes))
        for part in bundle_blocks(blocks, material.codes, seed):
            gone = with_copies([part], n_windows, len(z))[0]
            rest = np.setdiff1d(np.arange(len(z)), gone)
            fewer = max(20, n_trees // 6)
            grown = grow_trees(z[rest], codes[rest], n_classes, seed=seed, n_trees=fewer)
            table[part] = grown.scores(z[part])
        smoothing = 1 / n_trees  # no forest is ever certain of what it has not seen
        return np.asarray((table + smoothing) / (1 + smoothing * n_classes))

    count, found = n_copies(material.windows, copies), None
    blocks = left_out_blocks(material.codes, material.groups, n_classes)
    singles = left_out_blocks(material.codes, None, n_classes)
    if singles and count:
        tables = {each: left_out(singles, each) for each in (0, count)}
        count = min(tables, key=lambda each: log_loss(tables[each], material.codes))
        found = tables[count]
    if blocks and (found is None or len(blocks) < len(singles)):
        found = left_out(blocks, count)
    z, codes = rows(count)
    head = grow_trees(z, codes, n_classes, seed=seed, n_trees=n_trees)
    return Expert(bound, head, found)


def _embed_with_copies(bound: Backbone, material: Material, count: int, seed: int) -> Array:
    """Embeddings of the windows, then of their copies, set after set."""
    z = embed_cached(bound, material.windows.x)
    if not count:
        return z
    return np.concatenate([z, embed_cached(bound, vary(material.windows.x, count, seed=seed))])


def grow_trees(z: Array, codes: Array, n_classes: int, *, seed: int, n_trees: int) -> TreesHead:
    """Grow trees one by one with scikit-learn and read them out as plain arrays.

    Not as a forest of scikit-learn's: that one changes the process's warning filters for each
    tree, which threads must not do at once, and costs as much again around each small tree.
    """
    from sklearn.tree import ExtraTreeClassifier

    z = np.asarray(z, dtype=np.float32)
    present, compact = np.unique(codes, return_inverse=True)
    random = np.random.default_rng(seed)
    parts: dict[str, list[Array]] = {"f": [], "t": [], "l": [], "r": [], "v": []}
    roots, offset = [], 0
    for own in random.integers(0, 2**31 - 1, n_trees):
        tree = ExtraTreeClassifier(random_state=int(own)).fit(z, compact, check_input=False).tree_
        inner = tree.children_left >= 0
        # the largest float32 not above the threshold sends every float32 the same way
        threshold = tree.threshold.astype(np.float32)
        above = threshold.astype(np.float64) > tree.threshold
        threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
        counts = tree.value[:, 0, :]
        value = np.zeros((tree.node_count, n_classes))
        value[:, present] = counts / counts.sum(axis=1, keepdims=True)
        parts["f"].append(np.where(inner, tree.feature, 0))
        parts["t"].append(np.where(inner, threshold, np.float32(0)))
        parts["l"].append(np.where(inner, tree.children_left + offset, -1))
        parts["r"].append(np.where(inner, tree.children_right + offset, -1))
        parts["v"].append(value)
        roots.append(offset)
        offset += tree.node_count
    joined = {key: np.concatenate(values) for key, values in parts.items()}
    return TreesHead(
        joined["f"].astype(np.int64),
        joined["t"].astype(np.float32),
        joined["l"].astype(np.int64),
        joined["r"].astype(np.int64),
        joined["v"].astype(np.float32),
        np.array(roots, dtype=np.int64),
    )


def fit_logistic_head(material: Material, z: Array, *, balanced: bool) -> LinearHead:
    """Multinomial logistic regression; its strength by grouped cross-validated log loss."""
    from sklearn.linear_model import LogisticRegression

    z = np.asarray(z, dtype=np.float64)
    mean, spread = z.mean(axis=0), z.std(axis=0)
    scale = np.where(spread > 1e-7 * (1 + np.abs(mean)), spread, np.inf) * np.sqrt(z.shape[1])
    rows = (z - mean) / scale
    weight = "balanced" if balanced else None

    def fit(index: Array, strength: float) -> LogisticRegression:
        model = LogisticRegression(C=strength, max_iter=300, class_weight=weight)
        return model.fit(rows[index], material.codes[index])

    everything = np.arange(len(rows))
    blocks = left_out_blocks(material.codes, material.groups, len(material.classes))
    best, best_loss = 100.0, np.inf
    for strength in (1.0, 10.0, 100.0, 1000.0) if blocks else ():
        losses = []
        for part in bundle_blocks(blocks, material.codes, 0):
            model = fit(np.setdiff1d(everything, part), strength)
            guess = np.full((len(part), len(material.classes)), 1e-9)
            guess[:, model.classes_] = model.predict_proba(rows[part])
            losses.append(log_loss(guess, material.codes[part]) * len(part))
        if sum(losses) < best_loss:
            best, best_loss = strength, sum(losses)
    model = fit(everything, best)
    coefficients, bias = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes: scikit-learn keeps one row
        coefficients, bias = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.stack([-bias[0], bias[0]]) / 2,
        )
    weight_matrix = coefficients.T / scale[:, None]
    return LinearHead(
        weight_matrix.astype(np.float32), (bias - mean @ weight_matrix).astype(np.float32)
    )
