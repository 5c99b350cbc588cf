"""`edgegraft evaluate` and `edgegraft predict`: a finished model on data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import click

from edgegraft.cli.options import DataCommand, data_options, given, json_option
from edgegraft.cli.output import show, write


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@json_option
def evaluate(model: Path, data: str, as_json: bool, **options: Any) -> None:
    """Score a run or a bundle on labelled data."""
    from edgegraft import workflow

    evaluation = workflow.evaluate(model, data, **given(options))
    found = evaluation.as_dict()

    def render() -> None:
        for name, value in found["metrics"].items():
            click.echo(f"{name:20} {show(value)}")
        click.echo(f"{'n':20} {show(found['n'])}")

    write(found, as_json, render)


@click.command(cls=DataCommand)
@click.argument("model", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.argument("data")
@data_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file to write.")
@json_option
def predict(model: Path, data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Write the class probabilities of each window."""
    from edgegraft import workflow

    predictions = workflow.predict(model, data, **given(options))
    labels = predictions.labels.tolist()
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["window", "label", *predictions.classes])
        for index, (label, row) in enumerate(
            zip(labels, predictions.probabilities.tolist(), strict=True)
        ):
            writer.writerow([index, label, *(f"{value:.6f}" for value in row)])
    counts = {name: labels.count(name) for name in predictions.classes}

    def render() -> None:
        for name, count in counts.items():
            click.echo(f"{name:20} {count:,}")
        click.echo(f"{'written':20} {out}")

    write({"n": len(labels), "counts": counts, "out": str(out)}, as_json, render)
