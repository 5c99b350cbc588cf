"""`adapt` from data to a run folder, in Python, quickly: fixed features only."""

import json
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import edgegraft as eg
from edgegraft.recipe import Recipe
from edgegraft.zoo.conv1d import Conv1d
from edgegraft_edge.errors import DataError, OptionError

QUICK = {"backbone": "statistics", "strategy": "probe", "folds": 3,
         "options": {"scratch.epochs": 1}}  # fmt: skip
DATA = "synthetic:n=90,seed=1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return eg.adapt(DATA, out=tmp_path_factory.mktemp("run"), **QUICK)


def test_run_folder_holds_bundle_report_and_recipe(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "calibration.safetensors",
        "model.egb",
        "recipe.toml",
        "report.html",
        "report.json",
        "report.md",
    }
    report = json.loads((run.folder / "report.json").read_text())
    assert report["verdict"]["outcome"] in {"helped", "hurt", "undecided"}
    assert {row["backbone"] for row in report["rows"]} >= {"minirocket", "statistics"}


def test_run_bundle_says_what_the_adapted_model_says(run):
    windows = eg.open_data(DATA).windows()
    loaded = eg.load(run.folder)
    np.testing.assert_allclose(
        loaded.predict(windows).probabilities,
        run.adapted.predict(windows).probabilities,
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


def test_run_summary_has_what_scripts_read(run):
    summary = json.loads(json.dumps(run.summary))
    assert summary["verdict"] in {"helped", "hurt", "undecided"}
    assert set(summary["shipped"]) >= {"backbone", "strategy"}
    assert {row["strategy"] for row in summary["controls"]} >= {"probe", "trees", "scratch"}
    assert summary["seconds"] > 0


def test_run_is_reproduced_by_its_recipe(run, tmp_path):
    recipe = Recipe.read(run.folder / "recipe.toml")
    again = eg.adapt(
        recipe.data, backbone=recipe.backbone, strategy=recipe.strategy, folds=recipe.folds,
        seed=recipe.seed, options=recipe.options, curve=False,
    )  # fmt: skip
    assert again.bundle.manifest.files["program.json"] == run.bundle.manifest.files["program.json"]
    assert (
        again.bundle.manifest.files["tensors.safetensors"]
        == (run.bundle.manifest.files["tensors.safetensors"])
    )


def test_evaluate_and_predict_by_run_folder(run):
    scored = eg.evaluate(run.folder, "synthetic:n=60,seed=9")
    assert scored.n == 60
    assert scored.metrics["accuracy"] > 0.7
    assert eg.predict(run.folder, "synthetic:n=60,seed=9").probabilities.shape == (60, 3)


def test_groups_never_straddle_the_comparison():
    seen = []
    windows = eg.open_data(DATA).windows()
    from edgegraft.data.split import folds

    for fold in folds(windows, 3, seed=0):
        seen.append(set(windows.groups[fold.train]) & set(windows.groups[fold.test]))
    assert seen == [set()] * 3


def test_one_label_per_class_still_ships_and_says_undecided():
    run = eg.adapt(DATA, labels_per_class=1, **QUICK)
    assert run.summary["verdict"] == "undecided"
    assert run.summary["evaluation"] is None
    assert run.summary["warnings"]


def test_class_in_one_group_only_is_compared_without_groups_and_said():
    windows = eg.open_data(DATA).windows()
    owner = {label: f"machine {label}" for label in windows.classes}
    alone = replace(windows, groups=np.array([owner[label] for label in windows.y]))
    run = eg.adapt(alone, curve=False, **QUICK)
    assert run.summary["controls"]
    assert any("flatter" in note for note in run.summary["warnings"])


def test_test_data_is_bound_to_the_training_data_by_name(run):
    windows = eg.open_data("synthetic:n=60,seed=9").windows()
    order = [2, 0, 1]
    spec = replace(windows.spec, channels=tuple(windows.spec.channels[i] for i in order))
    turned = replace(windows, x=windows.x[:, order], spec=spec)
    here, there = (eg.adapt(DATA, test=test, curve=False, **QUICK) for test in (windows, turned))
    assert here.summary["evaluation"] == there.summary["evaluation"]
    assert here.summary["evaluation"]["on"] == "test data"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w: eg.Windows.of(np.zeros((4, 7, 100)), y=list("abab")), "channel-count"),
        (lambda w: replace(w, x=w.x[:, :, :64]), "test-differs"),
        (lambda w: replace(w, spec=replace(w.spec, rate_hz=100.0)), "rate-mismatch"),
        (
            lambda w: replace(
                w, spec=replace(w.spec, channels=tuple(map(eg.Channel, ("x", "acc_y", "acc_z"))))
            ),
            "channel-missing",
        ),
    ],
)
def test_test_data_of_another_kind_is_refused(change, code):
    with pytest.raises(DataError, match=code):
        eg.adapt(DATA, test=change(eg.open_data(DATA).windows()), **QUICK)


