"""Backbones by name, by path, and from an outside package's entry point alone."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgegraft.zoo.registry import list_backbones, load_backbone
from edgegraft_edge import parts
from edgegraft_edge.errors import ModelError, OptionError
from edgegraft_edge.signal import Windows

OUTSIDE = """
from dataclasses import dataclass, replace
import numpy as np
from edgegraft.zoo.backbone import BackboneCard
from edgegraft_edge.program import Draft

@dataclass(frozen=True)
class Loudness:
    card: BackboneCard
    factor: float = 1.0

    @classmethod
    def from_card(cls, card, weights):
        return cls(card, **card.options)

    def fit(self, windows, *, seed):
        return self

    def embed(self, x):
        return self.program(x.shape[1], x.shape[2]).run(x)

    def program(self, n_channels, n_timepoints):
        draft = Draft()
        power = draft.add("mean", draft.add("mul", "x", "x"), axes=[2], keepdims=False)
        return draft.finish(draft.add("mul", power, np.float32(self.factor)))
"""


@pytest.fixture
def outside_package(tmp_path, monkeypatch):
    """A package on the path that registers one architecture, as pip would install it."""
    (tmp_path / "loudness_outside.py").write_text(OUTSIDE)
    info = tmp_path / "loudness_outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loudness-outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgegraft.architectures]\nloudness = loudness_outside:Loudness\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    parts.refresh()
    yield
    monkeypatch.undo()
    parts.refresh()


def _own_weights(folder: Path, checksum: str | None = None, architecture="loudness") -> Path:
    file = folder / "mine.safetensors"
    file.write_bytes(b"weights of mine")
    checksum = hashlib.sha256(b"weights of mine").hexdigest() if checksum is None else checksum
    file.with_suffix(".toml").write_text(
        f'name = "mine"\narchitecture = "{architecture}"\nsummary = "own"\nkind = "pretrained"\n'
        f'licence = "CC0-1.0"\nchecksum = "{checksum}"\n[options]\nfactor = 2.0\n'
    )
    return file


def test_registry_lists_cards_and_loads_each_fixed_one():
    cards = list_backbones()
    names = [card.name for card in cards]
    assert {"minirocket", "statistics", "spectrum"} <= set(names)
    assert names == sorted(names)
    windows = Windows.of(np.random.default_rng(0).standard_normal((4, 2, 32)))
    for card in cards:
        if card.kind == "fixed" and "series" in card.takes:
            backbone = load_backbone(card.name)
            assert backbone.card == card
            assert len(backbone.fit(windows, seed=0).embed(windows.x)) == 4


def test_registry_listing_imports_nothing_heavy():
    code = (
        "import sys; from edgegraft.zoo.registry import list_backbones; list_backbones();"
        "heavy = {'torch', 'numba', 'sklearn', 'scipy', 'matplotlib', 'pyarrow'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_registry_misspelt_name_says_the_nearest():
    with pytest.raises(OptionError) as misspelt:
        load_backbone("minirokcet")
    assert misspelt.value.code == "backbone-unknown"
    assert "minirocket" in misspelt.value.problems[0].remedy


def test_registry_takes_an_outside_architecture_by_entry_point_alone(outside_package):
    backbone = load_backbone("loudness")
    x = np.full((2, 3, 8), 2.0, dtype=np.float32)
    assert backbone.embed(x).tolist() == [[4.0, 4.0, 4.0]] * 2
    (card,) = (card for card in list_backbones() if card.name == "loudness")
    assert "loudness-outside" in card.summary


def test_registry_loads_own_weights_with_their_card(outside_package, tmp_path):
    file = _own_weights(tmp_path)
    for path in (file, str(file)):
        backbone = load_backbone(path)
        assert (backbone.card.name, backbone.factor) == ("mine", 2.0)


def test_registry_refuses_weights_that_are_not_the_cards(outside_package, tmp_path):
    for checksum in ("", "0" * 64):
        with pytest.raises(ModelError) as mismatch:
            load_backbone(_own_weights(tmp_path, checksum))
        assert mismatch.value.code == "checksum-mismatch"


def test_registry_refuses_missing_and_malformed_files(outside_package, tmp_path):
    with pytest.raises(ModelError) as missing:
        load_backbone(tmp_path / "none.safetensors")
    assert missing.value.code == "weights-missing"
    file = _own_weights(tmp_path)
    beside = file.with_suffix(".toml")
    text = beside.read_text()
    beside.unlink()
    with pytest.raises(ModelError) as cardless:
        load_backbone(file)
    assert cardless.value.code == "weights-missing"
    for damaged, code in (
        ("name = ", "card-form"),
        ('name = "bare"', "card-form"),
        (text.replace("licence", "license"), "card-form"),
        (text.replace("factor", "fcator"), "card-options"),
    ):
        beside.write_text(damaged)
        with pytest.raises(ModelError) as malformed:
            load_backbone(file)
        assert malformed.value.code == code
    beside.write_text(text.replace('"loudness"', '"loudnes"'))
    with pytest.raises(OptionError) as unknown:
        load_backbone(file)
    assert unknown.value.code == "name-unknown"
