"""`edgegraft import`: a network that somebody else made, as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgegraft.cli.options import DataCommand, data_options, given, json_option
from edgegraft.cli.output import show, write


@click.command("import", cls=DataCommand)
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Bundle to write.",
)
@click.option(
    "--classes", help="Names of the outputs, with commas between, or a file with one in each line."
)
@click.option("--data", help="Data whose windows the bundle is compared on; without it, noise.")
@click.option("--front", help="How windows come in: pixels, series, speech-mel, mfcc or lfbe.")
@click.option("--pixels", help='What it takes pixels as: "-1..1", "0..1", "0..255", "imagenet".')
@data_options
@json_option
def take(
    file: Path,
    out: Path,
    classes: str | None,
    data: str | None,
    front: str | None,
    pixels: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Wrap a .tflite or .onnx file as a bundle.

    Eight-bit .tflite files keep their integers. The bundle is compared with the file in its own
    runtime (LiteRT, ONNX Runtime) before it is written; then it is exported, profiled and
    verified like any other.
    """
    from edgegraft.cli.data import opened
    from edgegraft.export import take as taking
    from edgegraft_edge import bundle as bundles

    told = {"front": front, "pixels": pixels}
    given_options = given(options)
    rate_hz = float(given_options.get("rate_hz") or 1.0)
    windows = None
    if data is not None:
        spec = taking.spec_of(file, rate_hz=rate_hz, options=told)
        windows = opened(data, given_options, spec)
    taken = taking.take(
        file, classes=_names(classes), windows=windows, rate_hz=rate_hz, options=told
    )
    bundles.write(out, taken.bundle)
    agreement = taken.agreement
    found = {
        "bundle": str(out),
        "precision": taken.bundle.precision,
        "windows": taken.said,
        "spec": list(taken.bundle.spec.shape),
        "n_classes": len(taken.bundle.classes),
        "agreement": agreement.as_dict(),
    }

    def render() -> None:
        click.echo(f"{'bundle':10} {out}  ({taken.bundle.precision})")
        shape = " x ".join(str(n) for n in taken.bundle.spec.shape)
        click.echo(f"{'windows':10} {shape}, {taken.said}")
        away = (
            f"{show(agreement.max_abs)}"
            if agreement.max_steps is None
            else f"{agreement.max_steps:g} steps"
        )
        click.echo(
            f"{'compared':10} with {agreement.runtime} on {agreement.n_windows} windows: "
            f"at most {away} away, {show(agreement.equal)} equal"
        )

    write(found, as_json, render)


def _names(text: str | None) -> tuple[str, ...]:
    if not text:
        return ()
    if Path(text).is_file():
        lines = Path(text).read_text(encoding="utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(name.strip() for name in text.split(","))
