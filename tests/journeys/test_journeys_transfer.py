"""Few labels, a pool, and labelled data of other devices: from the command line to a bundle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import edgegraft as eg
from edgegraft.cli.app import run
from edgegraft.inputs import open_inputs
from edgegraft.recipe import Recipe
from edgegraft.shrink import compress
from edgegraft.tasks.classification import Classification
from edgegraft.versions import Shrinking
from edgegraft_edge.errors import DataError, EdgegraftError, OptionError

QUICK = {
    "backbone": "statistics",
    "strategy": "guard",
    "folds": 2,
    "options": {
        "guard.reference": "probe",
        "scratch.epochs": 1,
        "blend.copies": 0,
        "blend.n_trees": 10,
        "trees.n_trees": 10,
    },
}
SET = [word for name, value in QUICK["options"].items() for word in ("-o", f"{name}={value}")]
TYPED = ("--backbone", "statistics", "--strategy", "guard", "--folds", "2", *SET)


def people(seed, n=60):
    """Windows of people that no other seed has; the channels are named."""
    windows = eg.open_data(f"synthetic:n={n},seed={seed}").windows()
    return replace(windows, groups=np.array([f"{name} of {seed}" for name in windows.groups]))


def saved(path, windows, labels=True):
    given = {"y": windows.y} if labels else {}
    np.savez(path, x=windows.x, groups=windows.groups, rate_hz=windows.spec.rate_hz,
             channels=np.array(windows.spec.channel_names), **given)  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    (folder / "pool").mkdir()
    source = people(3)
    shuffled = replace(source, y=np.random.default_rng(0).permutation(source.y))
    return {
        "target": saved(folder / "target.npz", people(1)),
        "bare": saved(folder / "bare.npz", people(1), labels=False),
        "pool": str(folder / "pool") if saved(folder / "pool/a.npz", people(2), False) else "",
        "source": saved(folder / "source.npz", source),
        "shuffled": saved(folder / "shuffled.npz", shuffled),
        "test": saved(folder / "test.npz", people(4)),
    }


def answer(capsys, *arguments, code=0):
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def everything(places, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return eg.adapt(
        places["target"], labels_per_class=3, unlabelled="rest", test=places["test"], out=folder,
        source={"good": places["source"], "shuffled": places["shuffled"]}, **QUICK,
    )  # fmt: skip


def test_everything_at_once_counts_what_it_had_and_says_what_it_did_with_it(everything):
    summary = json.loads(json.dumps(everything.summary))
    assert summary["n_labelled"] == 9
    assert summary["beside"]["pool"]["n_windows"] == 51
    assert summary["beside"]["sources"]["good"]["n_windows"] == 60
    assert {effect["source"] for effect in summary["sources"]} == {"good", "shuffled"}
    assert sum(line["weight"] for line in summary["guard"]["experts"]) == pytest.approx(1, abs=0.01)
    assert summary["evaluation"]["on"] == "test data"
    assert summary["evaluation"]["metrics"]["accuracy"] > 0.7
    assert summary["transductive"] is False
    named = {(row["strategy"], row.get("source")) for row in summary["controls"]}
    assert {("pooled", "good"), ("pooled", "shuffled"), ("trees", None)} <= named


def test_source_with_shuffled_labels_is_named_and_kept_off(everything):
    by_name = {effect["source"]: effect for effect in everything.summary["sources"]}
    shuffled, good = by_name["shuffled"], by_name["good"]
    assert shuffled["before"]["mean"] < good["before"]["mean"]
    assert shuffled["before"]["mean"] < 0
    assert shuffled["after"]["mean"] >= shuffled["before"]["mean"]
    assert everything.summary["sources"][0]["sentence"].startswith("shuffled ")  # worst first


def test_report_shows_experts_pool_and_sources(everything):
    page = (everything.folder / "report.html").read_text()
    for word in (
        "Experts: what is served",
        "Pool and sources",
        "shuffled",
        "reference",
        "the pool",
    ):
        assert word in page
    text = (everything.folder / "report.md").read_text()
    assert "## Pool and sources" in text
    assert "| good" in text
    points = json.loads((everything.folder / "report.json").read_text())["embedding_map"]["points"]
    assert {point["domain"] for point in points} == {"target", "pool", "good", "shuffled"}
    assert all("correct" not in point for point in points if point["domain"] != "target")


def test_bundle_of_a_mixture_says_what_the_model_says_and_goes_on(everything, places, tmp_path):
    windows = people(4)
    loaded = eg.load(everything.folder)
    np.testing.assert_allclose(
        loaded.predict(windows).probabilities,
        everything.adapted.predict(windows).probabilities,
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    assert eg.evaluate(everything.folder, places["test"]).n == 60
    exported = eg.export(everything, format="onnx", precision="int8", out=tmp_path / "small.egb")
    assert exported.predict(windows).probabilities.shape == (60, 3)
    assert len(everything.calibration) > 9  # the pool is typical of the device, too


def test_recipe_does_it_again(everything, tmp_path, capsys):
    asked = Recipe.read(everything.folder / "recipe.toml")
    assert asked.unlabelled == "rest"
    assert set(asked.source) == {"good", "shuffled"}
    assert Recipe.from_toml(asked.to_toml()) == asked
    again = answer(capsys, "adapt", "--recipe", str(everything.folder / "recipe.toml"),
                   "--out", str(tmp_path / "again"))  # fmt: skip
    assert again["evaluation"]["metrics"] == everything.summary["evaluation"]["metrics"]
    assert again["candidates"][0]["metrics"] == everything.summary["candidates"][0]["metrics"]


@pytest.mark.slow
def test_compress_refits_with_pool_and_sources(everything, places):
    small = compress(everything.folder, places["target"], test=places["test"],
                     how=Shrinking(methods=("int8",)))  # fmt: skip
    assert small.bundle.precision in ("int8", "mixed")


def test_pool_of_another_place_and_its_names_on_the_command_line(places, tmp_path, capsys):
    found = answer(
        capsys, "adapt", places["target"], "--labels-per-class", "3", "--unlabelled",
        places["pool"], "--source", f"bench={places['source']}", *TYPED, "--out",
        str(tmp_path / "run"),
    )  # fmt: skip
    assert found["beside"] == {
        "pool": {"n_windows": 60, "n_groups": 6},
        "sources": {
            "bench": {
                "n_windows": 60, "n_groups": 6, "classes": {"circle": 24, "idle": 18, "shake": 18}
            }
        },
    }  # fmt: skip
    assert run(["adapt", places["target"], "--labels-per-class", "3", "--unlabelled",
                places["pool"], "--source", places["shuffled"], *TYPED]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "beside    60 windows in the pool, 60 of source 'shuffled' (3 classes)" in said
    assert "\nguard     " in said
    assert "\nsource    shuffled " in said


def test_target_without_labels_is_taught_by_sources(places, tmp_path, capsys):
    found = answer(
        capsys, "adapt", places["bare"], "--source", places["source"], "--test", places["test"],
        *TYPED, "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert found["verdict"] == "undecided"
    assert found["because"] == "the target has no labels, so nothing could be compared"
    assert found["n_labelled"] == 0
    assert found["shipped"]["strategy"] == "guard"
    assert found["guard"]["rule"] == "source-only"
    assert found["evaluation"]["metrics"]["accuracy"] > 0.5
    assert eg.load(tmp_path / "run").classes == ("circle", "idle", "shake")
    none = answer(
        capsys, "adapt", places["target"], "--labels-per-class", "0", "--source",
        places["source"], "--test", places["test"], *TYPED,
    )  # fmt: skip
    assert none["evaluation"]["metrics"] == found["evaluation"]["metrics"]


def test_scores_are_transductive_only_when_asked_and_then_it_is_said(places):
    task = Classification()
    given = {"unlabelled": places["pool"], "labels_per_class": 3, "test": places["test"]}
    usual = open_inputs(places["target"], task, **given)
    asked = open_inputs(places["target"], task, transductive=True, **given)
    assert len(usual.beside) == 60
    assert usual.notes == ()
    assert len(asked.beside) == 120
    assert not asked.beside.labelled.any()
    assert "transductive: 60 windows of the test data are in the pool" in asked.notes[0]


def test_what_test_data_holds_leaves_pool_and_sources(places):
    task, tested = Classification(), people(4)
    some = np.isin(tested.groups, sorted(set(tested.groups.tolist()))[:2])
    mixed = eg.Windows(
        np.concatenate([people(2).x, tested.x[some]]),
        np.concatenate([people(2).y, tested.y[some]]),
        np.concatenate([people(2).groups, tested.groups[some]]),
        tested.spec,
    )
    found = open_inputs(places["target"], task, unlabelled=mixed, test=tested)
    assert set(found.beside.groups.tolist()).isdisjoint(tested.groups.tolist())
    assert "as the test data holds their groups" in found.notes[0]
    nobody = replace(mixed, groups=np.full(len(mixed), ""))
    found = open_inputs(places["target"], task, unlabelled=nobody, test=tested)
    assert len(found.beside) == 60
    assert f"{int(some.sum())} windows of pool and sources" in found.notes[0]
    with pytest.raises(DataError, match="pool-tested"):
        open_inputs(places["target"], task, unlabelled=tested, test=tested)
    with pytest.raises(DataError, match="source-tested"):
        open_inputs(places["target"], task, sources={"s": tested}, test=tested)


def test_folds_are_tested_on_people_that_neither_pool_nor_sources_know():
    from edgegraft.data.split import folds
    from edgegraft.evaluate.compare import training_part

    found = open_inputs(people(1), Classification(), unlabelled="rest", labels_per_class=4,
                        sources={"same people": people(1)})  # fmt: skip
    for fold in folds(found.windows, 3, seed=0):
        train = training_part(found.windows, found.beside, fold)
        tested = found.windows.take(fold.test)
        assert set(train.groups.tolist()).isdisjoint(tested.groups.tolist())
        assert len(train) > len(fold.train)


@pytest.mark.parametrize(
    ("arguments", "codes", "exit_code"),
    [
        (("--unlabelled", "rest"), ["rest-empty"], 3),
        (("--unlabelled", "nowhere.npz"), ["file-missing"], 3),
        (("--unlabelled", "nowhere.npz", "--source", "gone.npz"), ["file-missing"] * 2, 3),
        (("--source", "{bare}"), ["source-unlabelled"], 3),
        (("--source", "a={short}", "--source", "b={two}"), ["window-length", "channel-missing"], 3),
        (("--unlabelled", "{empty}"), None, 3),
        (("--transductive",), ["transductive-test"], 2),
        (("--unlabelled", "rest", "--labels-per-class", "0"), ["labels-range"], 2),
        (("--unlabelled", "{pool}", "--task", "anomaly"), ["task-transfer"], 2),
        (("--source", "{source}", "--labels-per-class", "0", "--strategy", "probe"),
         ["strategy-labels"], 2),
        (("--test", "{bare}"), ["test-unlabelled"], 3),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_what_does_not_fit_is_said_with_a_code(
    arguments, codes, exit_code, places, tmp_path, capsys
):
    windows = people(5)
    more = {
        "short": saved(tmp_path / "short.npz", eg.Windows.of(
            windows.x[:, :, :50], windows.y, windows.groups, windows.spec.rate_hz,
            windows.spec.channel_names)),
        "two": saved(tmp_path / "two.npz", eg.Windows.of(
            windows.x[:, :2], windows.y, windows.groups, windows.spec.rate_hz,
            windows.spec.channel_names[:2])),
        "empty": saved(tmp_path / "empty.npz", windows.take(np.arange(0))),
    }  # fmt: skip
    typed = [text.format(**places, **more) if "{" in text else text for text in arguments]
    found = answer(capsys, "adapt", places["target"], *typed, code=exit_code)["error"]
    assert found["exit_code"] == exit_code
    if codes is not None:
        assert [problem["code"] for problem in found["problems"]] == codes


def test_pool_and_source_need_not_have_the_columns_that_are_named(tmp_path):
    rng = np.random.default_rng(0)

    def table(path, head, columns):
        rows = "\n".join(",".join(map(str, row)) for row in zip(*columns, strict=True))
        path.write_text(f"{head}\n{rows}\n")
        return str(path)

    n = 600
    time, x = np.arange(n) / 50, rng.normal(size=n).round(3)
    told, who = np.repeat(["a", "b"], n // 2), np.tile(np.repeat(["p", "q"], n // 4), 2)
    target = table(tmp_path / "target.csv", "timestamp,x,doing,who", [time, x, told, who])
    pool = table(tmp_path / "pool.csv", "timestamp,x", [time, x])
    source = table(tmp_path / "source.csv", "timestamp,x,doing", [time, x, told])
    options = {"label": "doing", "group": "who", "window_s": 1.0}
    found = open_inputs(target, Classification(), unlabelled=pool, sources={"s": source},
                        options=options)  # fmt: skip
    assert int(found.beside.at_target.sum()) > 0
    assert set(found.beside.classes) == {"a", "b"}
    with pytest.raises(DataError, match="column-missing"):
        open_inputs(target, Classification(), sources={"s": pool}, options=options)


def test_killed_run_resumes_with_the_same_pool_and_starts_anew_with_another(places, tmp_path):
    out = tmp_path / "run"
    asked = {"labels_per_class": 3, "unlabelled": places["pool"], "source": [places["source"]],
             "out": str(out), "curve": False, **QUICK}  # fmt: skip
    script = (
        "import edgegraft as eg\n"
        "def watch(event, values):\n"
        "    if event == 'fold': print('fold', flush=True)\n"
        f"eg.adapt({places['target']!r}, watch=watch, **{asked!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        assert process.stdout.readline().strip() == "fold"
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name for path in (out / "work").glob("*.kept")}
    assert len(kept) >= 4
    times = {path.name: path.stat().st_mtime_ns for path in (out / "work").glob("*.kept")}
    seen = {}

    def watch(event, values):
        if event == "stage" and values["name"] == "fit":
            seen.update({p.name: p.stat().st_mtime_ns for p in (out / "work").glob("*.kept")})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eg.adapt(places["target"], watch=watch, **asked)
    assert {name: seen[name] for name in times} == times
    with pytest.raises(KeyboardInterrupt):
        eg.adapt(places["target"], watch=watch, **{**asked, "unlabelled": "rest"})
    assert all(seen[name] != times[name] for name in times if name in seen)


def test_old_recipes_still_load_and_new_ones_are_checked():
    old = Recipe.from_toml('data = "d"\nlabels_per_class = 5\n')
    assert (old.unlabelled, old.source, old.transductive) == (None, {}, False)
    assert "transductive" not in old.to_toml()
    with pytest.raises(OptionError, match="option-value"):
        Recipe.from_toml('data = "d"\n[source]\na = 3\n')
    with pytest.raises(OptionError, match="labels-range"):
        Recipe(data="d", labels_per_class=0)
    assert Recipe(data="d", labels_per_class=0, source={"a": "b"}).labels_per_class == 0


def test_estimator_learns_from_a_pool_and_from_domains():
    windows, other = people(1), people(3)
    few = np.concatenate([np.flatnonzero(windows.y == name)[:2] for name in windows.classes])
    y = np.full(len(windows), -1)
    codes = np.unique(windows.y, return_inverse=True)[1] + 5
    y[few] = codes[few]
    model = eg.TransferClassifier("statistics", "spread").fit(windows.x, y)
    assert model.classes_.tolist() == [5, 6, 7]
    assert np.mean(model.predict(windows.x) == codes) > 0.8
    probe = eg.TransferClassifier("statistics", "probe").fit(windows.x, np.where(codes < 6, -1, 1))
    assert probe.classes_.tolist() == [-1, 1]  # a class like any other, where no pool is used
    x = np.concatenate([windows.x, other.x])
    labels = np.concatenate([np.full(len(windows), ""), other.y])
    domains = np.array([""] * len(windows) + ["other"] * len(other))
    taught = eg.TransferClassifier("statistics", "standardise").fit(x, labels, domains=domains)
    assert taught.classes_.tolist() == list(windows.classes)
    assert np.mean(taught.predict(windows.x) == windows.y) > 0.5
    with pytest.raises(EdgegraftError):
        eg.TransferClassifier("statistics", "spread").fit(windows.x, np.full(len(windows), -1))
