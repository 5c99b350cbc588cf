"""A student that fits: search over width, depth, window and precision under a board's budget.

What a candidate costs is known before it is trained: its random weights are quantised, and flash,
memory and multiply-adds are counted from that program. Candidates that fit and that no smaller one
outdoes in size are then trained, many for a few steps, the better half for twice as many, and so
on (successive halving: K. Jamieson, A. Talwalkar, AISTATS 2016). They are judged on windows of
people or machines that were held out of the training, never on test data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgegraft.adapt.adapted import Adapted
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.compress.distill import Distillation, teach
from edgegraft.compress.quantize import quantized
from edgegraft.compress.teacher import Taught
from edgegraft.passes.trace import trace
from edgegraft.zoo.cost import multiply_adds
from edgegraft.zoo.micro import MAX_PARAMETERS, Micro, MicroShape, micro
from edgegraft_edge.errors import EdgegraftError, ExportError, OptionError, Problem
from edgegraft_edge.heads import LinearHead
from edgegraft_edge.program import INPUT, Program, chain
from edgegraft_edge.signal import Windows

KIB = 1024
CODE_BYTES = {"int8": 8 * KIB, "float": 6 * KIB}
"""Allowed for code where no compiler is asked."""
INSTRUCTIONS = {"int8": 8.0, "float": 8.0}
"""Assumed for a multiply-add where nothing was counted."""
WIDTHS = (0.25, 0.375, 0.5, 0.75, 1.0, 1.25)
_ALIKE = 0.005  # of agreement: within this, the smaller one is taken


@dataclass(frozen=True)
class Budget:
    """What a model may take; 0 for no bound.

    Attributes:
        instructions_per_ms: of the board, from which latency follows; 0 where unknown.
        floats: whether its core computes floating point.

    Errors: `OptionError` with every bound that makes no sense.

    >>> Budget(flash_kib=128, ram_kib=32).ram_kib
    32
    """

    flash_kib: float = 0.0
    ram_kib: float = 0.0
    latency_ms: float = 0.0
    instructions_per_ms: float = 0.0
    floats: bool = True

    def __post_init__(self) -> None:
        names = ("flash_kib", "ram_kib", "latency_ms", "instructions_per_ms")
        problems = [
            Problem("option-range", f"{name}={getattr(self, name)}", "a bound is not negative", "0")
            for name in names
            if not getattr(self, name) >= 0
        ]
        if self.latency_ms > 0 and not self.instructions_per_ms:
            problems.append(
                Problem(
                    "budget-speed",
                    f"latency_ms={self.latency_ms:g} without a board's speed",
                    "a time follows from instructions only where the board is known",
                    "name the board (--fit stm32l4)",
                )
            )
        if problems:
            raise OptionError(problems)


@dataclass(frozen=True)
class Cost:
    """What a model takes.

    Attributes:
        counted: what of it was counted, "linker" or "estimate".
    """

    parameters: int
    flash_bytes: int
    ram_bytes: int
    multiply_adds: int
    instructions: float
    counted: str = "estimate"

    def latency_ms(self, budget: Budget) -> float | None:
        if not budget.instructions_per_ms:
            return None
        return self.instructions / budget.instructions_per_ms

    def over(self, budget: Budget) -> tuple[str, ...]:
        """Which bounds it breaks."""
        late = self.latency_ms(budget)
        pairs = (
            ("flash", self.flash_bytes / KIB, budget.flash_kib),
            ("ram", self.ram_bytes / KIB, budget.ram_kib),
            ("latency", late if late is not None else 0.0, budget.latency_ms),
        )
        return tuple(name for name, need, have in pairs if have and need > have)


Measure = Callable[[Program, tuple[int, ...]], Cost]
"""(program, shape of a window) -> what it takes, e.g. by a compiler."""


@dataclass(frozen=True)
class Candidate:
    """A student that could be.

    Attributes:
        precision: "int8" or "float".
        steps: that it was trained for; 0 where it was not.
        agreement: with the teacher on held-out windows; accuracy on those with labels.
        because: why it was not trained, or not further.
    """

    shape: MicroShape
    precision: str
    cost: Cost
    steps: int = 0
    agreement: float | None = None
    accuracy: float | None = None
    because: str = ""

    @property
    def name(self) -> str:
        own = self.shape
        text = "-".join(map(str, own.widths))
        text += " separable" if own.separable else ""
        text += f" every {own.decimate}" if own.decimate > 1 else ""
        text += f" middle {own.crop:.0%}" if own.crop < 1 else ""
        return f"{text} {self.precision}"

    def as_dict(self, budget: Budget) -> dict[str, Any]:
        """Plain values, for reports."""
        late = self.cost.latency_ms(budget)
        return {
            "name": self.name,
            "options": self.shape.options(),
            "precision": self.precision,
            "parameters": self.cost.parameters,
            "flash_kib": round(self.cost.flash_bytes / KIB, 1),
            "ram_kib": round(self.cost.ram_bytes / KIB, 1),
            "multiply_adds": self.cost.multiply_adds,
            "latency_ms": None if late is None else round(late, 2),
            "counted": self.cost.counted,
            "steps": self.steps,
            "agreement": self.agreement,
            "accuracy": self.accuracy,
            "because": self.because,
        }


@dataclass(frozen=True)
class Search:
    """How to look for a student that fits.

    Errors: `OptionError` listing every option whose value makes no sense.
    """

    candidates: int = field(default=6, metadata={"help": "how many are trained at first"})
    steps: int = field(
        default=300, metadata={"help": "steps of the first round; then twice as many"}
    )
    precisions: tuple[str, ...] = field(
        default=("int8",), metadata={"help": "int8, float, or both"}
    )
    windows: tuple[float, ...] = field(
        default=(1.0, 0.5), metadata={"help": "shares of a window that students may look at"}
    )
    decimates: tuple[int, ...] = field(
        default=(1, 2), metadata={"help": "of so many timepoints they may read one"}
    )

    def __post_init__(self) -> None:
        problems = []
        if self.candidates < 1 or self.steps < 1:
            problems.append(
                Problem(
                    "option-range",
                    f"candidates={self.candidates}, steps={self.steps}",
                    "a search trains something",
                    "6 and 300",
                )
            )
        if not self.precisions or set(self.precisions) - {"int8", "float"}:
            problems.append(
                Problem(
                    "option-value",
                    f"precisions={','.join(self.precisions)}",
                    "there is none of that name",
                    "int8, float",
                )
            )
        if problems:
            raise OptionError(problems)


@dataclass(frozen=True)
class Found:
    """What a search gives.

    Attributes:
        chosen: the candidate that ships, and `model`, trained to the end (float).
        tried: all candidates with what they cost, those that were trained with their scores.
    """

    chosen: Candidate
    model: Adapted
    tried: tuple[Candidate, ...]
    budget: Budget


def estimate(program: Program, shape: tuple[int, ...], *, n_parameters: int = 0) -> Cost:
    """What a program takes by its own count: constants and code, live values, multiply-adds.

    >>> from edgegraft_edge.program import Draft
    >>> draft = Draft()
    >>> program = draft.finish(draft.add("matmul", "x", np.ones((8, 4), np.float32)))
    >>> estimate(program, (8,)).multiply_adds
    32
    """
    forms = trace(program, *shape)
    last = {name: index for index, op in enumerate(program.ops) for name in op.inputs}
    last[program.output] = len(program.ops)
    live, peak = {INPUT: forms[INPUT].size_bytes}, 0
    for index, op in enumerate(program.ops):
        live[op.output] = forms[op.output].size_bytes
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > index}
    kind = "float" if program.precision == "float" else "int8"
    products = multiply_adds(program, *shape)
    return Cost(
        n_parameters,
        program.size_bytes + CODE_BYTES[kind],
        peak,
        products,
        products * INSTRUCTIONS[kind],
    )


def candidates(
    windows: Windows,
    n_classes: int,
    search: Search | None = None,
    measure: Measure | None = None,
) -> tuple[Candidate, ...]:
    """Every shape of the search with what it takes, the smallest first; none is trained.

    Args:
        windows: training windows, a few are enough.
    """
    search = search or Search()
    few = windows.take(np.arange(min(8, len(windows))))
    found = []
    for shape in _shapes(windows, search):
        try:
            program = _untrained(shape, few, n_classes)
        except EdgegraftError:
            continue  # too large a network, or a window too short for it
        count = _parameters(shape, windows, n_classes)
        for precision in search.precisions:
            own = quantized(program, few.x) if precision == "int8" else program
            cost = estimate(own, windows.spec.shape, n_parameters=count)
            if measure is not None:
                cost = replace(measure(own, windows.spec.shape), parameters=count)
            found.append(Candidate(shape, precision, cost))
    return tuple(sorted(found, key=lambda each: each.cost.multiply_adds))


def fit(
    said: Taught,
    budget: Budget,
    search: Search | None = None,
    options: Distillation | None = None,
    *,
    measure: Measure | None = None,
    confirm: Measure | None = None,
    seed: int = 0,
    watch: Watch = unwatched,
) -> Found:
    """The student that does best among those that fit.

    Args:
        said: what the teacher said; its held-out windows judge.
        measure: asked of every candidate; `confirm` of the chosen one, e.g. by a linker.

    Errors: `ExportError` "budget-impossible" with the smallest budget that would do.
    """
    search, options = search or Search(), options or Distillation()
    blank = np.full(len(said.x[0]), "")
    windows = Windows(said.x[0], blank, blank, said.spec)
    known = candidates(windows, len(said.classes), search, measure)
    fitting = [each for each in known if not _misfit(each, budget)]
    if not fitting:
        raise impossible(known, budget)
    chosen = _spread(fitting, search.candidates)
    scores: dict[Candidate, Candidate] = {}
    steps = min(search.steps, options.steps)
    left = chosen
    while len(left) > 1:
        watch("fit", {"candidates": len(left), "steps": steps})
        scored = []
        for each in left:
            model = _trained(each, said, replace(options, steps=steps), seed, watch)
            scores[each] = _scored(each, model, said, steps)
            scored.append(each)
        scored.sort(key=lambda each: -_rank(scores[each]))
        left = scored[: len(scored) // 2]
        if steps >= options.steps:
            break
        steps = min(2 * steps, options.steps)
    best = left[0]
    if len(chosen) > 1:  # as good as the best, and smaller
        alike = [
            each
            for each in scores
            if scores[each].steps == scores[best].steps
            and _rank(scores[each]) >= _rank(scores[best]) - _ALIKE
        ]
        best = min(alike, key=lambda each: each.cost.flash_bytes)
    while True:
        watch("fit", {"chosen": best.name, "steps": options.steps})
        model = _trained(best, said, options, seed, watch)
        final = _scored(best, model, said, options.steps)
        if confirm is None:
            break
        few = said.x[0][: min(64, len(said.x[0]))]
        program = quantized(model.program, few) if best.precision == "int8" else model.program
        cost = replace(confirm(program, said.spec.shape), parameters=best.cost.parameters)
        final = replace(final, cost=cost)
        if not _misfit(final, budget):
            break
        scores[best] = replace(final, because=f"over {', '.join(_misfit(final, budget))}")
        smaller = [e for e in fitting if e.cost.flash_bytes < best.cost.flash_bytes
                   and e.cost.ram_bytes <= best.cost.ram_bytes and e not in scores]  # fmt: skip
        if not smaller:
            raise impossible([*known, final], budget)
        best = max(smaller, key=lambda each: each.cost.multiply_adds)
    tried = []
    for each in known:
        wrong = _misfit(each, budget)
        if each == best:
            tried.append(final)
        elif each in scores:
            tried.append(scores[each])
        else:
            because = f"over {', '.join(wrong)}" if wrong else "not among those trained"
            tried.append(replace(each, because=because))
    return Found(final, model, tuple(tried), budget)


def impossible(known: Sequence[Candidate], budget: Budget) -> ExportError:
    """The error for a budget that nothing meets, with the smallest that would be enough."""

    def excess(each: Candidate) -> float:
        late = each.cost.latency_ms(budget) or 0.0
        pairs = (
            (each.cost.flash_bytes / KIB, budget.flash_kib),
            (each.cost.ram_bytes / KIB, budget.ram_kib),
            (late, budget.latency_ms),
        )
        return max((need / have for need, have in pairs if have), default=0.0)

    nearest = min(known, key=excess)
    late = nearest.cost.latency_ms(budget)
    needs = [
        f"{nearest.cost.flash_bytes / KIB:.1f} KiB of flash",
        f"{nearest.cost.ram_bytes / KIB:.1f} KiB of RAM",
    ]
    if late is not None and budget.latency_ms:
        needs.append(f"{late:.1f} ms")
    asked = [
        f"{value:g} {unit}"
        for value, unit in (
            (budget.flash_kib, "KiB of flash"),
            (budget.ram_kib, "KiB of RAM"),
            (budget.latency_ms, "ms"),
        )
        if value
    ]
    return ExportError.of(
        "budget-impossible",
        f"a budget of {', '.join(asked) or 'floating point'}",
        f"the student that comes nearest ({nearest.name}) takes {', '.join(needs)}",
        "a budget of at least that, shorter windows, or fewer channels",
    )


def pareto(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Names whose score no cheaper one reaches; points are (cost, score).

    >>> pareto({"a": (1.0, 0.8), "b": (2.0, 0.7), "c": (3.0, 0.9)})
    ('a', 'c')
    """
    best, found = -np.inf, []
    for name, (_, score) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if score > best:
            best = score
            found.append(name)
    return tuple(found)


