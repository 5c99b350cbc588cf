"""The command of a device: run, verify and look into a bundle, or watch without one. Needs NumPy
only, and Pillow for pictures.

Exit codes: 0 ok, 1 a runtime does not agree with the golden windows, 2 usage, 3 data,
4 bundle, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

from edgegraft_edge import __version__, signing
from edgegraft_edge.bundle import Bundle, read
from edgegraft_edge.cli_watch import add_watch
from edgegraft_edge.decision import Decision, Event
from edgegraft_edge.errors import DataError, EdgegraftError, OptionError, nearest
from edgegraft_edge.items import (
    Item,
    Items,
    by_itself,
    is_film,
    pictures_below,
    pictures_in,
    sentences_in,
)
from edgegraft_edge.picture import SUFFIXES
from edgegraft_edge.rows import TIME_UNITS, Rows
from edgegraft_edge.runner import Choice, Runner, agreed, pick, verify
from edgegraft_edge.signal import ImageSpec, TextSpec, WindowSpec, series_spec
from edgegraft_edge.sound import ENCODINGS, SoundStream, encoding_of

_EPILOG = """exit codes: 0 ok, 1 a runtime disagrees with the golden windows, 2 usage, 3 data,
4 bundle, 130 stopped with Ctrl-C"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is the answer."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except EdgegraftError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"error": [p.as_dict() for p in error.problems]}), flush=True)
        print(f"edgegraft-edge: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader has seen enough (`| head`); without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int:
    bundle = _open(arguments)
    options = {
        entry.name: value
        for entry in fields(Decision)
        if (value := getattr(arguments, entry.name)) is not None
    }
    choice = _choice(arguments.backend, bundle)
    if isinstance(bundle.spec, ImageSpec | TextSpec):
        return _run_items(bundle, choice, options, arguments)
    with _source(arguments.source) as source:
        rows = _reader(source, series_spec(bundle.spec), arguments)
        decision = replace(bundle.decision, **options)
        runner = Runner(bundle, choice.runtime, rate_hz=arguments.rate_hz, decision=decision)
        code = 0
        try:
            _stream(rows, runner, arguments.replay)
            if isinstance(rows, SoundStream) and runner.counters.windows == 0:
                _say_all(runner.push(rows.silence(runner.spec.n_timepoints)))
        except KeyboardInterrupt:
            code = 130
    if rows.account.rows == 0 and code == 0:
        found = "a header without rows" if isinstance(rows, Rows) else "sound without a sample"
        raise DataError.of("rows-missing", found, "there is nothing to classify", "add rows")
    _summary(rows, runner, choice, arguments.json)
    return code


def _reader(source: Any, spec: WindowSpec, arguments: argparse.Namespace) -> Rows | SoundStream:
    """Rows of a table, or samples of sound where the bundle hears and the source is no table."""
    wanted, name = arguments.format, arguments.source
    if spec.kind == "audio":
        begin = source.peek(4)[:4] if hasattr(source, "peek") else b""
        encoding = encoding_of(None if name == "-" else name, begin, wanted)
        if encoding:
            place = name if name not in (None, "-") else "the stream"
            rate_hz = arguments.rate_hz
            return SoundStream(source, spec, encoding=encoding, rate_hz=rate_hz, name=place)
    elif wanted not in ("", "csv"):
        raise OptionError.of(
            "format-kind", f"--format {wanted}", f"the bundle is for {spec.kind}", "--format csv"
        )
    column, unit = arguments.time_column, arguments.time_unit
    return Rows(source, spec, time_column=column, time_unit=unit)


def _run_items(
    bundle: Bundle, choice: Choice, options: dict[str, Any], arguments: argparse.Namespace
) -> int:
    _refuse_time(arguments)
    place, code = Path(arguments.source or "-"), 0
    with nullcontext() if place.is_dir() else _source(arguments.source) as source:
        film = isinstance(bundle.spec, ImageSpec) and source is not None and is_film(source)
        film = film and place.suffix.lower() not in SUFFIXES  # a file with a thumbnail is no film
        decision = replace(bundle.decision if film else by_itself(bundle.decision), **options)
        rate_hz = arguments.rate_hz or 1.0
        items = Items(bundle, choice.runtime, decision=decision, rate_hz=rate_hz)
        if isinstance(bundle.spec, TextSpec):
            if source is None:
                raise DataError.of(
                    "source-folder", str(place), "sentences come from a file or a pipe", "a file"
                )
            found = sentences_in(source)
        elif source is None:
            found = pictures_below(place)
        elif place.suffix.lower() in SUFFIXES:
            found = iter([Item(place.name, place)])
        else:
            found = pictures_in(source)
        try:
            _each(found, items, arguments.replay)
        except KeyboardInterrupt:
            code = 130
    counters = items.counters
    if not counters.items and not code:
        raise DataError.of(
            "items-missing", str(place), "it holds no picture or sentence", "check the path"
        )
    _item_summary(items, choice, arguments.json)
    return code or (DataError.exit_code if counters.unreadable == counters.items else 0)


def _refuse_time(arguments: argparse.Namespace) -> None:
    for name in ("time_column", "time_unit"):
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            raise OptionError.of(
                "option-unsuited", option, "pictures and sentences have no columns", "leave it out"
            )


def _each(found: Iterator[Item], items: Items, speed: float | None) -> None:
    begin = time.monotonic()
    for count, item in enumerate(found):
        if speed:
            wait_s = count / items.rate_hz / speed - (time.monotonic() - begin)
            time.sleep(min(max(wait_s, 0.0), 60.0))
        event = items.push(item)
        if event is not None:
            print(json.dumps(event.as_dict()), flush=True)


def _item_summary(items: Items, choice: Choice, as_json: bool) -> None:
    counters = items.counters
    if as_json:
        print(json.dumps({"summary": {**counters.as_dict(), **_said(choice)}}))
        return
    for code, fault in counters.faults.items():
        text = f"[{code}] {fault.count} items, the first {fault.found}"
        print(text, file=sys.stderr)
    counts = {"cut": counters.cut, "unsure": counters.unsure, "events": counters.events}
    seen = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    print(f"{counters.items} items, {counters.unreadable} unreadable; {seen}", file=sys.stderr)
    print(choice, file=sys.stderr)


def _stream(rows: Rows | SoundStream, runner: Runner, speed: float | None) -> None:
    begin, first_s, count = time.monotonic(), None, 0
    for at_s, sample in rows:
        if speed:
            now_s = count / runner.spec.rate_hz if at_s is None else at_s
            count += sample.shape[1]
            first_s = now_s if first_s is None else first_s
            wait_s = (now_s - first_s) / speed - (time.monotonic() - begin)
            if wait_s > 0.002:
                time.sleep(min(wait_s, 60.0))
        _say_all(runner.push(sample, at_s=at_s))


def _say_all(events: Iterable[Event]) -> None:
    for event in events:
        _say(event)


def _say(event: Event) -> None:
    print(json.dumps(event.as_dict()), flush=True)


def _summary(rows: Rows | SoundStream, runner: Runner, choice: Choice, as_json: bool) -> None:
    counters, account = runner.counters, rows.account
    if as_json:
        summary = {**account.as_dict(), **counters.as_dict(), **_said(choice)}
        print(json.dumps({"summary": summary}))
        return
    for code, fault in account.faults.items():
        text = f"[{code}] {fault.count} rows, first in line {fault.first_line}: {fault.found}"
        print(text, file=sys.stderr)
    seen = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in counters.as_dict().items() if value
    )
    print(f"{account.rows} rows, {account.malformed} malformed; {seen}", file=sys.stderr)
    print(choice, file=sys.stderr)


