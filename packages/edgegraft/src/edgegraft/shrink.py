"""From a finished run to something smaller: int8, pruned, distilled, or what fits a board.

Every version is scored by the same function on the same windows, beside the model it came from:
on test data where some is given; else a third of the labelled groups (people, machines) is left
out, the model is fitted anew without it by its own strategy, every version is made from that, and
what ships is then made once more from all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted, Predictor
from edgegraft.adapt.strategy import Watch, build_strategy, unwatched
from edgegraft.compress.fit import Budget
from edgegraft.data.domains import apart, joined
from edgegraft.data.split import few_shot, holdout
from edgegraft.evaluate.side_by_side import write_pages
from edgegraft.findings import now
from edgegraft.inputs import IN_MEMORY, open_inputs, open_windows
from edgegraft.recipe import Recipe
from edgegraft.shipping import CALIBRATION, MODEL, load
from edgegraft.standing import report_of, rows_of, unit_of
from edgegraft.tasks.classification import Classification
from edgegraft.threads import one_thread
from edgegraft.versions import CALIBRATION_WINDOWS, Made, Shrinking, spread, versions
from edgegraft.workspace import Workspace, writing
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import __version__, bundle
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import DataError, EdgegraftError, OptionError, SplitError
from edgegraft_edge.signal import Windows
from edgegraft_edge.tensors import dump

_GOLDEN = 12
_SAME = 1e-3


@dataclass(frozen=True)
class Shrunk:
    """What `compress` gives.

    Attributes:
        bundle: the version that ships.
        report: what the report pages are made of; rows, search, notes.
        folder: where it was written; None if nowhere.
    """

    bundle: Bundle
    report: Mapping[str, Any]
    folder: Path | None


@one_thread()
def compress(
    run: str | PathLike[str],
    data: Any,
    *,
    unlabelled: Any = "rest",
    test: Any = None,
    how: Shrinking | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    data_options: Mapping[str, Any] | None = None,
    watch: Watch = unwatched,
) -> Shrunk:
    """Make a run's model smaller, and say what that costs.

    Args:
        run: folder that `adapt` wrote, or a bundle.
        data: the data it was adapted to.
        unlabelled: more windows for the student: a place, windows, or "rest", which is what of
            `data` has no label or was not used as labelled by the run; None for none.
        test: data of other people or machines for the scores.
        how: methods, budget and their options.
        out: folder for the bundle, the calibration windows and the report.

    Errors: `OptionError`, `DataError`, `ExportError` "budget-impossible".
    """
    how = how or Shrinking()
    budget = how.budget
    source = load(run)
    if source.precision != "float":
        raise OptionError.of(
            "precision-gone",
            f"a model in {source.precision}",
            "what is int8 already cannot learn any more",
            "the run that it was made from",
        )
    recipe = _recipe(run)
    task = "estimation" if source.outputs is not None else recipe.task if recipe else ""
    if task not in ("", "classification"):
        raise OptionError.of(
            "compress-task",
            f"a model of the task {task}",
            "students are taught classes here",
            "the model as it is"
            if source.outputs is not None
            else "edgegraft export --precision int8, which needs no training",
        )
    if out is not None and Path(fspath(out)).resolve() == _place(run):
        raise OptionError.of(
            "folder-same", f"{fspath(out)}", "the run would be overwritten", "another folder"
        )
    watch("stage", {"name": "open"})
    opening = {**(recipe.data_options if recipe else {}), **(data_options or {})}
    labelled, pool = _material(recipe, source, data, unlabelled, opening, has_test=test is not None)
    tested = None if test is None else open_windows(test, opening, source.spec)
    workspace = None
    if out is not None:
        workspace = Workspace.open(out, f"compress {__version__}", resume=True)
    cache = workspace.work if workspace else None
    fitter = _Fitter(source, labelled, seed, lambda: _beside(recipe, source, data, opening))
    if tested is None:
        watch("stage", {"name": "score", "windows": len(labelled)})
        tested, made = _left_out(fitter, labelled, pool, how, budget, seed, watch, cache)
        scored_on = (
            f"Scored on {len(tested):,} labelled windows left out with their "
            f"{unit_of(tested)}; the model was fitted anew without them, and what ships from all."
        )
        shape = made.found.chosen if made.found else None
        rows = rows_of(made, tested, source.classes, how)
        watch("stage", {"name": "make", "version": made.ships})
        final = versions(
            fitter.whole(), labelled, pool, how, budget, seed, watch, cache,
            only=made.ships, chosen=shape,
        )  # fmt: skip
    else:
        watch("stage", {"name": "make"})
        teacher = fitter.whole()
        made = final = versions(teacher, labelled, pool, how, budget, seed, watch, cache)
        if made.found is not None:  # groups that judged the candidates are trained on, too
            made = final = versions(
                teacher, labelled, pool, how, budget, seed, watch, cache,
                chosen=made.found.chosen, found=made.found,
            )  # fmt: skip
        scored_on = f"Scored on {int(tested.labelled.sum()):,} windows of test data."
        rows = rows_of(made, tested, source.classes, how)
    packed = _packed(source, final, labelled)
    report = report_of(source, made, rows, how, budget, scored_on, tested)
    folder = None
    if workspace is not None:
        folder = workspace.folder
        bundle.write(folder / MODEL, packed)
        workspace.write(CALIBRATION, dump({"x": spread(labelled, CALIBRATION_WINDOWS)}))
        with writing(folder):
            write_pages(report, folder)
        workspace.finish()
    watch("done", {"folder": str(folder) if folder else None})
    return Shrunk(packed, report, folder)


# -- the parts, in order


def _place(run: Any) -> Path | None:
    """Folder of the run."""
    if not isinstance(run, str | PathLike):
        return None
    path = Path(fspath(run)).resolve()
    return path if path.is_dir() else path.parent


def _recipe(run: Any) -> Recipe | None:
    """How the run was asked for, where it says so."""
    place = _place(run)
    path = place / "recipe.toml" if place else None
    return Recipe.read(path) if path is not None and path.exists() else None


def _material(
    recipe: Recipe | None,
    source: Bundle,
    data: Any,
    unlabelled: Any,
    opening: dict[str, Any],
    *,
    has_test: bool,
) -> tuple[Windows, Windows | None]:
    """Labelled windows as the run used them, and the pool.

    Of a run without target labels they are all windows, with what the model says of them.

    Errors: `OptionError` "test-needed" where such a run is to be scored, or "data-differs".
    """
    everything = open_windows(data, opening, source.spec)
    rows = np.flatnonzero(everything.labelled)
    if recipe is not None and recipe.source and not (len(rows) and recipe.labels_per_class != 0):
        if not has_test:
            raise OptionError.of(
                "test-needed",
                "a run without target labels",
                "there is nothing to score versions on",
                "--test DATA with labelled windows of the device",
            )
        return replace(everything, y=source.predict(everything).labels), None
    if recipe is not None and recipe.labels_per_class is not None:
        few = few_shot(everything.take(rows), recipe.labels_per_class, seed=recipe.seed)
        rows = rows[few]
    labelled = everything.take(rows)
    Classification().classes(labelled)
    unknown = sorted(set(labelled.classes) - set(source.classes))
    if unknown:
        raise OptionError.of(
            "data-differs",
            f"labels {', '.join(unknown)}, which the model does not know",
            "a model is made smaller with the data it was adapted to",
            f"data labelled {', '.join(source.classes)}",
        )
    if unlabelled is None:
        return labelled, None
    if isinstance(unlabelled, str) and unlabelled == "rest":
        rest = np.setdiff1d(np.arange(len(everything)), rows)
        return labelled, everything.take(rest) if len(rest) else None
    return labelled, open_windows(unlabelled, opening, source.spec)


def _beside(
    recipe: Recipe | None, source: Bundle, data: Any, opening: dict[str, Any]
) -> Windows | None:
    """Pool and sources of the run, opened once more; None where it had none.

    Errors: as of `open_inputs`; `DataError` where they were in memory.
    """
    if recipe is None or not (recipe.unlabelled or recipe.source):
        return None
    if IN_MEMORY in (recipe.unlabelled, *recipe.source.values()) or recipe.transductive:
        raise DataError.of("inputs-gone", "windows in memory", "no place is kept of them", "--test")
    return open_inputs(
        open_windows(data, opening, source.spec),
        Classification(),
        unlabelled=recipe.unlabelled,
        sources=recipe.source,
        labels_per_class=recipe.labels_per_class,
        seed=recipe.seed,
        options=opening,
    ).beside


class _Fitter:
    """The model of a run, and the same fitted without some windows.

    `beside` opens the pool and the sources that the run had.
    """

    def __init__(
        self,
        source: Bundle,
        labelled: Windows,
        seed: int,
        beside: Callable[[], Windows | None] = lambda: None,
    ) -> None:
        self.source, self.labelled = source, labelled
        self.lineage = dict(source.manifest.lineage)
        self._open = beside

    @cached_property
    def beside(self) -> Windows | None:
        return self._open()

    def on(self, windows: Windows, without: Windows | None = None) -> Adapted:
        """The model fitted on labelled windows, with what of pool and sources `without` leaves.

        Errors: `OptionError` "test-needed" for a model that says not how it came about.
        """
        name, backbones = self.lineage.get("strategy"), self.lineage.get("backbones")
        try:
            if not name or not backbones:
                raise OptionError.of("strategy-unknown", "no strategy", "imported", "--test")
            options = {f"{name}.{key}": value for key, value in self.lineage["options"].items()}
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            strategy = build_strategy(str(name), options)
            seed = int(self.lineage.get("seed", 0))
            if self.beside is not None:
                around = self.beside if without is None else apart(self.beside, without)
                windows = joined(windows, around)
            return strategy.adapt(load_backbone(backbones[0]), windows, Classification(), seed=seed)
        except EdgegraftError as error:
            raise OptionError.of(
                "test-needed",
                f"a model that cannot be fitted anew ({str(error).splitlines()[0][:120]})",
                "without test data, versions are scored on people left out of its fitting",
                "--test DATA with windows of other people or machines",
            ) from error

    def whole(self) -> Predictor:
        """The model itself; in its faster form where that can be had and says the same."""
        try:
            again = self.on(self.labelled)
        except EdgegraftError:
            return self.source
        golden = self.source.golden
        blank = np.full(len(golden), "")
        said = again.predict(Windows(golden, blank, blank, self.source.spec)).probabilities
        same = said.shape == self.source.expected.shape
        if same and np.abs(said - self.source.expected).max() < _SAME:
            return again
        return self.source


def _left_out(
    fitter: _Fitter,
    labelled: Windows,
    pool: Windows | None,
    how: Shrinking,
    budget: Budget,
    seed: int,
    watch: Watch,
    cache: Path | None,
) -> tuple[Windows, Made]:
    """A third of the labelled windows, and the versions made without these."""
    try:
        fold = holdout(labelled, 1 / 3, seed=seed)
    except SplitError as error:
        raise OptionError.of(
            "test-needed",
            f"{len(labelled)} labelled windows ({str(error).splitlines()[0][:120]})",
            "none can be left out to score versions on",
            "--test DATA with windows of other people or machines",
        ) from error
    kept = labelled.take(fold.train)
    others = pool
    if pool is not None and labelled.has_groups:
        gone = set(labelled.groups[fold.test].tolist()) - {""}
        others = pool.take(np.flatnonzero(~np.isin(pool.groups, list(gone))))
    teacher = fitter.on(kept, without=labelled.take(fold.test))
    made = versions(teacher, kept, others, how, budget, seed, watch, cache)
    return labelled.take(fold.test), made


def _packed(source: Bundle, made: Made, labelled: Windows) -> Bundle:
    manifest = source.manifest
    lineage = {
        **manifest.lineage,
        "compressed": {"version": made.ships, **made.lineage},
    }
    return bundle.make(
        made.programs[made.ships],
        source.spec,
        source.classes,
        source.decision,
        spread(labelled, _GOLDEN)[: 4 * _GOLDEN],
        name=f"{manifest.name}-{made.ships.replace(', ', '-').replace(' ', '-')}",
        created=now(),
        lineage=lineage,
        licences=manifest.licences,
    )
