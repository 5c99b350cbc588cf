"""The device's command, as a process: events, exit codes, pipes, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from edge_toys import TOY_SPEC, make_toy

from edgegraft_edge import bundle, cli, signing
from edgegraft_edge.decision import Decision, decide
from edgegraft_edge.signal import Windows
from edgegraft_edge.windowing import cut

COMMAND = [sys.executable, "-m", "edgegraft_edge.cli"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    decision = Decision(threshold=0.4, smooth=2)
    return bundle.write(tmp_path_factory.mktemp("cli") / "toy.egb", make_toy(decision=decision))


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "rows.csv"
    path.write_text(_csv(_values(300)))
    return path


def _values(count: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(3, count)).astype(np.float32)


def _csv(values: np.ndarray) -> str:
    lines = ["timestamp,note,acc_z,acc_x,acc_y"]
    for index, (x, y, z) in enumerate(values.T):
        lines.append(f"{index * 100},hi,{float(z)!r},{float(x)!r},{float(y)!r}")
    return "\n".join(lines) + "\n"


def _main(capsys, *arguments: object) -> tuple[int, list[dict], str]:
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_run_gives_the_events_of_the_batch(capsys, model, recording):
    code, events, err = _main(capsys, "run", model, "--source", recording)
    loaded = bundle.read(model)
    x, starts = cut(_values(300), TOY_SPEC)
    batch = loaded.predict(Windows.of(x, rate_hz=10.0, channels=TOY_SPEC.channel_names))
    expected = decide(loaded.decision, batch, np.round((starts + 19) / 10, 6))
    assert code == 0
    assert len(events) > 2
    assert events == [event.as_dict() for event in expected]
    assert "300 rows, 0 malformed" in err


def test_run_json_ends_with_one_summary(capsys, model, recording):
    code, lines, err = _main(
        capsys, "run", model, "--source", recording, "--json", "--emit", "window"
    )
    assert (code, err) == (0, "")
    summary = lines[-1]["summary"]
    assert summary["windows"] == summary["events"] == len(lines) - 1 == 57
    assert summary["rows"] == summary["accepted"] == 300
    assert summary["backend"] == "numpy"


def test_decision_options_take_the_place_of_those_in_the_bundle(capsys, model, recording):
    _, events, _ = _main(
        capsys, "run", model, "--source", recording, "--threshold", "1", "--smooth", "1"
    )
    assert [event["label"] for event in events] == ["unsure"]


def test_malformed_rows_are_counted_and_reported(capsys, model, tmp_path):
    lines = _csv(_values(100)).splitlines()
    lines[30] = "2900,hi,oops,1,1"
    lines[60] = "5900,hi,1"
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines))
    code, _, err = _main(capsys, "run", model, "--source", path)
    assert code == 0
    assert "[cell-not-number] 1 rows, first in line 31" in err
    assert "[row-fields] 1 rows, first in line 61" in err
    assert "100 rows, 2 malformed; accepted 99, not finite 1, gaps 1" in err


@pytest.mark.parametrize(
    ("text", "code"),
    [("", 3), ("timestamp,acc_x,acc_y,acc_z\n", 3), ("timestamp,acc_x\n1,2\n", 3)],
)
def test_sources_that_cannot_be_used_end_with_3(capsys, model, tmp_path, text, code):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    found, _, err = _main(capsys, "run", model, "--source", path)
    assert found == code
    assert "Try: " in err


def test_exit_codes_of_bundle_usage_and_data(capsys, model, recording, tmp_path):
    assert _main(capsys, "run", tmp_path / "absent.egb", "--source", recording)[0] == 4
    assert _main(capsys, "run", recording, "--source", recording)[0] == 4
    assert _main(capsys, "run", model, "--source", tmp_path / "absent.csv")[0] == 3
    assert _main(capsys, "run", model, "--source", recording, "--threshold", "7")[0] == 2
    assert _main(capsys, "run", model, "--source", recording, "--backend", "onx")[0] == 2
    assert _main(capsys, "run", model, "--source", recording, "--backend", "onnx")[0] == 4
    assert _main(capsys, "run", model, "--source", recording, "--rate-hz", "50")[0] == 3
    code, lines, _ = _main(capsys, "info", tmp_path / "absent.egb", "--json")
    assert code == 4
    assert lines[0]["error"][0]["code"] == "bundle-missing"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["run", "m.egb", "--souce", "x"], "--source"),
        (["run", "m.egb", "--replay", "fast"], "10x"),
        (["walk"], "run"),
        ([], "COMMAND"),
    ],
)
def test_usage_errors_say_what_would_work(capsys, arguments, hint):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert hint in capsys.readouterr().err


def test_verify_and_info(capsys, model):
    code, (found,), _ = _main(capsys, "verify", model, "--json")
    assert code == 0
    assert found["ok"] is True
    assert found["runtimes"][0]["runtime"] == "numpy"
    code, (found,), _ = _main(capsys, "info", model, "--json")
    assert found["classes"] == ["fall", "rest", "walk"]
    assert found["digest"] == bundle.read(model).manifest.digest
    assert cli.main(["info", str(model)]) == 0
    assert "Not signed" in capsys.readouterr().out
    assert cli.main(["verify", str(model)]) == 0
    assert "labels 6/6" in capsys.readouterr().out


def test_verify_ends_with_1_when_a_runtime_disagrees(capsys, tmp_path):
    path = bundle.write(tmp_path / "bad.egb", bundle.with_model(make_toy(), "onnx", b"not a model"))
    code, (found,), _ = _main(capsys, "verify", path, "--json")
    assert found["ok"] == (code == 0)
    status = found["runtimes"][1]["status"]
    assert (code, status) in ((1, "failed"), (0, "absent"))
    assert _main(capsys, "verify", path, "--backend", "onnx", "--json")[0] == 1


def test_key_options(capsys, tmp_path):
    private, public = signing.new_keys()
    _, other = signing.new_keys()
    signing.write_public(tmp_path / "mine.pub", public)
    signing.write_public(tmp_path / "other.pub", other)
    plain = bundle.write(tmp_path / "plain.egb", make_toy())
    signed = bundle.write(tmp_path / "signed.egb", bundle.sign(make_toy(), private))
    mine, stranger = tmp_path / "mine.pub", tmp_path / "other.pub"
    code, (found,), _ = _main(capsys, "verify", signed, "--key", mine, "--json")
    assert (code, found["signed_by"]) == (0, public.hex())
    assert _main(capsys, "verify", signed, "--key", stranger)[0] == 4
    assert _main(capsys, "verify", plain, "--key", mine)[0] == 4
    assert _main(capsys, "info", plain, "--require-signature")[0] == 4
    assert _main(capsys, "info", plain, "--key", tmp_path / "absent.pub")[0] == 2


def _start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_events_come_while_the_stream_is_still_open_and_ctrl_c_ends_it(model):
    process = _start("run", model, "--source", "-", "--backend", "numpy")
    lines = _csv(_values(60)).splitlines(keepends=True)
    process.stdin.write("".join(lines[:30]).encode())
    process.stdin.flush()
    event = json.loads(process.stdout.readline())  # blocks for ever if events were held back
    assert event["kind"] == "change"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"rows, 0 malformed" in err
    assert b"Traceback" not in err


def test_closed_pipe_is_quiet(model, tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(_csv(_values(3000)))
    process = _start("run", model, "--source", path, "--emit", "window")
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=20) == 0
    assert err == b""


def test_replay_keeps_time(model, recording, capsys):
    begin = time.monotonic()
    code, _, _ = _main(capsys, "run", model, "--source", recording, "--replay", "60x")
    # 29.9 s of signal at 60-fold speed
    assert code == 0
    assert 0.45 < time.monotonic() - begin < 5.0


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in ("--source", "--replay", "--json", "--backend", "--key", "--hold-off-s"):
        assert option in text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="read from Linux's /proc")
def test_the_process_stays_small(model, recording):
    script = (
        "import sys\n"
        "from edgegraft_edge.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "peak = [row for row in open('/proc/self/status') if row.startswith('VmHWM')]\n"
        "print(peak[0].split()[1], file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    arguments = ["run", model, "--source", recording, "--backend", "numpy"]
    found = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, check=True
    )
    # 36 MiB were measured, most of it NumPy; torch alone would be 200 MiB and more.
    assert int(found.stderr.split()[-1]) < 80 << 10
