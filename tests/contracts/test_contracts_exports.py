"""What runs where: backbone x head x exporter x precision passes, or stands as refused, and why."""

from __future__ import annotations

import pytest

from edgegraft import catalog
from edgegraft.testing import REFUSED, Refusal, check_exports
from edgegraft.testing.targets import HEADS, PRECISIONS, Cell
from edgegraft.zoo.registry import is_here, list_backbones, load_backbone
from edgegraft_edge.errors import EdgegraftError

NEEDS = {"executorch": "executorch", "litert": "ai_edge_litert", "onnx": "onnxruntime"}
EXPORTERS = catalog.names("exporters")
QUICK = ("onnx", "litert")
"""Exporters that take a fraction of a second; the others compile."""
LARGE = 1_000_000
"""Parameters above which nothing but the linear head is tried, and C not at all: such networks
run on no microcontroller, and their C takes a compiler minutes."""
EVERY_HEAD = ("micro-random", "conv1d-random")
"""Tried with every head where an export takes seconds; the others there with two."""

SIZES = sorted(list_backbones(), key=lambda card: -card.n_parameters)
SMALLEST = {card.architecture: card for card in SIZES}
SMALL = sorted(card.name for card in SMALLEST.values() if card.n_parameters < 100_000)
OTHERS = sorted(card.name for card in SMALLEST.values() if card.n_parameters >= 100_000)


def usable(name):
    """Skip where the runtime, or the compiler, is not installed."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"the runtime {name} is not installed")
    if name == "c":
        from edgegraft.export.c.host import compiler

        if compiler() is None:
            pytest.skip("no C compiler")


def loaded(name):
    card = next(card for card in list_backbones() if card.name == name)
    if "package" in card.options and not is_here(card):
        pytest.skip("the extra text, which carries its weights and words, is not installed")
    return load_backbone(name if is_here(card) else f"{name}:random")


@pytest.mark.parametrize("exporter", [name for name in EXPORTERS if name in QUICK])
@pytest.mark.parametrize("name", ["micro-random", "statistics", "tfidf"])
def test_small_backbones_go_to_quick_targets(name, exporter):
    usable(exporter)
    check_exports(loaded(name), exporters=[exporter], heads=("linear", "trees"))


def test_a_small_backbone_goes_to_c():
    usable("c")
    check_exports(loaded("micro-random"), exporters=["c"], heads=("linear",))


@pytest.mark.slow
@pytest.mark.parametrize("exporter", [name for name in EXPORTERS if name in QUICK])
@pytest.mark.parametrize("name", SMALL)
def test_every_small_backbone_with_every_head_goes_to_quick_targets(name, exporter):
    usable(exporter)
    check_exports(loaded(name), exporters=[exporter], heads=tuple(HEADS))


@pytest.mark.matrix
@pytest.mark.parametrize("exporter", [name for name in EXPORTERS if name not in QUICK])
@pytest.mark.parametrize("name", SMALL)
def test_every_small_backbone_goes_to_what_is_compiled(name, exporter):
    usable(exporter)
    every = name in EVERY_HEAD
    check_exports(
        loaded(name), exporters=[exporter], heads=tuple(HEADS) if every else ("linear", "trees")
    )


@pytest.mark.matrix
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", OTHERS)
def test_larger_backbones_go_to_every_target(name, exporter):
    usable(exporter)
    if exporter == "c" and SMALLEST[loaded(name).card.architecture].n_parameters > LARGE:
        pytest.skip("no microcontroller takes it")
    check_exports(loaded(name), exporters=[exporter], heads=("linear",))


def test_every_refusal_is_of_something_registered():
    cells = [
        Cell(architecture, head, exporter, precision)
        for architecture in SMALLEST
        for head in HEADS
        for exporter in EXPORTERS
        for precision in PRECISIONS
    ]
    assert [row for row in REFUSED if not any(row.covers(cell) for cell in cells)] == []
    assert all(row.reason and row.code for row in REFUSED)


class Refusing:
    """An exporter that cannot do anything."""

    def export(self, bundle):
        raise EdgegraftError.of("cannot", "a program", "nothing is known here", "another")


def test_a_cell_that_is_not_as_stated_is_told(monkeypatch):
    from edgegraft.testing import targets

    backbone = loaded("statistics")
    stale = Refusal("statistics", "linear", "onnx", "float", "some-code", "long ago")
    with pytest.raises(AssertionError, match="works, and stands as refused: long ago"):
        check_exports(
            backbone, heads=("linear",), exporters=["onnx"], precisions=["float"], refused=[stale]
        )
    monkeypatch.setattr(targets.catalog, "find", lambda group, name: Refusing)
    asked = {"heads": ("linear",), "exporters": ["mine"], "precisions": ["float"]}
    with pytest.raises(AssertionError, match="statistics x linear x mine x float"):
        check_exports(backbone, **asked, refused=[])
    stated = Refusal("*", "*", "mine", "*", "cannot", "it is new")
    check_exports(backbone, **asked, refused=[stated])
    with pytest.raises(AssertionError, match="1 cells"):
        check_exports(backbone, **asked, refused=[Refusal("*", "*", "mine", "*", "other", "why")])
