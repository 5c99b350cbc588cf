"""How windows come to a network: the intakes of `edgegraft.zoo.graph.Graph`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgegraft.zoo.log_mel import LogMel
from edgegraft_edge.errors import DataError
from edgegraft_edge.picture import resizing
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import GREY, ImageSpec, Spec

SPECTROGRAM = LogMel(n_mels=64)
"""How sound is shown to a network of pictures."""
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class ImageIntake:
    """Pictures of one size, their colours scaled as the network knows them.

    Sound comes as a picture, too: the log of its power in mel bands, low ones at the top, time
    along the width; all windows at one level, black 40 dB below white.

    Attributes:
        height, width: what the network takes; 0 leaves the size as it is.
        n_channels: 3 (red, green, blue) or 1.
        mean, scale: of each channel, with pixels from 0 to 1: (pixel - mean) / scale.
        reversed_: whether the network wants blue first.

    >>> intake = ImageIntake(4, 4, 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> program = intake.program(ImageSpec(8, 8))
    >>> program.run(np.full((1, 3, 8, 8), 255, np.uint8)).shape
    (1, 3, 4, 4)
    """

    height: int = 0
    width: int = 0
    n_channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    reversed_: bool = False

    def program(self, spec: Spec) -> Program:
        """Pictures of that spec -> float32 (n_windows, n_channels, height, width).

        Errors: `DataError` "kind-differs", or "window-short" for sound.
        """
        draft, value = Draft(), "x"
        if spec.kind == "audio":
            value = _heard(draft, spec)
            spec = ImageSpec(*SPECTROGRAM.shape(spec)[1:], GREY)
        if not isinstance(spec, ImageSpec):
            raise kind_error(spec, "image")
        height, width = self.height or spec.height, self.width or spec.width
        if spec.n_channels > 1:
            value = self._coloured(draft, value, spec)
        if width != spec.width:
            value = draft.add("matmul", value, resizing(spec.width, width))
        if height != spec.height:
            value = draft.add("matmul", resizing(spec.height, height).T, value)
        if spec.n_channels == 1:  # one channel is resized before it becomes three
            value = self._coloured(draft, value, spec)
        mean = 255 * np.array(self.mean, np.float32)[:, None, None]
        scale = 255 * np.array(self.scale, np.float32)[:, None, None]
        return draft.finish(draft.add("div", draft.add("sub", value, mean), scale))

    def _coloured(self, draft: Draft, value: str, spec: ImageSpec) -> str:
        if spec.n_channels == self.n_channels:
            if self.reversed_ and spec.n_channels == 3:
                return draft.add("gather", value, np.array([2, 1, 0]), axis=1)
            return value
        if self.n_channels == 3:
            return draft.add("gather", value, np.zeros(3, np.int64), axis=1)
        luma = np.array(_LUMA, np.float32)[:, None, None]
        weighted = draft.add("mul", value, luma)
        return draft.add("sum", weighted, axes=[1])


def _heard(draft: Draft, spec: Spec) -> str:
    """Writes a spectrogram as grey pixels 0 to 255, (n_windows, 1, n_mels, n_frames)."""
    logs = draft.call(SPECTROGRAM.program(spec))
    black = np.float32(np.log(SPECTROGRAM.floor))
    pixels = draft.add("mul", draft.add("sub", logs, black), np.float32(-255.0 / black))
    return draft.add("minimum", draft.add("maximum", pixels, np.float32(0)), np.float32(255))


def kind_error(spec: Spec, wanted: str) -> DataError:
    """The error for windows of a kind that an intake cannot read."""
    return DataError.of(
        "kind-differs",
        f"windows of kind {spec.kind}",
        f"the network takes kind {wanted}",
        f"edgegraft models list shows what takes kind {spec.kind}",
    )
