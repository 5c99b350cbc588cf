"""Forecasters of others, by the packages of those who made them: Tiny Time Mixers and Chronos.

    edgegraft adapt load.csv --task forecasting --backbone hf:amazon/chronos-bolt-small ...
    edgegraft adapt load.csv --task forecasting --backbone models/granite-timeseries-ttm-r2/ ...

A folder is as the hub has it: ``config.json`` and the weights. ``hf:OWNER/NAME`` is the same folder
in the cache of the hub, where ``hf download OWNER/NAME`` puts it; nothing is downloaded unasked.

A Tiny Time Mixer becomes a program, so it ships to devices like any network. A Chronos runs where
its package runs, on servers: asking for its program ends in ``program-none``.

Sources: Ekambaram et al., Tiny Time Mixers, NeurIPS 2024; Ansari et al., Chronos, TMLR 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgegraft.zoo.backbone import BackboneCard
from edgegraft.zoo.own_unit import in_unit, rolled_out
from edgegraft.zoo.ttm import open_ttm, ttm_program
from edgegraft_edge import json_text
from edgegraft_edge.errors import ModelError
from edgegraft_edge.parts import missing
from edgegraft_edge.program import Draft, Program
from edgegraft_edge.signal import Array, Windows

Family = Literal["ttm", "chronos"]
PACKAGES: Mapping[Family, tuple[str, str]] = {
    "ttm": ("tsfm_public", "granite-tsfm"),
    "chronos": ("chronos", "chronos-forecasting"),
}
"""Import name and distribution of the package of each family; the extra has the family's name."""
_ROWS = 256  # series forecast at a time


@dataclass(frozen=True, eq=False)
class HubForecaster:
    """A forecaster in a folder, as a backbone: its embedding is its forecast.

    Attributes:
        folder: with config.json and weights.
        context: samples that it takes at most.
        horizon: steps of the forecast that `embed` gives.
    """

    card: BackboneCard
    folder: Path
    family: Family
    context: int
    horizon: int

    def fit(self, windows: Windows, *, seed: int) -> HubForecaster:
        """As it is."""
        return self

    def ahead(self, horizon: int) -> HubForecaster:
        """The same, of another horizon."""
        return replace(self, horizon=horizon)

    def embed(self, x: Array) -> Array:
        """(n_windows, n_channels, n_timepoints) -> float32 (n_windows, n_channels * horizon)."""
        return self.forecast(x, self.horizon).reshape(len(x), -1)

    def forecast(self, x: Array, horizon: int) -> Array:
        """What comes next, each channel by itself: float32 (n_windows, n_channels, horizon).

        Errors: `OptionError` "extra-missing" without the package; `ModelError` "weights-unread".
        """
        model = _model(self.family, self.folder, self.context)
        n_windows, n_channels, n_timepoints = x.shape
        rows = np.asarray(x, dtype=np.float32).reshape(-1, n_timepoints)
        found = np.empty((len(rows), horizon), dtype=np.float32)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS, -self.context :]
            found[start : start + _ROWS] = _rolled(model, part, self.context, horizon)
        return found.reshape(n_windows, n_channels, horizon)

    def program(self, *shape: int) -> Program:
        """The embedding as a program. Errors: `ModelError` "program-none", as of `forecaster`."""
        draft = Draft()
        ahead = draft.call(self.forecaster(shape[0], shape[1], self.horizon))
        return draft.finish(draft.add("reshape", ahead, shape=[shape[0] * self.horizon]))

    @property
    def portable(self) -> bool:
        """Whether there is a program of it."""
        return self.family == "ttm"

    def forecaster(self, n_channels: int, n_timepoints: int, horizon: int) -> Program:
        """From windows (n_windows, n_channels, n_timepoints) to what follows, `horizon` steps.

        Errors: `ModelError` "program-none" of a Chronos.
        """
        if not self.portable:
            raise ModelError.of(
                "program-none",
                f"a program of {self.card.name!r}",
                f"it runs in {PACKAGES[self.family][1]}, on servers; devices cannot run it",
                "forecast-mixer on mixer-series, or forecast-ridge, which ship to any device",
            )
        network = _read(self.family, self.folder)
        once = ttm_program(network, n_channels, self.context)
        draft = Draft()

        def ahead(unit: str, n_steps: int) -> str:
            said = draft.call(once, unit)
            return draft.add("slice", said, axis=2, start=0, stop=n_steps)

        reach = _Reach(self.context, int(network.model.config.prediction_length))
        return rolled_out(draft, ahead, reach, n_timepoints, horizon)


@dataclass(frozen=True)
class _Reach:
    context: int
    horizon: int


