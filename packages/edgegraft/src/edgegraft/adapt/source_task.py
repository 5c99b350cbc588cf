"""Source task first: where no pretrained model fits, train one on a task that the user has.

What comes out is a backbone as any other: weights with a card, to be adapted to the target task.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgegraft.adapt.finetune import FineTune
from edgegraft.adapt.network import Trainable, trainable
from edgegraft.adapt.strategy import Watch, unwatched
from edgegraft.catalog import find
from edgegraft.tasks.task import Task
from edgegraft.zoo.backbone import Backbone
from edgegraft_edge.errors import OptionError
from edgegraft_edge.signal import Windows


@dataclass(frozen=True)
class SourceTask(FineTune):
    """How a network learns its source task: all of it, from the weights that it has.

    Its head has a layer of its own, so that what only the source task needs collects there and
    not in the embedding (Chen et al., Big Self-Supervised Models, NeurIPS 2020).
    """

    epochs: int = field(default=10, metadata={"help": "passes over the training windows"})
    hidden: tuple[int, ...] = field(
        default=(64,), metadata={"help": "widths of added layers before the classes"}
    )
    learning_rate: float = field(
        default=2e-3, metadata={"help": "step size at the start; it falls along a cosine"}
    )
    held_out: float = field(
        default=0.1, metadata={"help": "share of windows held out for validation; 0: none"}
    )
    window_budget: int = field(
        default=60_000,
        metadata={"help": "most windows seen in one training: many windows, fewer epochs; 0: any"},
    )


def learn_source(
    backbone: Backbone,
    windows: Windows,
    task: Task,
    options: SourceTask | None = None,
    *,
    name: str = "own",
    data: str = "",
    licence: str = "as the data",
    seed: int = 0,
    watch: Watch = unwatched,
) -> Trainable:
    """Train a network on a labelled source task; its head is left behind.

    Args:
        backbone: a network, e.g. ``load_backbone("dense-28")``, with random weights or others.
        name, data, licence: for the card; `data` says what the source is.

    Errors: `OptionError` "backbone-fixed" for what has no weights, "backbone-file" for a network
    that no architecture can build again.

    >>> from edgegraft.tasks.classification import Classification
    >>> from edgegraft.testing.samples import sample_pictures
    >>> from edgegraft.zoo.registry import load_backbone
    >>> source = sample_pictures(28, 28)
    >>> start = load_backbone("dense-28")
    >>> learned = learn_source(start, source, Classification(), SourceTask(epochs=2), name="mine")
    >>> learned.card.kind, learned.card.name
    ('pretrained', 'mine')
    """
    network = trainable(backbone)
    card = network.card
    if not hasattr(find("architectures", card.architecture), "from_card"):
        raise OptionError.of(
            "backbone-file",
            f"the network of {card.name!r}",
            "it was read from a file of its own, and weights alone do not say what it is",
            "a network by its architecture, e.g. cifar-resnet20:random",
        )
    options = options or SourceTask()
    adapted = options.adapt(network, windows, task, seed=seed, watch=watch)
    tuned = trainable(adapted.members[0].backbone)
    training = adapted.lineage["training"]
    own = replace(
        card,
        name=name,
        summary=f"{card.architecture}, trained on {data or 'a source task of the user'}",
        kind="pretrained",
        licence=licence,
        data=data,
        recipe=f"edgegraft pretrain --backbone {card.name}: {training['epochs']} epochs",
        seed=seed,
        fetch="",
    )
    return tuned.with_card(own)
