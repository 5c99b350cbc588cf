"""Ground that trainings across domains share: windows by domain, an encoder, a head to start from.

Labelled windows of sources and target teach a head together; windows of the target, labelled or
not, say what its embeddings are like. Each domain's embedding is brought to unit scale by its own
statistics (adaptive batch normalisation in closed form), of which only the target's ship. What is
trained on that ground beyond the labels is each strategy's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegraft.adapt.adapted import Adapted, Member
from edgegraft.adapt.augment import Augmentation, chosen
from edgegraft.adapt.evidence import Evidence, gather
from edgegraft.adapt.feature_net import FeatureNet, feature_net, principal_axes, unit_scales
from edgegraft.adapt.loop import Lesson, OptimiserName, Trained, Training, torch_threads, train
from edgegraft.adapt.network import ENCODER, HEAD, HeadShape, Trainable, loss_of
from edgegraft.adapt.probe import lineage_of
from edgegraft.adapt.ridge import fit_ridge
from edgegraft.adapt.strategy import Watch
from edgegraft.data.domains import joined, labelled_target, pool_of
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import OptionError, Problem
from edgegraft_edge.signal import Array, Spec, Windows

if TYPE_CHECKING:
    from torch import Tensor

MOST_POOL = 5000
"""Windows of the pool that a training looks at; of more, so many are drawn."""
_LEAST_EPOCHS = 3
_MOST_AXES = 64  # of more features, a classifier of domains would learn few windows by heart
_FURTHEST = 4.0  # times a deviation may have changed in training
_CAUTION = 10.0  # windows that speak for the statistics before training
_TINY = 1e-6
_CRITIC_PACE = 50.0
_STEEPEST = 1.0  # norm of a gradient; deep networks of random weights give a hundred times that
_OUT = f"{HEAD}out"


@dataclass(frozen=True)
class AcrossDomains(Training):
    """Options of every training across domains.

    Errors: `OptionError` listing every option whose value makes no sense.
    """

    optimiser: OptimiserName = field(
        default="sgd",
        metadata={
            "help": "sgd (with momentum), adamw, adam, or gradient-descent (all windows); those "
            "that scale every step to the rate let a divergence wander once labels are learned"
        },
    )
    epochs: int = field(default=10, metadata={"help": "passes over the labelled windows"})
    batch_size: int = field(
        default=16, metadata={"help": "labelled windows per step, beside as many of the pool"}
    )
    learning_rate: float = field(
        default=3e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    target_weight: float = field(
        default=20.0,
        metadata={"help": "what a labelled window of the target weighs beside one of a source"},
    )
    per_domain: bool = field(
        default=True,
        metadata={"help": "bring windows and embeddings of each domain to unit scale by itself"},
    )
    dropout: float = field(
        default=0.2, metadata={"help": "share of the embedding left out of each step"}
    )
    augmentation: tuple[str, ...] = field(
        default=("auto",), metadata={"help": "changes that keep the label, as for finetune"}
    )
    window_budget: int = field(
        default=2400,
        metadata={"help": "most labelled windows seen in one training; 0: any"},
    )
    normalise: str = field(
        default="auto",
        metadata={"help": "step for windows: auto, standard, unit-range, per-window or none"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen(self.augmentation)
        problems = []
        if not 0 <= self.dropout < 1:
            problems.append(
                Problem("option-range", f"dropout={self.dropout}", "it is a share", "0.2")
            )
        if not self.target_weight > 0:
            found = f"target_weight={self.target_weight}"
            problems.append(Problem("option-range", found, "a weight is positive", "20"))
        if problems:
            raise OptionError(problems)

    def within_budget(self, n_windows: int) -> int:
        """Epochs, fewer where windows are many."""
        if not self.window_budget:
            return self.epochs
        return min(self.epochs, max(_LEAST_EPOCHS, -(-self.window_budget // max(1, n_windows))))


@dataclass(frozen=True, eq=False)
class Ground:
    """Windows of all domains, prepared for an encoder, and where training starts.

    Domain 0 is the target, 1 and up are the sources in order of their names.

    Attributes:
        encoder: bound to the target's windows.
        x: prepared labelled windows (n_labelled, ...), the sources' first.
        codes: their classes, int (n_labelled,); domains: their domains, int (n_labelled,).
        own: prepared windows of the target (n_own, ...), labelled ones first.
        centres, scales: float64 (n_domains, embedding_dim), of each domain's embedding.
        parameters: weights of the encoder ("encoder." before their names) and of the head.
        axes: float32 (embedding_dim, n_axes), in which embeddings of unit scale vary most.
        seed: of what was drawn.
    """

    evidence: Evidence
    backbone: Backbone
    encoder: Trainable
    x: Array
    codes: Array
    domains: Array
    own: Array
    centres: Array
    scales: Array
    parameters: Mapping[str, Array]
    axes: Array
    per_domain: bool
    seed: int

    @property
    def n_sources(self) -> int:
        return len(self.evidence.sources)

    @property
    def lacks(self) -> str:
        """What is missing for work across domains; "" where nothing is."""
        if not self.n_sources:
            return "no source: trained on the target's labels alone"
        if not len(self.own):
            return "no window of the target: trained on the sources' labels alone"
        return ""

    def weights(self, target_weight: float) -> Array:
        """Float32 (n_labelled,): windows of the target weigh more."""
        both = self.n_sources and (self.domains == 0).any()
        heavy = np.where(self.domains == 0, target_weight, 1.0) if both else np.ones(len(self.x))
        return np.asarray(heavy, dtype=np.float32)

    def shape(self, domains: Array) -> HeadShape:
        """The head on embeddings of these domains, int (n_windows,)."""
        return HeadShape(self.centres[domains], self.scales[domains])

    def target_shape(self) -> HeadShape:
        return HeadShape(self.centres[0], self.scales[0])

    def settled(self, parameters: Mapping[str, Array], threads: int = 1) -> HeadShape:
        """Statistics of the target's embedding after training.

        Training moves the embedding, of the target's windows otherwise than of the sources'. So
        once more the target's features get the mean and deviation that the sources' have now.
        """
        shape = self.target_shape()
        if self.lacks or not self.per_domain:
            return shape
        rows = self.domains != 0
        z = embedded(self.encoder, parameters, self.x[rows], threads)
        source = self.shape(self.domains[rows])
        unit = (z - source.centre) / source.scale
        own = embedded(self.encoder, parameters, self.own, threads)
        caution = 0.05 * float(np.median(unit.std(axis=0))) + _TINY
        scale = (own.std(axis=0) + caution * shape.scale) / (unit.std(axis=0) + caution)
        scale = np.clip(scale, shape.scale / _FURTHEST, shape.scale * _FURTHEST)
        centre = own.mean(axis=0) - unit.mean(axis=0) * scale
        share = len(own) / (len(own) + _CAUTION)
        return HeadShape(
            share * centre + (1 - share) * shape.centre, share * scale + (1 - share) * shape.scale
        )

    def finish(
        self, parameters: Mapping[str, Array], spec: Spec, lineage: dict[str, Any]
    ) -> Adapted:
        """What ships: the encoder, and the head with the target's statistics folded in."""
        tuned = self.encoder.with_weights(of_encoder(parameters))
        head = self.settled(parameters).finish(parameters)
        evidence = self.evidence
        return Adapted(evidence.steps, (Member(tuned, head),), evidence.classes, spec, lineage)


