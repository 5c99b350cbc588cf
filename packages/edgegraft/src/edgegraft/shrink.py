"""From a finished run to something smaller: int8, pruned, distilled, or what fits a board.

Every version is scored by the same function on the same windows, beside the model it came from:
on test data where some is given; else a third of the labelled groups (people, machines) is left
out, the model is fitted anew without it by its own strategy, every version is made from that, and
what ships is then made once more from all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgegraft.adapt.adapted import Adapted, Predictor
from edgegraft.adapt.strategy import Watch, build_strategy, unwatched
from edgegraft.compress.distill import Distillation, teach
from edgegraft.compress.fit import Budget, Cost, Found, Search, estimate, fit
from edgegraft.compress.prune import Pruning, pruned
from edgegraft.compress.quantize import quantized
from edgegraft.compress.teacher import Taught, taught
from edgegraft.data.split import few_shot, holdout
from edgegraft.evaluate.evaluation import evaluate_probabilities, units_of
from edgegraft.evaluate.side_by_side import paired_accuracy, write_pages
from edgegraft.export import emulator, verification
from edgegraft.export.c.emit import model_of
from edgegraft.export.target import board
from edgegraft.findings import now
from edgegraft.recipe import Recipe
from edgegraft.shipping import CALIBRATION, MODEL, load
from edgegraft.tasks.classification import Classification
from edgegraft.workflow import open_windows
from edgegraft.workspace import Workspace, writing
from edgegraft.zoo.cost import multiply_adds
from edgegraft.zoo.micro import Micro, MicroShape
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import __version__, bundle
from edgegraft_edge.bundle import Bundle
from edgegraft_edge.errors import EdgegraftError, OptionError, Problem, SplitError, nearest
from edgegraft_edge.program import Program
from edgegraft_edge.signal import Array, Windows
from edgegraft_edge.tensors import dump

METHODS = ("int8", "qat", "prune", "distill")
KIB = 1024
_CALIBRATION, _GOLDEN = 200, 12
_CORE = "m4"
_SAME = 1e-3


@dataclass(frozen=True)
class Shrinking:
    """How a model is made smaller.

    Attributes:
        methods: of `METHODS`; what ships is the smallest version that they give, or what fits.
        board: name of a board or path of its card, for `budget`; "" for none.

    Errors: `OptionError` for a method that there is not.

    >>> Shrinking(methods=("int8", "distill")).methods
    ('int8', 'distill')
    """

    methods: tuple[str, ...] = ("int8", "distill")
    board: str = ""
    flash_kib: float = 0.0
    ram_kib: float = 0.0
    latency_ms: float = 0.0
    distillation: Distillation = field(default_factory=Distillation)
    pruning: Pruning = field(default_factory=Pruning)
    search: Search = field(default_factory=Search)
    shape: MicroShape = field(default_factory=MicroShape)

    def __post_init__(self) -> None:
        problems = [
            Problem(
                "method-unknown",
                f"method {name!r}",
                "models are not made smaller by that",
                nearest(name, list(METHODS)),
            )
            for name in self.methods
            if name not in METHODS
        ]
        if not self.methods and not self.fits:
            problems.append(
                Problem("method-none", "no method", "nothing is to be done", "int8,distill")
            )
        if problems:
            raise OptionError(problems)

    @property
    def fits(self) -> bool:
        """Whether a student is looked for that fits a budget."""
        return bool(self.board or self.flash_kib or self.ram_kib or self.latency_ms)

    @property
    def budget(self) -> Budget:
        """Bounds asked for, and those of the board where none are. Errors: `OptionError`."""
        if not self.board:
            return Budget(self.flash_kib, self.ram_kib, self.latency_ms)
        card = board(self.board)
        cycles = card.cycles_per_instruction
        return Budget(
            min(filter(None, (self.flash_kib, card.flash_kib)), default=0.0),
            min(filter(None, (self.ram_kib, card.ram_kib)), default=0.0),
            self.latency_ms,
            1000 * card.clock_mhz / cycles if cycles else 0.0,
            card.fpu,
        )

    @property
    def core(self) -> str:
        """The core whose compiler counts."""
        return (board(self.board).instructions_core if self.board else "") or _CORE


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


@dataclass(frozen=True)
class _Made:
    """Versions of a model by name, the first as it was; `ships` names what is wanted of them."""

    programs: Mapping[str, Program]
    ships: str
    notes: tuple[str, ...]
    found: Found | None
    lineage: Mapping[str, Any]


@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
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
    watch("stage", {"name": "open"})
    recipe = _recipe(run)
    opening = {**(recipe.data_options if recipe else {}), **(data_options or {})}
    labelled, pool = _material(recipe, source, data, unlabelled, opening)
    tested = None if test is None else open_windows(test, opening, source.spec)
    workspace = None
    if out is not None:
        workspace = Workspace.open(out, f"compress {__version__}", resume=True)
    cache = workspace.work if workspace else None
    fitter = _Fitter(source, labelled, seed)
    notes: list[str] = []
    if tested is None:
        watch("stage", {"name": "score", "windows": len(labelled)})
        first, last, made = _left_out(fitter, labelled, pool, how, budget, seed, watch, cache)
        tested = labelled.take(last)
        scored_on = (
            f"Scored on {len(tested):,} labelled windows left out with their "
            f"{_unit(tested)}; the model was fitted anew without them. What ships is made from all."
        )
        shape = made.found.chosen if made.found else None
        rows = _rows(made, tested, source.classes, how)
        watch("stage", {"name": "make", "version": made.ships})
        final = _versions(
            fitter.whole(), labelled, pool, how, budget, seed, watch, cache,
            only=made.ships, chosen=shape,
        )  # fmt: skip
        del first
    else:
        watch("stage", {"name": "make"})
        made = final = _versions(fitter.whole(), labelled, pool, how, budget, seed, watch, cache)
        scored_on = f"Scored on {int(tested.labelled.sum()):,} windows of test data."
        rows = _rows(made, tested, source.classes, how)
    notes += made.notes
    packed = _packed(source, final, labelled)
    report = _report(source, made, rows, how, budget, scored_on, tested, notes)
    folder = None
    if workspace is not None:
        folder = workspace.folder
        bundle.write(folder / MODEL, packed)
        workspace.write(CALIBRATION, dump({"x": _spread(labelled, _CALIBRATION)}))
        with writing(folder):
            write_pages(report, folder)
        workspace.finish()
    watch("done", {"folder": str(folder) if folder else None})
    return Shrunk(packed, report, folder)


# -- the parts, in order


def _recipe(run: Any) -> Recipe | None:
    """How the run was asked for, where it says so."""
    if not isinstance(run, str | PathLike):
        return None
    path = Path(fspath(run)) / "recipe.toml"
    return Recipe.read(path) if path.exists() else None


def _material(
    recipe: Recipe | None, source: Bundle, data: Any, unlabelled: Any, opening: dict[str, Any]
) -> tuple[Windows, Windows | None]:
    """Labelled windows as the run used them, and the pool."""
    everything = open_windows(data, opening, source.spec)
    rows = np.flatnonzero(everything.labelled)
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


class _Fitter:
    """The model of a run, and the same fitted without some windows."""

    def __init__(self, source: Bundle, labelled: Windows, seed: int) -> None:
        self.source, self.labelled = source, labelled
        self.lineage = dict(source.manifest.lineage)

    def on(self, windows: Windows) -> Adapted:
        """Errors: `OptionError` "test-needed" for a model that says not how it came about."""
        name, backbones = self.lineage.get("strategy"), self.lineage.get("backbones")
        try:
            if not name or not backbones:
                raise OptionError.of("strategy-unknown", "no strategy", "imported", "--test")
            options = {f"{name}.{key}": value for key, value in self.lineage["options"].items()}
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            strategy = build_strategy(str(name), options)
            seed = int(self.lineage.get("seed", 0))
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
) -> tuple[Array, Array, _Made]:
    """A third left out: rows fitted on, rows left out, and the versions made without these."""
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
    teacher = fitter.on(kept)
    made = _versions(teacher, kept, others, how, budget, seed, watch, cache)
    return fold.train, fold.test, made


def _versions(
    teacher: Predictor,
    labelled: Windows,
    pool: Windows | None,
    how: Shrinking,
    budget: Budget,
    seed: int,
    watch: Watch,
    cache: Path | None,
    *,
    only: str = "",
    chosen: Any = None,
) -> _Made:
    """The model and all that is made of it; `only` leaves out what that one does not need."""
    own: Program = teacher.program  # type: ignore[attr-defined]
    calibration = _spread(labelled, _CALIBRATION)
    programs = {"float": own}
    notes: list[str] = []
    found: Found | None = None
    lineage: Mapping[str, Any] = {}
    eight = "int8" in how.methods or how.fits
    if eight and only in ("", "int8"):
        programs["int8"] = quantized(own, calibration)
    student = "distill" in how.methods or how.fits
    base = "float"
    said: Taught | None = None
    if (student or "prune" in how.methods) and only not in ("float", "int8"):
        options = how.distillation
        held = _held_groups(labelled, seed) if how.fits and chosen is None else ()
        watch("stage", {"name": "ask the teacher"})
        said = taught(
            teacher, labelled, pool, copies=options.copies, mixed=options.mixed,
            held_groups=held, seed=seed, watch=watch, cache=cache,
        )  # fmt: skip
    if student and said is not None:
        watch("stage", {"name": "distil"})
        if how.fits and chosen is None:
            found = fit(
                said, budget, how.search, how.distillation, measure=_planned,
                confirm=_linked(how.core), seed=seed, watch=watch,
            )  # fmt: skip
            model = found.model
        else:
            shape = chosen.shape if chosen is not None else how.shape
            model = teach(said, Micro.of(shape), how.distillation, seed=seed, watch=watch)
        base, lineage = "distilled", model.lineage
        programs[base] = model.program
        if eight:
            programs[f"{base} int8"] = quantized(model.program, calibration)
    if "prune" in how.methods and said is not None and (not only or "pruned" in only):
        watch("stage", {"name": "prune"})
        try:
            name = "pruned" if base == "float" else f"{base}, pruned"
            smaller = pruned(programs[base], said, how.pruning, seed=seed, watch=watch)
            programs[name] = smaller
            if eight:
                programs[f"{name} int8"] = quantized(smaller, calibration)
        except EdgegraftError as error:
            notes.append(f"not pruned: {error}")
    if "qat" in how.methods and said is not None and base == "distilled" and not only:
        aware = _aware(programs[base], said, calibration, seed, watch)
        if isinstance(aware, Program):
            programs[f"{base} int8, trained in it"] = aware
        else:
            notes.append(aware)
    ships = only or _smallest(programs, found)
    return _Made(programs, ships, tuple(notes), found, lineage)


def _aware(
    program: Program, said: Taught, calibration: Array, seed: int, watch: Watch
) -> Program | str:
    """Quantisation-aware fine-tuning, where this version has it."""
    return "quantisation-aware training (qat) is not joined to compress yet; int8 was calibrated"


def _smallest(programs: Mapping[str, Program], found: Found | None) -> str:
    """What the search chose, in its precision; else what has the fewest bytes."""
    if found is not None:
        return "distilled int8" if found.chosen.precision == "int8" else "distilled"
    return min(programs, key=lambda name: programs[name].size_bytes)


def _held_groups(labelled: Windows, seed: int) -> tuple[str, ...]:
    """About a fifth of the groups of the training data, by which candidates are judged."""
    names = sorted(set(labelled.groups.tolist()) - {""})
    if len(names) < 3:
        return ()
    picked = np.random.default_rng([seed, 5]).permutation(len(names))[: max(1, len(names) // 5)]
    return tuple(names[index] for index in sorted(picked))


def _spread(windows: Windows, count: int) -> Array:
    """Windows of every class in equal numbers."""
    per_class = max(1, count // max(1, len(windows.classes)))
    return windows.x[few_shot(windows, per_class, seed=0)][: 4 * count]


def _planned(program: Program, shape: tuple[int, ...]) -> Cost:
    """Arena and constants as the C has them; code and instructions are estimates."""
    cost = estimate(program, shape)
    try:
        model = model_of(program, *shape)
    except EdgegraftError:
        return cost
    more = max(0, model.weight_bytes - program.size_bytes)
    return replace(cost, ram_bytes=model.arena_bytes, flash_bytes=cost.flash_bytes + more)


def _linked(core: str) -> Any:
    """A measure that asks the linker for a core, where its compiler is installed."""

    def measure(program: Program, shape: tuple[int, ...]) -> Cost:
        cost = _planned(program, shape)
        if emulator.missing():
            return cost
        try:
            model = model_of(program, *shape)
            with tempfile.TemporaryDirectory(prefix="edgegraft-") as folder:
                built = verification.build(model, core, Path(folder), entry="float")
                ran = emulator.emulate(built, np.zeros((1, *shape), np.float32))
        except EdgegraftError:
            return cost
        return replace(
            cost,
            flash_bytes=built.size.flash,
            ram_bytes=built.size.ram,
            instructions=float(np.median(ran.instructions)),
            counted="linker",
        )

    return measure


def _rows(
    made: _Made, tested: Windows, classes: Sequence[str], how: Shrinking
) -> list[dict[str, Any]]:
    """Scores and costs of every version."""
    tested = tested.take(np.flatnonzero(tested.labelled))
    measure = _linked(how.core)
    tables = {name: _run(program, tested.x) for name, program in made.programs.items()}
    rows = []
    for name, program in made.programs.items():
        scored = evaluate_probabilities(tables[name], tested, tuple(classes))
        low, high = scored.intervals.get("accuracy", (float("nan"),) * 2)
        cost: Cost | None = None
        if program.size_bytes < 1024 * KIB:  # what no microcontroller holds is not compiled for one
            cost = measure(program, tested.spec.shape)
        rows.append(
            {
                "name": name,
                "precision": program.precision,
                "accuracy": scored.metrics["accuracy"],
                "macro_f1": scored.metrics.get("macro_f1"),
                "low": low,
                "high": high,
                "gap": None
                if name == "float"
                else paired_accuracy(tables[name], tables["float"], tested, classes),
                "parameters": sum(int(a.size) for a in program.constants.values()),
                "size_kib": program.size_bytes / KIB,
                "flash_kib": None if cost is None else cost.flash_bytes / KIB,
                "ram_kib": None if cost is None else cost.ram_bytes / KIB,
                "counted": None if cost is None else cost.counted,
                "instructions": None if cost is None else cost.instructions,
                "multiply_adds": multiply_adds(program, *tested.spec.shape),
                "ships": name == made.ships,
            }
        )
    return rows


def _run(program: Program, x: Array, step: int = 256) -> Array:
    parts = [program.run(x[first : first + step]) for first in range(0, len(x), step)]
    return np.concatenate(parts)


def _unit(windows: Windows) -> str:
    return {"group": "people or machines", "recording": "recordings", "window": "own windows"}[
        units_of(windows)[0]
    ]


def _packed(source: Bundle, made: _Made, labelled: Windows) -> Bundle:
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
        _spread(labelled, _GOLDEN)[: 4 * _GOLDEN],
        name=f"{manifest.name}-{made.ships.replace(', ', '-').replace(' ', '-')}",
        created=now(),
        lineage=lineage,
        licences=manifest.licences,
    )


def _report(
    source: Bundle,
    made: _Made,
    rows: list[dict[str, Any]],
    how: Shrinking,
    budget: Budget,
    scored_on: str,
    tested: Windows,
    notes: Sequence[str],
) -> dict[str, Any]:
    own = next(row for row in rows if row["ships"])
    gap = own["gap"] or {"mean": 0.0, "low": 0.0, "high": 0.0}
    points = ", ".join(f"{100 * gap[key]:+.1f}" for key in ("low", "high"))
    size = rows[0]["size_kib"] / max(own["size_kib"], 1e-9)
    outcome = "hurt" if gap["high"] < 0 else "helped" if gap["low"] > 0 else "undecided"
    linked = any(row["counted"] == "linker" for row in rows)
    return {
        "title": f"{source.manifest.name}, made smaller",
        "created": now(),
        "edgegraft_version": __version__,
        "sentence": f"{own['name']} ships: {size:.0f} times smaller, "
        f"{100 * gap['mean']:+.1f} points of accuracy ({points}).",
        "outcome": outcome,
        "scored_on": scored_on,
        "units": _unit(tested),
        "counted": f"linker for {how.core} at -O2" if linked else "memory plan and an allowance",
        "rows": rows,
        "notes": list(notes),
        "budget": {"name": how.board or "the budget", **vars(budget)},
        "tried": [each.as_dict(budget) for each in made.found.tried] if made.found else [],
        "ships": made.ships,
        "methods": list(how.methods),
    }
