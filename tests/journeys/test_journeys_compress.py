"""From a run to something smaller that is a run like any other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgegraft import shipping, shrink, workflow
from edgegraft.adapt.probe import Probe
from edgegraft.cli.app import run as command
from edgegraft.compress import fit as fitting
from edgegraft.compress.distill import Distillation
from edgegraft.compress.fit import Search
from edgegraft.compress.prune import Pruning
from edgegraft.data.split import few_shot
from edgegraft.export import emulator
from edgegraft.recipe import Recipe
from edgegraft.tasks.classification import Classification
from edgegraft.versions import Shrinking
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge import bundle
from edgegraft_edge.errors import ExportError, OptionError

DATA = "synthetic:n=120,seed=1,noise=0.5"
QUICK = Distillation(steps=100, batch_size=32, copies=1, mixed=1)
SMALL = Shrinking(("int8", "distill"), distillation=QUICK)
PRUNED = Shrinking(
    ("int8", "prune", "qat", "distill"),
    distillation=QUICK,
    pruning=Pruning(rounds=1, recovery=Distillation(steps=50, batch_size=8)),
)


def made(folder, **recipe):
    """A run's folder with what `compress` reads of it, without the comparison of `adapt`."""
    windows = workflow.open_windows(DATA)
    if "labels_per_class" in recipe:
        windows = windows.take(few_shot(windows, recipe["labels_per_class"], seed=0))
    probe = Probe().adapt(load_backbone("statistics"), windows, Classification(), seed=0)
    packed = bundle.make(
        probe.program, probe.spec, probe.classes, golden=windows.x[:8], name=folder.name,
        lineage=probe.lineage,
    )  # fmt: skip
    folder.mkdir(parents=True)
    bundle.write(folder / "model.egb", packed)
    (folder / "recipe.toml").write_text(Recipe(data=DATA, **recipe).to_toml())
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("runs") / "walk")


@pytest.fixture(scope="module")
def small(run):
    out = run.parent / "small"
    with pytest.MonkeyPatch.context() as patch:  # cross compilers are for the slow tests
        patch.setattr(emulator, "missing", lambda: "left out")
        return shrink.compress(run, DATA, how=SMALL, out=out)


def test_versions_stand_side_by_side_on_windows_left_out(small):
    rows = {row["name"]: row for row in small.report["rows"]}
    assert list(rows) == ["float", "int8", "distilled", "distilled int8"]
    assert rows["float"]["gap"] is None
    for row in rows.values():
        assert row["low"] <= row["accuracy"] <= row["high"]
    gap = rows["distilled int8"]["gap"]
    apart = rows["distilled int8"]["accuracy"] - rows["float"]["accuracy"]
    assert gap["mean"] == pytest.approx(apart)
    assert rows["distilled int8"]["precision"] == "int8"
    assert "left out" in small.report["scored_on"]
    assert sum(row["ships"] for row in rows.values()) == 1


def test_what_ships_is_the_smallest_and_a_run_like_any_other(small, tmp_path):
    rows = small.report["rows"]
    ships = next(row for row in rows if row["ships"])
    assert ships["size_kib"] == min(row["size_kib"] for row in rows)
    assert {p.name for p in small.folder.iterdir()} == {
        "model.egb", "calibration.safetensors", "report.html", "report.json", "report.md",
    }  # fmt: skip
    loaded = shipping.load(small.folder)
    assert loaded.precision == ships["precision"] != "float"
    assert all(parity.status == "ok" for parity in shipping.verify(small.folder, ()))
    scored = workflow.evaluate(small.folder, "synthetic:n=60,seed=2,noise=0.5")
    assert scored.metrics["accuracy"] > 0.5
    assert loaded.manifest.lineage["compressed"]["version"] == ships["name"]
    page = (small.folder / "report.html").read_text()
    assert "Side by side" in page
    assert "<script" not in page