def lay(
    backbone: Backbone, train: Windows, task: Task, options: AcrossDomains, seed: int
) -> Ground:
    """Sort the windows, bind the encoder, fit a head in closed form on all labels together.

    A backbone without weights to train gets a small network on its embedding
    (`edgegraft.adapt.feature_net`).
    """
    evidence = gather(train, task, options.normalise, per_domain=options.per_domain)
    pool = evidence.pool
    if len(pool) > MOST_POOL:
        kept = np.random.default_rng([seed, 19]).permutation(len(pool))[:MOST_POOL]
        evidence = replace(evidence, pool=pool.take(np.sort(kept)))
    own, sources = evidence.own, list(evidence.sources.values())
    bound = backbone.fit(own if len(own) else reduce(joined, sources), seed=seed)
    with torch_threads(options.threads):
        embedded = [bound.embed(windows.x) for windows in (own, *sources) if len(windows)]
    if not len(own):
        embedded.insert(0, embedded[0][:0])
    if isinstance(bound, Trainable):
        encoder: Trainable = bound
        prepared = [bound.prepare(w.x) if len(w) else w.x for w in (own, *sources)]
    else:
        encoder, prepared = feature_net(bound, embedded, seed=seed, per_domain=options.per_domain)
        embedded = prepared
    centres, scales = unit_scales(
        embedded, per_domain=options.per_domain, one_scale=encoder is not bound
    )
    n_labelled = len(evidence.target)
    sizes = [*map(len, sources), n_labelled]
    domains = np.repeat([*range(1, len(sources) + 1), 0], sizes)
    codes = np.concatenate([*(w.codes(evidence.classes) for w in sources), evidence.codes])
    z = np.concatenate([*embedded[1:], embedded[0][:n_labelled]])
    x = prepared[1:] + ([prepared[0][:n_labelled]] if n_labelled else [])
    width = np.sqrt(z.shape[1])
    ground = Ground(
        evidence=evidence,
        backbone=backbone,
        encoder=encoder,
        x=np.concatenate(x),
        codes=codes,
        domains=domains,
        own=prepared[0],
        centres=np.stack(centres),
        scales=np.stack(scales) * width,
        parameters={ENCODER + name: array for name, array in encoder.weights.items()},
        axes=principal_axes(
            np.concatenate(
                [(e - c) / s for e, c, s in zip(embedded, centres, scales, strict=True)]
            ),
            _MOST_AXES,
            seed=seed,
        ).astype(np.float32),
        per_domain=options.per_domain,
        seed=seed,
    )
    unit = (z - ground.centres[domains]) / ground.scales[domains]
    return replace(ground, parameters={**ground.parameters, **_head(ground, unit, options)})


