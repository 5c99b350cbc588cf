"""Forecasters of others: folders with random weights, made where their packages are here."""

import json
import sys

import numpy as np
import pytest

from edgegraft.adapt.forecasts.mixer import ForecastMixer
from edgegraft.tasks.forecasting import Forecasting
from edgegraft.testing import check_backbone, check_estimator
from edgegraft.testing.samples import sample_series
from edgegraft.zoo.hub_forecast import load_forecaster
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.signal import Windows

CHRONOS = {"model_type": "t5", "chronos_config": {"context_length": 64, "prediction_length": 16}}
TTM = {"model_type": "tinytimemixer", "context_length": 64, "prediction_length": 16}


def folder_of(config, place):
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.fixture
def ttm_folder(tmp_path):
    pytest.importorskip("tsfm_public", reason="the extra ttm (granite-tsfm) is not installed")
    from tsfm_public.models.tinytimemixer import TinyTimeMixerConfig, TinyTimeMixerForPrediction

    config = TinyTimeMixerConfig(
        context_length=64, prediction_length=16, patch_length=8, patch_stride=8, d_model=16,
        decoder_d_model=8, num_layers=2, decoder_num_layers=1, adaptive_patching_levels=2,
        num_input_channels=1, decoder_mode="common_channel",
    )  # fmt: skip
    TinyTimeMixerForPrediction(config).save_pretrained(tmp_path / "ttm")
    return tmp_path / "ttm"


@pytest.fixture
def chronos_folder(tmp_path):
    pytest.importorskip("chronos", reason="the extra chronos is not installed")
    import torch
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    torch.manual_seed(0)
    config = T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2, vocab_size=2,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    config.chronos_config = {
        "context_length": 64, "prediction_length": 16, "input_patch_size": 8,
        "input_patch_stride": 8, "quantiles": [0.1, 0.5, 0.9], "use_reg_token": True,
    }  # fmt: skip
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.architectures = ["ChronosBoltModelForForecasting"]
    ChronosBoltModelForForecasting(config).save_pretrained(tmp_path / "bolt")
    return tmp_path / "bolt"


def goes_the_whole_way(folder, context):
    backbone = load_backbone(folder)
    assert backbone.card.kind == "pretrained"
    assert (backbone.context, backbone.horizon) == (context, 16)
    x = np.cumsum(np.random.default_rng(0).normal(size=(3, 2, 90)), axis=2).astype(np.float32)
    found = backbone.forecast(x, 16)
    assert found.shape == (3, 2, 16)
    assert np.isfinite(found).all()
    assert np.allclose(found, backbone.forecast(x[..., -64:], 16), atol=1e-3)
    alone = backbone.forecast(x[1:2, 1:], 16)
    assert np.allclose(alone[0, 0], found[1, 1], atol=1e-3)
    moved = backbone.forecast(500 + 20 * x, 16)
    assert np.allclose(moved, 500 + 20 * found, rtol=1e-3, atol=0.5)
    assert backbone.forecast(x[..., :40], 16).shape == (3, 2, 16)
    longer = backbone.forecast(x, 40)
    assert longer.shape == (3, 2, 40)
    assert np.isfinite(longer).all()
    bound = backbone.ahead(5).fit(Windows.of(x), seed=0)
    assert np.allclose(bound.embed(x), found[..., :5].reshape(3, -1), atol=1e-3)
    return backbone, x


def test_a_tiny_time_mixer_in_a_folder_forecasts_as_its_program_does(ttm_folder):
    backbone, x = goes_the_whole_way(ttm_folder, 64)
    for length, horizon in ((90, 16), (64, 5), (40, 40)):
        program = backbone.forecaster(2, length, horizon)
        said = program.run(x[..., :length])
        assert np.allclose(said, backbone.forecast(x[..., :length], horizon), atol=1e-3)
    check_backbone(backbone)


def test_a_tiny_time_mixer_gets_a_head_and_ships(ttm_folder):
    raw = sample_series()
    task = Forecasting(horizon=12).bound(raw)
    check_estimator(ForecastMixer(), load_backbone(ttm_folder), task)


@pytest.mark.filterwarnings("ignore:We recommend keeping prediction length")
def test_a_chronos_in_a_folder_forecasts_and_has_no_program(chronos_folder):
    backbone, _ = goes_the_whole_way(chronos_folder, 64)
    with pytest.raises(ModelError) as caught:
        backbone.program(2, 90)
    assert caught.value.code == "program-none"


@pytest.mark.parametrize(
    ("config", "module", "distribution"),
    [(TTM, "tsfm_public", "granite-tsfm"), (CHRONOS, "chronos", "chronos-forecasting")],
)
def test_without_its_package_it_says_what_to_install(
    config, module, distribution, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionError) as caught:
        load_backbone(folder_of(config, tmp_path / "model"))
    assert caught.value.code == "extra-missing"
    assert f"pip install {distribution}" in str(caught.value)


def test_a_name_that_was_not_downloaded_says_how(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="no package of the hub is installed")

    def no_network(*given, **named):
        assert named["local_files_only"], "it would have downloaded unasked"
        raise hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(hub, "snapshot_download", no_network)
    with pytest.raises(ModelError) as caught:
        load_backbone("hf:amazon/chronos-bolt-small")
    assert caught.value.code == "weights-missing"
    assert "hf download amazon/chronos-bolt-small" in str(caught.value)


def test_a_name_that_was_downloaded_is_read(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="no package of the hub is installed")
    monkeypatch.setitem(sys.modules, "chronos", type(sys)("chronos"))
    place = folder_of(CHRONOS, tmp_path / "model")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **named: str(place))
    backbone = load_backbone("hf:amazon/chronos-bolt-small")
    assert backbone.card.name == "hf:amazon/chronos-bolt-small"
    assert (backbone.context, backbone.horizon) == (64, 16)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"model_type": "llama"}, "folder-kind"),
        ({"chronos_config": {"context_length": 64}}, "folder-form"),
        ({"model_type": "tinytimemixer", "context_length": "long"}, "folder-form"),
    ],
)
def test_a_folder_that_is_no_forecaster_is_refused(config, code, tmp_path, monkeypatch):
    for module in ("chronos", "tsfm_public"):
        monkeypatch.setitem(sys.modules, module, type(sys)(module))
    with pytest.raises(ModelError) as caught:
        load_forecaster(folder_of(config, tmp_path / "model"))
    assert caught.value.code == code


def test_weights_that_cannot_be_read_end_in_an_error(tmp_path, monkeypatch):
    pytest.importorskip("chronos", reason="the extra chronos is not installed")
    backbone = load_forecaster(
        folder_of({**CHRONOS, "chronos_pipeline_class": "ChronosBoltPipeline"}, tmp_path / "model")
    )
    with pytest.raises(ModelError) as caught:
        backbone.forecast(np.zeros((1, 1, 64), dtype=np.float32), 4)
    assert caught.value.code == "weights-unread"
