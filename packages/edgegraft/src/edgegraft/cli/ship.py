"""`edgegraft export`, `verify` and `keys`: bundles that leave the house."""

from __future__ import annotations

from pathlib import Path

import click

from edgegraft.cli.app import Commands
from edgegraft.cli.options import json_option
from edgegraft.cli.output import show, table, write

TROUBLE = 1
COMMANDS = {"new": ("edgegraft.cli.ship:new_keys", "Make a pair of keys.")}


@click.command()
@click.argument("run", metavar="RUN|BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option("--format", "kind", default="onnx", show_default=True, help="Name of an exporter.")
@click.option(
    "--precision",
    type=click.Choice(["float", "int8"]),
    help="int8 reads ranges from training windows that the run kept. Without it, as the model is.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Bundle to write; a folder for what is compiled, such as c.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key that signs the bundle (see: edgegraft keys new).",
)
@click.option(
    "-o",
    "--option",
    "texts",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Option of the exporter, e.g. opset=19; may be repeated.",
)
@json_option
def export(
    run: Path,
    kind: str,
    precision: str | None,
    out: Path,
    key: Path | None,
    texts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a model for a runtime or a microcontroller.

    Normalisation, backbone and head are inside; the golden windows are computed in the new
    runtime and compared before anything is written.
    """
    from edgegraft import catalog, shipping
    from edgegraft.cli.options import options_of
    from edgegraft.cli.progress import Progress
    from edgegraft_edge.signing import read_private

    with Progress() as watch:
        bundle = shipping.export(
            run,
            format=kind,
            precision=precision,  # type: ignore[arg-type]
            out=out,
            key=read_private(key) if key else None,
            options=options_of(catalog.find("exporters", kind), texts),
            watch=watch,
        )
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    size_kib = sum(path.stat().st_size for path in files) / 1024
    found = {
        "bundle": str(out),
        "format": kind,
        "precision": bundle.precision,
        "runtimes": list(bundle.runtimes),
        "size_kib": round(size_kib, 1),
        "signed_by": bundle.signed_by or None,
    }
    what = "bundle" if out.is_file() else "folder"
    write(found, as_json, lambda: click.echo(f"{what:9} {out}  ({show(size_kib)} KiB)"))


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Also, or only, in this runtime: one of the bundle's, or c, c-m0plus, c-m4, c-m7, c-m55.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key; the signature must then be there and right.",
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context, bundle: Path, targets: tuple[str, ...], key: Path | None, as_json: bool
) -> None:
    """Re-compute the golden windows in each runtime.

    Checks every checksum first, and the signature where a key is given. Exit code 1 when a
    runtime disagrees.
    """
    from edgegraft import shipping
    from edgegraft_edge.runner import agreed
    from edgegraft_edge.signing import read_public

    checked = shipping.load(bundle, key=read_public(key) if key else None)
    parities = shipping.verify(checked, targets)
    rows = [row.as_dict() for row in parities]
    found = {
        "ok": agreed(parities, targets),
        "signed_by": checked.signed_by or None,
        "runtimes": rows,
    }
    columns = ["runtime", "status", "max_abs", "labels_agree", "n_windows", "latency_ms", "reason"]
    write(
        found,
        as_json,
        lambda: table(columns, [[row[name] for name in columns] for row in rows]),
    )
    if not found["ok"]:
        ctx.exit(TROUBLE)


@click.group(cls=Commands, lazy=COMMANDS)
def keys() -> None:
    """Make keys that sign bundles."""


@click.command("new")
@click.option(
    "--out",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the keys.",
)
@click.option("--name", default="edgegraft", show_default=True, help="First part of the names.")
@json_option
def new_keys(out: Path, name: str, as_json: bool) -> None:
    """Make a pair of keys.

    NAME.private.pem signs (edgegraft export --key) and stays with you; NAME.public.pem goes to
    every device (edgegraft-edge run --key). Files that are there are kept.
    """
    from edgegraft_edge import signing
    from edgegraft_edge.errors import OptionError

    private, public = out / f"{name}.private.pem", out / f"{name}.public.pem"
    for path in (private, public):
        if path.exists():
            raise OptionError.of(
                "key-exists", str(path), "a key that is overwritten is lost", "another --name"
            )
    out.mkdir(parents=True, exist_ok=True)
    secret, shared = signing.new_keys()
    signing.write_private(private, secret)
    signing.write_public(public, shared)
    write(
        {"private": str(private), "public": str(public)},
        as_json,
        lambda: click.echo(f"private   {private}\npublic    {public}"),
    )