def _shapes(windows: Windows, search: Search) -> list[MicroShape]:
    plain = MicroShape()
    families = [
        plain,
        MicroShape(plain.widths[:2], plain.kernels[:2], plain.strides[:2]),
        MicroShape((*plain.widths, 64), (*plain.kernels, 3), (*plain.strides, 1)),
        replace(plain, separable=True),
    ]
    series = windows.spec.kind == "series"
    length = windows.spec.shape[-1]
    found = []
    for family in families:
        for factor in WIDTHS:
            for decimate in search.decimates if series else (1,):
                for crop in search.windows if series else (1.0,):
                    if series and length * crop / decimate < 16:
                        continue
                    found.append(replace(family.scaled(factor), decimate=decimate, crop=crop))
    return list(dict.fromkeys(found))


def _untrained(shape: MicroShape, few: Windows, n_classes: int) -> Program:
    bound = Micro.of(shape).fit(few, seed=0)
    n_features = bound.embed(few.x[:1]).shape[1]
    random = np.random.default_rng(0)
    weight = random.normal(0, 0.1, (n_features, n_classes)).astype(np.float32)
    head = LinearHead(weight, np.zeros(n_classes, np.float32))
    return chain(bound.program(*few.spec.shape), head.program())


def _parameters(shape: MicroShape, windows: Windows, n_classes: int) -> int:
    flat = windows.spec.kind == "series"
    n_channels = 1 if windows.spec.kind == "audio" else windows.spec.shape[0]
    network = micro(shape, n_channels, flat=flat)
    own = sum(array.size for array in network.weights.values())
    return own + (len(shape.pools) * shape.widths[-1] + 1) * n_classes


