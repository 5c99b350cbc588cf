"""A Tiny Time Mixer as a program, through ONNX, so that devices can run it.

The network is read by the package of its makers, written to ONNX by torch and read back as a
program like any file (`edgegraft.zoo.onnx_file`). Normalisation of the window and the cut into
patches are written here: torch's writer does not know the package's form of them.

Source: Ekambaram et al., Tiny Time Mixers, NeurIPS 2024.
"""

from __future__ import annotations

import io
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from edgegraft.zoo.file_transcript import Transcript
from edgegraft.zoo.graph_file import write_nodes
from edgegraft.zoo.onnx_file import read_onnx
from edgegraft.zoo.onnx_operators import WRITERS
from edgegraft_edge.errors import ModelError
from edgegraft_edge.program import Program


def open_ttm(folder: Path) -> Any:
    """The network in torch: windows in their own unit (n_rows, n_channels, context) -> forecasts.

    Errors: `ModelError` "folder-kind" for one whose patches overlap.
    """
    import torch

    module = import_module("tsfm_public.models.tinytimemixer")
    model = module.TinyTimeMixerForPrediction.from_pretrained(folder, local_files_only=True)
    config = model.config
    if config.patch_length != config.patch_stride:
        raise ModelError.of(
            "folder-kind",
            f"{folder} with patches of {config.patch_length} every {config.patch_stride} samples",
            "networks whose patches overlap are not read here",
            "a Tiny Time Mixer of the usual form",
        )

    size = int(config.patch_length)

    class Unscaled(torch.nn.Module):
        """In place of the package's scaler: windows come in their unit."""

        def forward(self, data: Any, mask: Any = None) -> tuple[Any, Any, Any]:
            none = torch.zeros(1, 1, 1)
            return data, none, none + 1

        def inverse(self, data: Any, loc: Any = None, scale: Any = None) -> Any:
            return data

    class Patches(torch.nn.Module):
        """In place of the package's cut into patches."""

        def forward(self, data: Any) -> Any:
            rows = data.transpose(1, 2)[:, :, int(config.context_length) % size :]
            return rows.reshape(-1, rows.shape[1], int(config.context_length) // size, size)

    class Ahead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            model.backbone.scaler = Unscaled()
            model.backbone.patching = Patches()
            self.model = model

        def forward(self, x: Any) -> Any:
            said = self.model(past_values=x.transpose(1, 2), return_loss=False)
            return said.prediction_outputs.transpose(1, 2)

    return Ahead().eval()


def ttm_program(network: Any, n_channels: int, context: int) -> Program:
    """What `open_ttm` gave, as a program from (n_windows, n_channels, context).

    Errors: `ModelError` "operator-unknown", "operator-form" with all that cannot be written.
    """
    import torch

    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes are constants here, as they should be
        torch.onnx.export(
            network,
            (torch.zeros(1, n_channels, context),),
            file,
            input_names=["x"],
            output_names=["ahead"],
            dynamo=False,
        )
    transcript = Transcript(read_onnx(file.getvalue()))
    problems = write_nodes(transcript, WRITERS)
    if problems or "ahead" not in transcript.values:
        raise ModelError(problems)
    return transcript.draft.finish(transcript.filed(transcript.values["ahead"]).name)
