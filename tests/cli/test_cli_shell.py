"""The shell around the commands: fast, lazy, clean when interrupted, clear when wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from edgegraft.cli.app import COMMANDS, cli, run
from edgegraft.cli.output import plain, show
from edgegraft.cli.progress import Progress, sparkline

HEAVY = ("torch", "sklearn", "numba", "matplotlib", "pyarrow", "scipy", "onnx", "numpy", "rich")


def fresh(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def walk(command: click.Command, path: tuple[str, ...] = ()):
    """Every command with its path."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=" ".join(path))
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


def test_help_is_fast_and_loads_nothing_heavy():
    code = (
        "import sys; from edgegraft.cli.app import run; code = run(['--help'])\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules], code)"
    )
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = fresh(code)
        times.append(time.perf_counter() - began)
    assert "LOADED [] 0" in done.stdout
    assert "adapt" in done.stdout
    assert min(times) < 0.3


def test_listing_options_of_a_command_loads_no_training_code():
    code = (
        "import sys; from edgegraft.cli.app import run; run(['adapt', '--help'])\n"
        "print('LOADED', [n for n in ('torch', 'sklearn', 'numba', 'pyarrow') if n in sys.modules])"
    )
    assert "LOADED []" in fresh(code).stdout


def test_short_help_of_the_list_is_that_of_the_command():
    for path, command in walk(cli):
        if isinstance(command, click.Group):
            for name, (_, summary) in command.lazy.items():
                child = command.get_command(click.Context(command), name)
                assert child.help.splitlines()[0] == summary, (*path, name)


def test_every_command_has_help_for_every_option():
    seen = 0
    for path, command in walk(cli):
        assert command.help, path
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (*path, option.name)
                seen += 1
    assert seen > 50
    assert set(COMMANDS) >= {"demo", "doctor", "models", "pretrain", "adapt", "evaluate"}


def test_commands_that_answer_have_json():
    for path, command in walk(cli):
        if not isinstance(command, click.Group):
            assert "--json" in [flag for option in command.params for flag in option.opts], path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["adpt"], "There is adapt"),
        (["models", "lst"], "There is list"),
        (["adapt", "--lable", "x"], "--label"),
        (["adapt"], "Missing argument 'DATA'"),
        (["adapt", "x", "--folds", "1"], "--folds"),
    ],
)
def test_wrong_usage_names_what_would_work(arguments, expected, capsys):
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert "--help" in said.err
    assert said.out == ""


def test_a_bare_command_shows_its_help_as_usage(capsys):
    for arguments in ([], ["models"]):
        assert run(arguments) == 2
        said = capsys.readouterr()
        assert said.err.startswith("Usage: edgegraft")
        assert "error" not in said.err
        assert said.out == ""