def _misfit(each: Candidate, budget: Budget) -> tuple[str, ...]:
    wrong = each.cost.over(budget)
    if each.cost.parameters > MAX_PARAMETERS:
        wrong = (*wrong, "parameters")
    if each.precision == "float" and not budget.floats:
        wrong = (*wrong, "floating point")
    return wrong


def _spread(fitting: Sequence[Candidate], count: int) -> list[Candidate]:
    """The largest of each kind of window and depth first, then smaller ones, by multiply-adds."""
    kinds: dict[tuple[Any, ...], list[Candidate]] = {}
    for each in sorted(fitting, key=lambda each: -each.cost.multiply_adds):
        own = each.shape
        key = (len(own.widths), own.separable, own.decimate, own.crop, each.precision)
        kinds.setdefault(key, []).append(each)
    ordered = sorted(kinds.values(), key=lambda group: -group[0].cost.multiply_adds)
    found: list[Candidate] = []
    depth = 0
    while len(found) < count and any(len(group) > depth for group in ordered):
        found += [group[depth] for group in ordered if len(group) > depth]
        depth += 1
    return found[:count]


def _trained(
    each: Candidate, said: Taught, options: Distillation, seed: int, watch: Watch
) -> Adapted:
    watch("train", {"name": each.name})
    return teach(said, Micro.of(each.shape), options, seed=seed, watch=watch)


def _scored(each: Candidate, model: Adapted, said: Taught, steps: int) -> Candidate:
    """Agreement and accuracy in the candidate's own precision on held-out windows."""
    rows = said.validation if len(said.validation) else said.rows
    program = model.program
    if each.precision == "int8":
        program = quantized(program, said.x[0][said.rows[:200]])
    guess = program.run(said.x[0][rows]).argmax(axis=1)
    agreement = float((guess == said.probabilities[0][rows].argmax(axis=1)).mean())
    known = said.codes[rows] >= 0
    accuracy = float((guess == said.codes[rows])[known].mean()) if known.any() else None
    return replace(each, steps=steps, agreement=agreement, accuracy=accuracy)


def _rank(each: Candidate) -> float:
    return each.agreement if each.agreement is not None else 0.0