def _said(choice: Choice) -> dict[str, Any]:
    return {"backend": choice.runtime, "passed_over": dict(choice.passed)}


def _verify(arguments: argparse.Namespace) -> int:
    bundle = _open(arguments)
    chosen = None if arguments.backend == "auto" else [arguments.backend]
    found = verify(bundle, chosen, tolerance=arguments.tolerance)
    ok = agreed(found, chosen)
    if arguments.json:
        runtimes = [one.as_dict() for one in found]
        print(json.dumps({"ok": ok, "signed_by": bundle.signed_by, "runtimes": runtimes}))
    else:
        for one in found:
            figures = (
                f"largest difference {one.max_abs:.2g}, "
                f"labels {one.labels_agree}/{one.n_windows}, {one.latency_ms:g} ms a window"
            )
            text = figures if one.n_windows else one.reason
            print(f"{one.runtime:10} {one.status:8} {text}")
        print(_signature_line(bundle))
    return 0 if ok else 1


def _info(arguments: argparse.Namespace) -> int:
    bundle = _open(arguments)
    manifest = bundle.manifest
    if arguments.json:
        values = json.loads(manifest.to_bytes())
        print(json.dumps({**values, "digest": manifest.digest, "signed_by": bundle.signed_by}))
        return 0
    size = sum(entry.size for entry in manifest.files.values())
    print(bundle.card.rstrip())
    print(f"\nRuntimes: {', '.join(bundle.runtimes)}. {size / 1024:.1f} KiB in files.")
    print(f"Decision: {json.dumps(dict(manifest.decision))}")
    print(f"Digest: {manifest.digest}")
    print(_signature_line(bundle))
    return 0