def _head(ground: Ground, unit: Array, options: AcrossDomains) -> dict[str, Array]:
    """A ridge head on embeddings of unit scale, of the target's labels and the sources'."""
    weights = ground.weights(options.target_weight)
    groups = np.concatenate(
        [*(w.groups for w in ground.evidence.sources.values()), ground.evidence.target.groups]
    )
    known = len(set(groups.tolist()) - {""}) > 1
    ridge = fit_ridge(
        unit,
        ground.codes,
        len(ground.evidence.classes),
        groups=groups if known else None,
        weights=weights / weights.mean(),
        one_scale=isinstance(ground.encoder, FeatureNet),
    ).head
    return {f"{_OUT}.weight": ridge.weight, f"{_OUT}.bias": ridge.bias}


Extra = Callable[..., "Tensor"]
"""(parameters, `Step`) -> a term of the loss."""


@dataclass(frozen=True)
class Step:
    """What one step of training has computed.

    Attributes:
        domains: int (n_batch,), of the labelled windows of the batch; codes: their classes.
        unit, logits: of these, (n_batch, embedding_dim) and (n_batch, n_classes).
        own_unit, own_logits: of as many windows of the target; own_rows: which, int (n_own_batch,).
        share: what share of the steps is over, 0 to 1.
    """

    domains: Array
    codes: Tensor
    unit: Tensor
    logits: Tensor
    own_unit: Tensor
    own_logits: Tensor
    own_rows: Array
    share: float


def learn(
    ground: Ground,
    options: AcrossDomains,
    watch: Watch,
    *,
    parameters: Mapping[str, Array] | None = None,
    extra: Extra | None = None,
    smoothing: float = 0.0,
) -> Trained:
    """Train encoder and head on the labels of all domains, and on an extra term of the loss.

    Args:
        parameters: where to start; those of the ground unless given.
        extra: of a `Step`, which then also holds windows of the target without regard to labels.
        smoothing: share of each label that goes to all classes alike.
    """
    import torch

    changes = chosen(options.augmentation, ground.evidence.own.spec.kind)
    if isinstance(ground.encoder, FeatureNet):
        changes = ()  # features are no signal: what keeps the label of a window means nothing here
    weights = torch.from_numpy(ground.weights(options.target_weight))
    codes = torch.from_numpy(ground.codes)

    def loss(
        current: Mapping[str, Tensor], batch: Array, random: np.random.Generator, share: float
    ) -> Tensor:
        rows = random.integers(0, len(ground.own), len(batch)) if extra else batch[:0]
        x = np.concatenate([ground.x[batch], ground.own[rows]]) if len(rows) else ground.x[batch]
        domains = np.concatenate([ground.domains[batch], np.zeros(len(rows), dtype=np.int64)])
        unit, logits = looked_at(ground, current, changed(x, changes, random), domains, options,
                                 random)  # fmt: skip
        n = len(batch)
        total = loss_of(options.loss, logits[:n], codes[batch], weights[batch])
        if smoothing:
            even = -torch.log_softmax(logits[:n], dim=1).mean(dim=1)
            even = (even * weights[batch]).sum() / weights[batch].sum()
            total = (1 - smoothing) * total + smoothing * even
        if extra is None:
            return total
        step = Step(ground.domains[batch], codes[batch], unit[:n], logits[:n], unit[n:],
                    logits[n:], rows, share)  # fmt: skip
        return total + extra(current, step)

    lesson = Lesson(
        parameters or ground.parameters,
        len(ground.x),
        loss,
        pace=pace_of(ground),
        timed=True,
        steepest=_STEEPEST,
    )
    epochs = options.within_budget(len(ground.x))
    return train(lesson, replace(options, epochs=epochs), seed=ground.seed, watch=watch)