@pytest.mark.slow
def test_test_data_is_scored_and_nothing_left_out(run):
    found = shrink.compress(run, DATA, test="synthetic:n=60,seed=2,noise=0.5", how=PRUNED)
    assert "60 windows of test data" in found.report["scored_on"]
    rows = {row["name"]: row for row in found.report["rows"]}
    assert rows["distilled, pruned"]["size_kib"] < rows["distilled"]["size_kib"]
    smallest = min(row["size_kib"] for row in rows.values())
    assert rows[found.report["ships"]]["size_kib"] == smallest
    last = rows["distilled, pruned int8, trained in it"]
    assert last["precision"] == "int8"
    if not emulator.missing():
        assert last["counted"] == "linker"
        assert last["flash_kib"] > last["size_kib"]
    assert found.folder is None


@pytest.mark.slow
def test_a_student_that_fits_a_board(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "WIDTHS", (0.25, 0.5))
    out = tmp_path / "fits"
    argv = ["compress", str(run), "--data", DATA, "--methods", "int8", "--fit", "stm32l4"]
    argv += ["--flash", "24K", "--ram", "8K", "--latency", "20ms", "--out", str(out), "--json"]
    argv += ["-o", "distillation.steps=100", "-o", "search.steps=50", "-o", "search.candidates=3"]
    assert command(argv) == 0
    report = json.loads(capsys.readouterr().out)
    chosen = next(row for row in report["rows"] if row["ships"])
    assert chosen["name"] == "distilled int8"
    assert chosen["flash_kib"] <= 24
    assert chosen["ram_kib"] <= 8
    tried = [each for each in report["tried"] if each["agreement"] is not None]
    assert len(tried) >= 2
    assert "svg" in (out / "report.html").read_text()
    assert (out / "model.egb").exists()


def test_an_impossible_budget_ends_in_a_named_error(run, monkeypatch, capsys):
    monkeypatch.setattr(fitting, "WIDTHS", (0.25,))
    how = Shrinking(
        ("int8",), ram_kib=0.1, distillation=QUICK, search=Search(windows=(1.0,), decimates=(1,))
    )
    with pytest.raises(ExportError) as caught:
        shrink.compress(run, DATA, how=how)
    assert caught.value.code == "budget-impossible"
    assert "KiB of RAM" in str(caught.value)


def test_methods_that_there_are_not_are_named(run, capsys):
    with pytest.raises(OptionError) as caught:
        Shrinking(("int4", "distil"))
    assert len(caught.value.problems) == 2
    assert command(["compress", str(run), "--data", DATA, "--methods", "int4"]) == 2
    assert "method-unknown" in capsys.readouterr().err
    assert command(["compress", str(run), "--data", DATA, "--flash", "lots"]) == 2


def test_a_run_is_not_overwritten_and_int8_is_not_compressed_again(run, small):
    with pytest.raises(OptionError) as caught:
        shrink.compress(run, DATA, how=SMALL, out=run)
    assert caught.value.code == "folder-same"
    with pytest.raises(OptionError) as caught:
        shrink.compress(small.folder, DATA)
    assert caught.value.code == "precision-gone"


def test_a_model_that_does_not_say_how_it_came_about_needs_test_data(run):
    from dataclasses import replace

    source = shipping.load(run)
    stranger = replace(source, manifest=replace(source.manifest, lineage={}))
    with pytest.raises(OptionError) as caught:
        shrink.compress(stranger, DATA, how=SMALL)
    assert caught.value.code == "test-needed"


def test_labels_of_the_run_are_those_it_used(run, tmp_path):
    few = made(tmp_path / "few", labels_per_class=6)
    recipe = shrink._recipe(few)
    labelled, pool = shrink._material(recipe, shipping.load(few), DATA, "rest", {}, has_test=False)
    assert len(labelled) == 6 * len(labelled.classes)
    assert len(labelled) + len(pool) == 120
    assert not set(map(bytes, labelled.x)) & set(map(bytes, pool.x))
    assert np.array_equal(
        labelled.x,
        shrink._material(recipe, shipping.load(few), DATA, None, {}, has_test=False)[0].x,
    )