def load_forecaster(folder: Path, name: str = "") -> HubForecaster:
    """A forecaster from a folder; its package is imported when it forecasts first.

    Errors: `OptionError` "extra-missing" without the package; `ModelError` "folder-form",
    "folder-kind".
    """
    try:
        config = json_text.parse((folder / "config.json").read_bytes(), "config.json")
    except OSError as error:
        raise ModelError.of(
            "folder-form",
            f"{folder} without a config.json",
            "a folder of weights says what network they are of",
            "fetch the whole folder again",
        ) from error
    family = _family(config)
    if family is None:
        raise ModelError.of(
            "folder-kind",
            f"{folder} holds a model of type {config.get('model_type')!r}",
            "forecasters are Tiny Time Mixers and Chronos",
            "another folder, or a backbone that embeds windows",
        )
    _package(family, name or str(folder))
    sizes = config.get("chronos_config", config)
    try:
        context, horizon = int(sizes["context_length"]), int(sizes["prediction_length"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError.of(
            "folder-form",
            f"{folder}/config.json without {error}",
            "a forecaster says how much it sees and how far it looks",
            "fetch the whole folder again",
        ) from error
    card = BackboneCard(
        name=name or folder.resolve().name,
        architecture=family,
        summary=f"forecaster of others, run by {PACKAGES[family][1]}",
        kind="pretrained",
        licence="see its model card",
    )
    return HubForecaster(card, folder.resolve(), family, context, horizon)


def load_hub_name(name: str) -> HubForecaster:
    """A forecaster by ``OWNER/NAME``, from the cache of the hub on this machine.

    Errors: `OptionError` "extra-missing" without the hub's package or the family's; `ModelError`
    "weights-missing" where it was not downloaded.
    """
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise missing(f"hf:{name}", "huggingface_hub", "edgegraft", "chronos") from error
    try:
        folder = hub.snapshot_download(name, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError.of(
            "weights-missing",
            f"no hf:{name} in the cache of the hub",
            "nothing is downloaded unasked",
            f"hf download {name}, or the path of a folder with its config.json and weights",
        ) from error
    return load_forecaster(Path(folder), f"hf:{name}")


def _family(config: Mapping[str, Any]) -> Family | None:
    if config.get("model_type") == "tinytimemixer":
        return "ttm"
    return "chronos" if "chronos_config" in config else None


def _package(family: Family, found: str) -> Any:
    module, distribution = PACKAGES[family]
    try:
        return import_module(module)
    except ImportError as error:
        raise missing(f"forecaster {found!r}", distribution, "edgegraft", family) from error


@lru_cache(maxsize=2)
def _read(family: Family, folder: Path) -> Any:
    """The network in torch, or the pipeline."""
    package = _package(family, str(folder))
    try:
        if family == "ttm":
            return open_ttm(folder)
        import torch

        return package.BaseChronosPipeline.from_pretrained(
            folder, device_map="cpu", dtype=torch.float32
        )
    except ModelError:
        raise
    except Exception as error:  # whatever a package that is not ours makes of a bad file
        raise ModelError.of(
            "weights-unread",
            f"{folder}: {error}",
            f"{PACKAGES[family][1]} does not read it",
            "fetch the whole folder again, or another version of the package",
        ) from error


def _model(family: Family, folder: Path, context: int) -> Callable[[Array, int], Array]:
    """Rows (n_rows, n_timepoints), and how many steps are wanted -> rows of steps.

    There may be fewer or more steps than are wanted.
    """
    network = _read(family, folder)
    return _ttm(network, context) if family == "ttm" else _chronos(network)


def _ttm(network: Any, context: int) -> Callable[[Array, int], Array]:
    import torch

    reach = _Reach(context, 0)

    def ahead(rows: Array, n_steps: int) -> Array:
        with torch.inference_mode():
            unit, level, scale = in_unit(torch.tensor(rows), reach)
            found: Array = (network(unit[:, None])[:, 0] * scale + level).numpy()
        return found

    return ahead


def _chronos(model: Any) -> Callable[[Array, int], Array]:
    import torch

    def ahead(rows: Array, n_steps: int) -> Array:
        found, _ = model.predict_quantiles(
            torch.tensor(rows), prediction_length=n_steps, quantile_levels=[0.5]
        )
        if isinstance(found, list):  # of Chronos-2, one for each series
            found = torch.cat([each.reshape(1, n_steps, 1) for each in found])
        median: Array = found[..., 0].numpy()
        return median

    return ahead


def _rolled(model: Callable[[Array, int], Array], rows: Array, context: int, horizon: int) -> Array:
    """Forecasts (n_rows, horizon); beyond what the model says at once, from its forecasts."""
    found = model(rows, horizon)
    while found.shape[1] < horizon:
        seen = np.concatenate([rows, found], axis=1)[:, -context:].astype(np.float32)
        found = np.concatenate([found, model(seen, horizon - found.shape[1])], axis=1)
    return found[:, :horizon].astype(np.float32)