def learn_alone(
    backbone: Backbone,
    train: Windows,
    task: Task,
    options: AcrossDomains,
    name: str,
    *,
    seed: int,
    watch: Watch,
    smoothing: float = 0.0,
) -> tuple[Adapted, Windows | None]:
    """A model from all labels, and the target's windows that it is still to settle on, raw.

    None of these without a source, without any window of the target (the lineage says so,
    "fallback"), or after Ctrl-C.
    """
    ground = lay(backbone, train, task, options, seed)
    watch("train", {"strategy": name, "windows": len(ground.x), "own": len(ground.own)})
    trained = learn(ground, options, watch, smoothing=smoothing)
    lineage = lineage_across(name, options, ground, trained)
    model = ground.finish(trained.parameters, train.spec, lineage)
    if ground.lacks or trained.stopped == "interrupt":
        return model, None
    return model, joined(labelled_target(train), pool_of(train))


def looked_at(
    ground: Ground,
    current: Mapping[str, Tensor],
    x: Tensor,
    domains: Array,
    options: AcrossDomains,
    random: np.random.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Embeddings of unit scale and logits of prepared windows of these domains."""
    import torch

    z = ground.encoder.forward(of_encoder(current), x)
    shape = ground.shape(domains)
    centre, scale = (torch.tensor(v, dtype=torch.float32) for v in (shape.centre, shape.scale))
    unit = (z - centre) / scale
    seen = unit
    whole = isinstance(ground.encoder, FeatureNet)  # no principal component can be spared
    if random is not None and options.dropout and not whole:
        keep = random.random(tuple(z.shape), dtype=np.float32) >= options.dropout
        seen = unit * torch.tensor(keep.astype(np.float32) / np.float32(1 - options.dropout))
    return unit, seen @ current[f"{_OUT}.weight"] + current[f"{_OUT}.bias"]


def changed(x: Array, changes: tuple[Augmentation, ...], random: np.random.Generator) -> Tensor:
    """Prepared windows, varied."""
    import torch

    for change in changes:
        x = change(x, random)
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def pace_of(ground: Ground) -> Callable[[str, int], float]:
    """Learning rates: deep pretrained networks slowly, what judges the encoder fast.

    A classifier of domains that lags behind turns round gradients that mean nothing yet.
    """
    tempo = float(getattr(ground.encoder, "tempo", 1.0))

    def pace(name: str, epoch: int) -> float:
        if name.startswith(ENCODER):
            return tempo
        return 1.0 if name.startswith(HEAD) else _CRITIC_PACE

    return pace


def of_encoder(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder's own among named parameters, under the encoder's names."""
    return {k.removeprefix(ENCODER): v for k, v in parameters.items() if k.startswith(ENCODER)}


def embedded(encoder: Trainable, parameters: Mapping[str, Array], x: Array, threads: int) -> Array:
    """Embeddings float64 (n_windows, embedding_dim) of prepared windows."""
    import torch

    with torch_threads(threads), torch.no_grad():
        weights = {n: torch.from_numpy(np.array(a)) for n, a in of_encoder(parameters).items()}
        parts = [
            encoder.forward(weights, torch.from_numpy(np.array(x[i : i + 64]))).numpy()
            for i in range(0, len(x), 64)
        ]
    return np.asarray(np.concatenate(parts), dtype=np.float64)


def lineage_across(
    name: str, options: Any, ground: Ground, trained: Trained, **more: Any
) -> dict[str, Any]:
    """How the model came about, as plain JSON values."""
    evidence = ground.evidence
    return {
        **lineage_of(name, options, (ground.backbone,), ground.seed),
        "options": asdict(options),
        "evidence": {
            "labelled": len(evidence.target),
            "pool": len(evidence.pool),
            "sources": {source: len(windows) for source, windows in evidence.sources.items()},
            "unrelated": list(evidence.unrelated),
        },
        "fallback": ground.lacks,
        "training": {
            "stopped": trained.stopped,
            "epochs": trained.best_epoch,
            "history": [dict(entry) for entry in trained.history],
        },
        **more,
    }