def _signature_line(bundle: Bundle) -> str:
    if bundle.signed_by:
        return f"Signed by {bundle.signed_by}"
    return "Not signed" if bundle.signature is None else "Signed; not checked without a key"


def _open(arguments: argparse.Namespace) -> Bundle:
    key = signing.read_public(Path(arguments.key)) if arguments.key else None
    return read(arguments.bundle, key=key, require_signature=arguments.require_signature)


def _choice(wanted: str, bundle: Bundle) -> Choice:
    return pick(bundle) if wanted == "auto" else Choice(wanted, {})


def _source(name: str | None) -> Any:
    if name is None and sys.stdin.isatty():
        raise OptionError.of(
            "source-missing", "no --source", "rows come from a file or a pipe", "--source FILE"
        )
    if name is None or name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        raise DataError.of(
            "source-missing", name, error.strerror or "it cannot be read", "check the path"
        ) from error


def _speed(text: str) -> float:
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed; try 1x or 10x")
    return speed


class _Parser(argparse.ArgumentParser):
    """Says the nearest option to a misspelt one."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            word = message.removeprefix(prefix).split()[0].split("=")[0]
            parsers: list[argparse.ArgumentParser] = [self]
            for action in self._actions:
                if isinstance(action.choices, dict):  # the commands, by name
                    parsers += action.choices.values()
            known = {name for parser in parsers for name in parser._option_string_actions}
            message += f" (did you mean {nearest(word, sorted(known))}?)"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="edgegraft-edge",
        description="Run a bundle on a device: rows, pictures or sentences in, events out. Or "
        "watch rows without a bundle.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"edgegraft-edge {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = _command(
        commands, "run", _run, "classify rows, sound, pictures or sentences, an event a JSON line"
    )
    run.add_argument(
        "--source",
        help="rows as CSV with a header, sound, sentences line by line, a picture, a folder of "
        "them, a list of paths or JPEGs one after the other; - for standard input (the default)",
    )
    run.add_argument(
        "--format",
        default="",
        choices=["csv", "wav", *ENCODINGS],
        help="of a stream of sound: wav, or bare samples of one channel, s16le say, which is what "
        "arecord -t raw gives (default: found; bare samples never are)",
    )
    run.add_argument("--replay", type=_speed, metavar="SPEED", help="pace by time: 1x, 10x, ...")
    run.add_argument(
        "--rate-hz",
        type=float,
        help="rows or samples a second, checked with the bundle's; or frames a second",
    )
    run.add_argument("--time-column", default="", help="column with timestamps (default: found)")
    run.add_argument(
        "--time-unit", default="", choices=sorted(TIME_UNITS), help="of numbers (default: found)"
    )
    _add_backend(run)
    for entry in fields(Decision):
        kind: Any = {"emit": str, "of": str, "smooth": int}.get(entry.name, float)
        run.add_argument(
            f"--{entry.name.replace('_', '-')}",
            type=kind,
            help=f"{entry.metadata['help']} Default: as in the bundle.",
        )
    check = _command(commands, "verify", _verify, "compare each runtime with the golden windows")
    check.add_argument(
        "--tolerance",
        type=float,
        help="largest difference of a probability (default: 0.001; two steps of an int8 output)",
    )
    _add_backend(check)
    _command(commands, "info", _info, "show the card, the manifest and who signed")
    add_watch(commands, _source, _speed)
    return parser


def _command(commands: Any, name: str, function: Any, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    command.set_defaults(command=function)
    command.add_argument("bundle", metavar="BUNDLE", help="a bundle, e.g. model.egb")
    command.add_argument("--json", action="store_true", help="answer as JSON")
    command.add_argument("--key", metavar="PUBLIC", help="public key file; refuse other signers")
    command.add_argument(
        "--require-signature", action="store_true", help="refuse a bundle that is not signed"
    )
    return command


def _add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--backend",
        default="auto",
        help="litert, onnx, executorch, numpy or another that is installed; auto takes the first "
        "of these that bundle and machine have, and verifies all",
    )


if __name__ == "__main__":
    sys.exit(main())