def test_windows_too_short_for_some_backbones_are_compared_without_them():
    windows = eg.open_data("synthetic:n=60,seed=1,rate_hz=3").windows()
    assert windows.x.shape[2] == 6  # MiniRocket needs nine
    run = eg.adapt(windows, folds=2, options={"scratch.epochs": 1, "finetune.epochs": 1,
                                              "gradual.epochs": 1})  # fmt: skip
    assert "minirocket" not in {row["backbone"] for row in run.summary["controls"]}
    assert "minirocket" not in run.adapted.lineage["backbones"]
    assert run.bundle.predict(windows).probabilities.shape == (60, 3)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"backbone": "minirokcet"}, "backbone-unknown"),
        ({"strategy": "prob"}, "name-unknown"),
        ({"options": {"probe.hed": 1}}, "option-unknown"),
        ({"folds": 1}, "folds-range"),
        ({"folds": "group"}, "folds-range"),
        ({"labels_per_class": 0}, "labels-range"),
    ],
)
def test_misspelt_requests_are_refused_with_the_nearest(change, code):
    with pytest.raises(OptionError) as caught:
        eg.adapt(DATA, **(QUICK | change))
    assert caught.value.code == code


def test_killed_run_resumes_where_it_was(tmp_path):
    script = (
        "import edgegraft as eg, sys\n"
        "def watch(event, values):\n"
        "    if event == 'fold': print('fold', flush=True)\n"
        f"eg.adapt({DATA!r}, out={str(tmp_path / 'run')!r}, watch=watch, curve=False,"
        f" **{QUICK!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        assert process.stdout.readline().strip() == "fold"
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = list((tmp_path / "run/work").glob("*.kept"))
    assert len(kept) >= 4
    before = {path.name: path.stat().st_mtime_ns for path in kept}
    time.sleep(0.01)
    seen = {}

    def watch(event, values):
        if event == "stage" and values["name"] == "fit":
            seen.update(
                {path.name: path.stat().st_mtime_ns
                 for path in (tmp_path / "run/work").glob("*.kept")}
            )  # fmt: skip

    resumed = eg.adapt(DATA, out=tmp_path / "run", watch=watch, curve=False, **QUICK)
    assert {name: seen[name] for name in before} == before
    fresh = eg.adapt(DATA, curve=False, **QUICK)
    assert resumed.summary["candidates"][0]["metrics"] == fresh.summary["candidates"][0]["metrics"]
    assert not (tmp_path / "run/work").exists()


def test_ctrl_c_in_the_last_training_keeps_the_best_so_far_and_finishes(tmp_path):
    last = False

    def watch(event, values):
        nonlocal last
        last |= event == "stage" and values["name"] == "fit"
        if last and event == "epoch" and values["epoch"] == 2:
            raise KeyboardInterrupt

    options = {"gradual.epochs": 1, "finetune.epochs": 5, "scratch.epochs": 1}
    run = eg.adapt(DATA, backbone="conv1d-random", strategy="finetune", folds=2, options=options,
                   curve=False, labels_per_class=6, watch=watch, out=tmp_path / "run")  # fmt: skip
    if run.summary["shipped"]["strategy"] != "finetune":
        pytest.fail("the control won on this data: choose other windows for this test")
    assert run.adapted.lineage["training"]["stopped"] == "interrupt"
    assert (run.folder / "model.egb").exists()


def test_resuming_never_takes_what_other_weights_said(tmp_path):
    first, second = (
        replace(encoder, card=replace(encoder.card, name="own", kind="pretrained"))
        for encoder in (Conv1d.random(1), Conv1d.random(2))
    )
    options = {"strategy": "probe", "folds": 2, "options": {"scratch.epochs": 1}, "curve": False}

    def stop(event, values):
        if event == "stage" and values["name"] == "fit":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eg.adapt(DATA, backbone=first, out=tmp_path / "run", watch=stop, **options)
    assert list((tmp_path / "run/work").glob("*.kept"))
    resumed = eg.adapt(DATA, backbone=second, out=tmp_path / "run", **options)
    fresh = eg.adapt(DATA, backbone=second, **options)
    assert resumed.summary["candidates"][0]["metrics"] == fresh.summary["candidates"][0]["metrics"]


def test_recipe_of_other_keys_is_refused_whole():
    with pytest.raises(OptionError) as caught:
        Recipe.from_toml("sed = 1\n")
    assert {problem.code for problem in caught.value.problems} == {"option-unknown", "recipe-data"}
    for wrong in ('folds = "five"', "seed = 1.5", "options = 3", "backbone = 1"):
        with pytest.raises(OptionError) as caught:
            Recipe.from_toml(f'data = "d"\n{wrong}\n')
        assert caught.value.code in {"option-value", "folds-range"}
    with pytest.raises(OptionError, match="recipe-damaged"):
        Recipe.from_toml("data = [")


def test_recipe_survives_toml(tmp_path):
    recipe = Recipe("d", None, "auto", "blend", 5, 4, 3, {"rate_hz": 50.0}, {"blend.copies": 0})
    text = recipe.to_toml()
    assert tomllib.loads(text)["options"] == {"blend.copies": 0}
    assert Recipe.from_toml(text) == recipe


def test_estimator_in_cross_val_score_and_pipeline():
    windows = eg.open_data(DATA).windows()
    x, y = (
        windows.x,
        np.array([{"idle": 3, "shake": 10, "circle": 7}[label] for label in windows.y]),
    )
    model = eg.TransferClassifier("statistics", "probe")
    scores = cross_val_score(model, x, y, cv=3)
    assert scores.min() > 0.6
    pipeline = make_pipeline(FunctionTransformer(lambda x: x * 2.0), model).fit(x, y)
    assert set(pipeline.predict(x)) <= {3, 7, 10}
    np.testing.assert_allclose(pipeline.predict_proba(x).sum(axis=1), 1, atol=1e-5)
    assert model.get_params()["backbone"] == "statistics"


def test_estimator_refuses_what_is_not_a_number():
    x = np.zeros((6, 2, 40))
    x[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="windows-not-finite"):
        eg.TransferClassifier("statistics", "probe").fit(x, [0, 1] * 3)
    good = np.random.default_rng(0).normal(size=(6, 2, 40))
    model = eg.TransferClassifier("statistics", "probe").fit(good, [0, 1] * 3)
    with pytest.raises(DataError, match="windows-not-finite"):
        model.predict(x)


def test_what_test_data_shares_with_training_is_said():
    windows = eg.open_data(DATA).windows()
    people = sorted(set(windows.groups.tolist()))
    apart = np.isin(windows.groups, people[:3])
    quick = QUICK | {"folds": 2, "curve": False}
    said = eg.adapt(windows, test=windows, **quick).summary["warnings"]
    assert said[0] == f"in training and in test, so the scores flatter: {', '.join(people)}"
    clean = eg.adapt(windows.take(apart), test=windows.take(~apart), **quick)
    assert not clean.summary["warnings"]
    nobody = replace(windows, groups=np.full(len(windows), ""))
    said = eg.adapt(nobody, test=nobody.take(np.arange(7)), **quick).summary["warnings"]
    assert said == ["7 test windows are in training too, so the scores flatter"]
