"""The commands themselves, from data to a verified, signed bundle, with what they print."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from edgegraft.cli.app import run
from edgegraft.recipe import Recipe
from edgegraft_edge import bundle as bundles

QUICK = ("-o", "scratch.epochs=1", "-o", "blend.copies=0", "-o", "blend.n_trees=10")


def answer(capsys, *arguments, code=0):
    """The one JSON object that a command writes; nothing else may stand on stdout."""
    assert run([*arguments, "--json"]) == code
    said = capsys.readouterr()
    assert said.out.count("\n") == 1
    return json.loads(said.out)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    arguments = ["adapt", "synthetic:n=48,seed=1", "--test", "synthetic:n=30,seed=2"]
    arguments += ["--backbone", "statistics", "--strategy", "probe", "--folds", "2", *QUICK]
    assert run([*arguments, "-o", "probe.balanced=true", "--out", str(folder)]) == 0
    return folder


def test_adapt_leaves_a_whole_run(adapted):
    names = {path.name for path in adapted.iterdir()}
    assert {"model.egb", "report.html", "report.md", "report.json", "recipe.toml"} <= names
    assert "work" not in names


def test_adapt_repeats_its_recipe_exactly(adapted, tmp_path, capsys):
    recipe = str(adapted / "recipe.toml")
    found = answer(capsys, "adapt", "--recipe", recipe, "--out", str(tmp_path / "again"))
    assert found["verdict"] in {"helped", "hurt", "undecided"}
    assert set(found["shipped"]) >= {"backbone", "strategy"}
    assert len(found["controls"]) >= 3
    assert found["seconds"] > 0
    first, second = (bundles.read(place / "model.egb") for place in (adapted, tmp_path / "again"))
    assert first.program.as_dict() == second.program.as_dict()
    for name, constant in first.program.constants.items():
        assert np.array_equal(constant, second.program.constants[name])


def test_evaluate_prints_metrics_for_people_and_programs(adapted, capsys):
    found = answer(capsys, "evaluate", str(adapted), "synthetic:n=30,seed=3")
    assert found["n"] == 30
    assert {"accuracy", "macro_f1", "log_loss"} <= set(found["metrics"])
    assert run(["evaluate", str(adapted / "model.egb"), "synthetic:n=30,seed=3"]) == 0
    said = capsys.readouterr().out
    assert f"accuracy             {found['metrics']['accuracy']:.3f}" in said


def ready(path, **changed):
    """Made-up windows as an .npz file, with some arrays changed."""
    import edgegraft as eg

    windows = eg.open_data("synthetic:n=30,seed=3").windows()
    arrays = {
        "x": windows.x, "y": windows.y, "groups": windows.groups,
        "rate_hz": windows.spec.rate_hz, "channels": list(windows.spec.channel_names),
    }  # fmt: skip
    np.savez(path, **(arrays | changed))
    return str(path)


def test_evaluate_says_what_was_set_aside_and_which_labels_the_model_does_not_know(
    adapted, tmp_path, capsys
):
    import edgegraft as eg

    windows = eg.open_data("synthetic:n=30,seed=3").windows()
    x, y = windows.x.copy(), windows.y.astype("<U9")
    x[3, :, 5:9], y[7] = np.nan, "shakke"
    data = ready(tmp_path / "new.npz", x=x, y=y)
    units = ["--units", "acc_x=m/s2,acc_y=m/s2,acc_z=m/s2"]
    assert run(["evaluate", str(adapted), data, *units]) == 0
    said = capsys.readouterr()
    assert "1 of 30 rows were set aside" in said.err
    assert "warning" in said.out
    assert "shakke" in said.out


def test_adapt_warns_of_rows_set_aside_and_counts_windows_without_labels(tmp_path, capsys):
    import edgegraft as eg

    x = eg.open_data("synthetic:n=30,seed=3").windows().x.copy()
    x[3, :, 5:9] = np.nan
    data = ready(tmp_path / "train.npz", x=x)
    quick = ["--backbone", "statistics", "--strategy", "probe", "--folds", "2", *QUICK]
    found = answer(capsys, "adapt", data, *quick)
    assert found["warnings"][0].startswith("1 of 30 rows were set aside (value-missing 1)")
    assert found["run"] is None
    bare = ready(tmp_path / "bare.npz", y=np.full(30, ""))
    refused = answer(capsys, "adapt", bare, *quick, code=3)["error"]["problems"][0]
    assert refused["found"] == "none of 30 windows carries a label"


def test_predict_writes_a_row_for_each_window(adapted, tmp_path, capsys):
    out = tmp_path / "said.csv"
    found = answer(capsys, "predict", str(adapted), "synthetic:n=12,seed=4", "--out", str(out))
    assert found["n"] == 12 == sum(found["counts"].values())
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [int(row["window"]) for row in rows] == list(range(12))
    assert len({(row["recording"], row["start_s"]) for row in rows}) == 12
    for row in rows:
        scores = {name: float(row[name]) for name in ("circle", "idle", "shake")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
        assert row["label"] == max(scores, key=scores.get)


def test_export_signed_and_verify_with_the_right_key_only(adapted, tmp_path, capsys):
    for name in ("mine", "other"):
        answer(capsys, "keys", "new", "--out", str(tmp_path), "--name", name)
    bundle = str(tmp_path / "shipped.egb")
    private, public = (str(tmp_path / f"mine.{kind}.pem") for kind in ("private", "public"))
    found = answer(capsys, "export", str(adapted), "--out", bundle, "--key", private)
    assert found["runtimes"] == ["numpy", "onnx"]
    verified = answer(capsys, "verify", bundle, "--key", public)
    assert verified["ok"] is True
    assert [row["runtime"] for row in verified["runtimes"]] == ["numpy", "onnx"]
    other = str(tmp_path / "other.public.pem")
    refused = answer(capsys, "verify", bundle, "--key", other, code=4)
    assert refused["error"]["code"] == "signature-key"


def test_verify_says_one_when_a_runtime_disagrees(adapted, tmp_path, capsys):
    from edgegraft.export.onnx import emit
    from edgegraft_edge.program import Draft

    bundle = bundles.read(adapted / "model.egb")
    draft = Draft()
    flat = draft.add("mean", "x", axes=[2])
    wrong = draft.finish(draft.add("softmax", draft.add("reshape", flat, shape=[-1])))
    model = emit(wrong, bundle.spec.n_channels, bundle.spec.n_timepoints)
    path = bundles.write(tmp_path / "wrong.egb", bundles.with_model(bundle, "onnx", model))
    found = answer(capsys, "verify", str(path), code=1)
    assert found["ok"] is False
    assert {row["runtime"]: row["status"] for row in found["runtimes"]} == {
        "numpy": "ok",
        "onnx": "differs",
    }


def test_models_are_listed_shown_and_ranked(capsys):
    listed = answer(capsys, "models", "list")["models"]
    assert {"minirocket", "statistics", "spectrum"} <= {row["name"] for row in listed}
    card = answer(capsys, "models", "show", "minirocket")
    assert card["licence"] == "Apache-2.0"
    ranking = answer(capsys, "models", "recommend", "synthetic:n=30,seed=1")["ranking"]
    losses = [row["log_loss"] for row in ranking if row["log_loss"] is not None]
    assert ranking[0]["backbone"] == "minirocket"  # the reference, as nothing outweighs it
    assert losses[1:] == sorted(losses[1:])
    assert len(losses) >= 3
    other = answer(capsys, "models", "recommend", "synthetic:n=30,seed=1", "--by", "logme")
    values = [row["logme"] for row in other["ranking"] if row["logme"] is not None]
    assert values == sorted(values, reverse=True)
    assert len(values) >= 3
    assert answer(capsys, "models", "recommend", "synthetic:n=30", "--by", "x", code=2)
    assert run(["models", "show", "minirokcet"]) == 2
    assert "try:  minirocket" in capsys.readouterr().err


def test_doctor_says_one_on_trouble_and_accounts_for_rows(tmp_path, capsys):
    found = answer(capsys, "doctor", "synthetic:n=48")
    assert found["trouble"] is False
    assert found["rows"]["rows_in"] == found["rows"]["accepted"] == 48
    x = np.random.default_rng(0).normal(size=(20, 2, 32)).astype(np.float32)
    np.savez(tmp_path / "one.npz", x=x, y=["walk"] * 20, rate_hz=50.0)
    one = str(tmp_path / "one.npz")
    assert answer(capsys, "doctor", one, code=1)["trouble"] is True
    leaking = answer(capsys, "doctor", "synthetic:n=48", "--test", "synthetic:n=48", code=1)
    assert leaking["findings"]


def test_pretrain_writes_weights_that_adapt_takes(tmp_path, capsys):
    out = tmp_path / "own.safetensors"
    quick = ("-o", "epochs=1", "-o", "rows=16")
    found = answer(capsys, "pretrain", "synthetic:n=30,seed=1", *quick, "--out", str(out))
    assert found["card"]["kind"] == "pretrained"
    assert out.exists()
    assert out.with_suffix(".toml").exists()
    assert not out.with_suffix(".part").exists()
    assert answer(capsys, "models", "show", str(out))["checksum"] == found["card"]["checksum"]


def test_list_options_names_every_strategy_and_field(capsys):
    assert run(["adapt", "--list-options"]) == 0
    said = capsys.readouterr().out
    for text in ("probe.head=ridge", "finetune.epochs=", "gradual.", "scratch.", "trees.n_trees="):
        assert text in said


def test_what_is_typed_goes_before_the_recipe(adapted, tmp_path, capsys):
    recipe = str(adapted / "recipe.toml")
    out = str(tmp_path / "other")
    arguments = ("adapt", "synthetic:n=36,seed=9", "--recipe", recipe, "--out", out)
    assert answer(capsys, *arguments, "--seed", "7", "--purity", "0.75")["n_labelled"] == 36
    asked, now = (Recipe.read(place / "recipe.toml") for place in (adapted, tmp_path / "other"))
    assert (now.seed, now.data_options) == (7, {"purity": 0.75})
    assert (now.backbone, now.folds, now.options) == (asked.backbone, asked.folds, asked.options)


@pytest.mark.slow
def test_demo_goes_the_whole_way_within_a_minute(tmp_path, capsys):
    pytest.importorskip("aeon", reason="the demo extra is not installed")
    found = answer(capsys, "demo", "--out", str(tmp_path / "demo"))
    assert found["verified"] == {"numpy": "ok", "onnx": "ok"}
    assert found["stream"]["events"] == 40
    assert found["stream"]["right"] >= 34
    assert found["evaluation"]["n"] == 40
    assert found["total_seconds"] < 60
    assert (tmp_path / "demo" / "report.html").exists()