def test_remedies_name_options_as_they_are_typed(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1,2\n" * 40)
    assert run(["doctor", str(path)]) == 3
    assert "--rate-hz 50" in capsys.readouterr().err


def test_tables_fit_the_terminal_and_a_pipe_gets_a_line_a_row():
    from edgegraft.cli.output import table_lines

    text = "a ridge head on the features, groups left out whole, measured by log loss"
    rows = [["minirocket", 0.5, text], ["statistics", None, "short"]]
    columns = ["backbone", "score", "because"]
    assert len(table_lines(columns, rows)) == 4
    assert text in table_lines(columns, rows)[2]
    for width in (60, 48, 40):
        lines = table_lines(columns, rows, width)
        assert max(map(len, lines)) <= width
        assert text in " ".join(" ".join(lines).split()).replace(" statistics - short", "")


def test_wrong_usage_with_json_is_one_object_on_stdout(capsys):
    assert run(["adapt", "--lable", "x", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["error"]
    assert (found["code"], found["exit_code"]) == ("usage", 2)
    assert "--label" in found["problems"][0]["found"]


def test_errors_have_code_reason_remedy_and_their_exit_code(tmp_path, capsys):
    missing = str(tmp_path / "nothing.csv")
    assert run(["evaluate", str(tmp_path), missing, "--json"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)["error"]
    assert found["code"] == "model-missing"
    assert set(found["problems"][0]) == {"code", "found", "why", "remedy"}
    assert "error [model-missing]" in said.err
    assert "try:" in said.err


def test_options_of_strategies_are_typed_and_misspelt_ones_refused(capsys):
    from edgegraft.cli.options import strategy_options

    assert strategy_options(["probe.head=logistic", "probe.balanced=true"]) == {
        "probe.head": "logistic",
        "probe.balanced": True,
    }
    wrong = ["probe.haed=ridge", "prob.head=ridge", "probe.head=tree", "probe", "probe.balanced=2x"]
    arguments = [part for text in wrong for part in ("-o", text)]
    assert run(["adapt", "synthetic:", *arguments, "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [problem["code"] for problem in problems] == [
        "option-unknown",
        "name-unknown",
        "option-value",
        "option-form",
        "option-value",
    ]
    assert [problem["remedy"] for problem in problems[:2]] == ["head", "probe"]
    assert problems[1]["found"] == "strategy 'prob'"
    assert problems[4]["remedy"] == "true or false"
    assert "Invalid value" not in problems[4]["why"]


def test_the_reader_of_a_pipe_may_go_away():
    code = (
        "import sys; from edgegraft.cli.app import run\nraise SystemExit(run(['adapt', '--help']))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b""


def test_ctrl_c_leaves_with_130_and_one_word():
    code = (
        "import edgegraft.cli.app as app, click, time\n"
        "def wait():\n    print('ready', flush=True); time.sleep(30)\n"
        "app.cli.lazy['wait'] = ('edgegraft.cli.app:wait', 'Wait.')\n"
        "app.wait = click.Command('wait', callback=wait)\n"
        "raise SystemExit(app.run(['wait']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors.split() == ["stopped"]


def test_an_unforeseen_error_keeps_its_traceback(monkeypatch, tmp_path):
    def fall(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("edgegraft_edge.signing.new_keys", fall)
    with pytest.raises(ZeroDivisionError):
        run(["keys", "new", "--out", str(tmp_path)])


def test_a_path_that_cannot_be_written_is_no_traceback(tmp_path, capsys):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert run(["keys", "new", "--out", str(blocked / "keys"), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["code"] == "path-unusable"
    assert str(blocked) in answer["error"]["problems"][0]["found"]


def test_a_path_that_cannot_be_written_is_told_as_it_was_typed(tmp_path):
    from edgegraft_edge.files import replace_file

    path = tmp_path / "nowhere" / "said.csv"
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(path, b"")
    assert caught.value.filename == str(path)


def test_plain_output_has_no_nan_and_no_arrays():
    import numpy as np

    value = {"a": np.float32(0.5), "b": np.array([1, 2]), "c": float("inf"), "d": ("x", None)}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": 0.5,
        "b": [1, 2],
        "c": None,
        "d": ["x", None],
    }
    assert [show(value) for value in (None, 0.12345, 12345, "x")] == ["-", "0.123", "12,345", "x"]


def test_progress_off_a_terminal_is_a_line_per_stage(capsys):
    with Progress(terminal=False) as watch:
        watch("stage", {"name": "compare", "rows": ["a", "b"]})
        for epoch in range(3):
            watch("epoch", {"epoch": epoch + 1, "epochs": 3, "loss": 1.0 / (epoch + 1)})
        watch("done", {"folder": None, "seconds": 1.5})
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" s  compare  rows a, b")
    assert lines[1].endswith(" s  done  seconds 1.5")


def test_progress_off_a_terminal_says_when_a_row_is_done(capsys):
    with Progress(terminal=False) as watch:
        watch("stage", {"name": "compare", "rows": ["a", "b"]})
        for fold in (1, 2):
            watch("fold", {"row": "a", "fold": fold, "folds": 2})
    assert capsys.readouterr().err.splitlines()[-1].endswith("  a done, 2 of 4 folds")


def test_a_long_training_off_a_terminal_is_heard_of(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("edgegraft.cli.progress.time.monotonic", lambda: now[0])
    with Progress(terminal=False) as watch:
        for epoch in range(1, 7):
            now[0] += 15.0
            watch("epoch", {"epoch": epoch, "epochs": 6, "loss": 0.5, "validation_loss": 0.25})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("30.0 s    training  epoch 2/6  loss 0.5000  validation loss 0.2500")


def test_trainings_side_by_side_keep_their_curves_apart():
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    progress, both = Progress(terminal=False), Barrier(2)

    def train(fold: int) -> None:
        for epoch in (1, 2):
            both.wait(timeout=10)
            progress("epoch", {"epoch": epoch, "epochs": 2, "loss": fold / epoch, "row": "net",
                               "fold": fold})  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, (1, 2)))
    curves = {each.name: each.curves for each in progress.trainings.values()}
    assert curves == {"net  fold 1": {"loss": [1.0, 0.5]}, "net  fold 2": {"loss": [2.0, 1.0]}}


def test_progress_on_a_terminal_draws_curves():
    from rich.console import Console

    progress = Progress(terminal=False)
    for epoch, loss in enumerate([1.0, 0.5, 0.25]):
        progress("epoch", {"epoch": epoch + 1, "epochs": 3, "loss": loss, "validation_loss": 1.0})
    progress.status = "fit"
    console = Console(width=100)
    with console.capture() as capture:
        console.print(progress._draw())
    drawn = capture.get()
    assert "epoch 3/3" in drawn
    assert "0.2500  █▃▁" in drawn
    progress("epoch", {"epoch": 1, "epochs": 3, "loss": 2.0})
    (training,) = progress.trainings.values()
    assert training.curves == {"loss": [2.0]}


def test_sparkline_is_bounded_and_takes_anything():
    assert sparkline([]) == ""
    assert sparkline([float("nan"), 1.0]) == "▁"
    assert len(sparkline(list(range(1000)))) == 40


def test_new_keys_sign_and_are_never_overwritten(tmp_path, capsys):
    from edgegraft_edge import signing

    assert run(["keys", "new", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    private = signing.read_private(tmp_path / "edgegraft.private.pem")
    assert signing.public_key(private) == signing.read_public(tmp_path / "edgegraft.public.pem")
    assert os.stat(found["private"]).st_mode & 0o077 == 0
    assert run(["keys", "new", "--out", str(tmp_path)]) == 2
    assert signing.read_private(tmp_path / "edgegraft.private.pem") == private
