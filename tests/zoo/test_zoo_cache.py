"""Embeddings are computed once; another backbone or another window is another entry."""

import dataclasses
import os
from dataclasses import dataclass, field

import numpy as np
import pytest

from edgegraft.fingerprint import fingerprint
from edgegraft.zoo import cache
from edgegraft.zoo.backbone import BackboneCard, shipped_card
from edgegraft.zoo.cache import embed_cached
from edgegraft.zoo.minirocket import MiniRocket
from edgegraft.zoo.statistics import Statistics
from edgegraft_edge.errors import ModelError
from edgegraft_edge.signal import Windows


@dataclass(frozen=True, eq=False)
class Counting:
    """Means of channels; counts how often it is asked."""

    factor: np.ndarray
    calls: list = field(default_factory=list, metadata={"identity": False})
    card: BackboneCard = field(default_factory=lambda: shipped_card("statistics"))

    def embed(self, x):
        self.calls.append(len(x))
        return x.mean(axis=2) * self.factor


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests():
    cache.forget()
    yield
    cache.forget()


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((5, 2, 16)).astype(np.float32)


def _counting(factor=1.0):
    return Counting(np.full(2, factor, dtype=np.float32))


def test_cache_computes_once_in_memory_and_on_disk(x, tmp_path):
    backbone = _counting()
    first = embed_cached(backbone, x, folder=tmp_path)
    assert np.array_equal(first, x.mean(axis=2))
    assert first.dtype == np.float32
    assert np.array_equal(embed_cached(backbone, x.copy(), folder=tmp_path), first)
    cache.forget()
    assert np.array_equal(embed_cached(_counting(), x, folder=tmp_path), first)
    assert backbone.calls == [5]
    assert [file.suffix for file in tmp_path.iterdir()] == [".embedding"]


def test_cache_tells_backbones_and_windows_apart(x, tmp_path):
    backbone, other = _counting(1.0), _counting(2.0)
    embed_cached(backbone, x, folder=tmp_path)
    assert np.array_equal(embed_cached(other, x, folder=tmp_path), 2 * x.mean(axis=2))
    changed = x.copy()
    changed[3, 1, 7] += 1e-3
    embed_cached(backbone, changed, folder=tmp_path)
    embed_cached(backbone, x.reshape(5, 4, 8)[:, :2], folder=tmp_path)
    assert len(backbone.calls) == 3
    card = dataclasses.replace(backbone.card, checksum="1")
    assert fingerprint(dataclasses.replace(backbone, card=card)) != fingerprint(backbone)


def test_cache_fingerprint_covers_the_fitted_state(x):
    for kind in (Statistics, lambda: MiniRocket(n_features=84)):
        first, again = (kind().fit(Windows.of(x), seed=0) for _ in range(2))
        other = kind().fit(Windows.of(x[:, ::-1]), seed=0)
        assert fingerprint(first) == fingerprint(again)
        assert len({fingerprint(b) for b in (kind(), first, other)}) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_cache_recomputes_a_damaged_entry(x, tmp_path, damage):
    backbone = _counting()
    z = embed_cached(backbone, x, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes({"truncated": data[:-5], "flipped": data, "empty": b""}[damage])
    cache.forget()
    assert np.array_equal(embed_cached(backbone, x, folder=tmp_path), z)
    assert len(backbone.calls) == 2
    cache.forget()
    embed_cached(backbone, x, folder=tmp_path)
    assert len(backbone.calls) == 2, "the damaged entry was not written anew"


def test_cache_on_disk_drops_what_was_unused_for_longest(x, tmp_path, monkeypatch):
    for index in range(3):
        embed_cached(_counting(index), x, folder=tmp_path)
        for file in tmp_path.iterdir():
            os.utime(file, (file.stat().st_atime - 10, file.stat().st_mtime - 10))
    oldest = min(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime)
    monkeypatch.setattr(cache, "DISK_BYTES", 3 * oldest.stat().st_size)
    embed_cached(_counting(3), x, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert not oldest.exists()


def test_cache_in_memory_is_bounded(x, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEGRAFT_CACHE", "off")
    monkeypatch.setattr(cache, "MEMORY_BYTES", 2 * 5 * 2 * 4)
    backbones = [_counting(index) for index in range(3)]
    for backbone in [*backbones, backbones[0], backbones[2]]:
        embed_cached(backbone, x)
    assert [len(backbone.calls) for backbone in backbones] == [2, 1, 1]


def test_cache_keeps_fast_embeddings_off_the_users_disk(x, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEGRAFT_CACHE", str(tmp_path / "kept"))
    embed_cached(_counting(), x)
    assert not (tmp_path / "kept").exists()
    monkeypatch.setattr(cache, "_READ_S", -1.0)
    embed_cached(_counting(2.0), x)
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_cache_does_without_a_disk_that_refuses(x, tmp_path):
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")
    assert np.array_equal(embed_cached(_counting(), x, folder=blocked), x.mean(axis=2))


def test_cache_hands_out_read_only_values(x, tmp_path):
    z = embed_cached(_counting(), x, folder=tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        z[0, 0] = 1.0


def test_cache_embeds_afresh_what_it_cannot_tell(x):
    @dataclass(frozen=True)
    class Opaque(Counting):
        secret: object = field(default_factory=object)

    opaque = Opaque(np.ones(2, dtype=np.float32))
    with pytest.raises(ModelError) as unknown:
        fingerprint(opaque)
    assert unknown.value.code == "fingerprint-unknown"
    for _ in range(2):
        assert np.array_equal(embed_cached(opaque, x), x.mean(axis=2))
    assert opaque.calls == [5, 5]


def test_of_pictures_only_those_not_known_are_computed(monkeypatch):
    monkeypatch.setenv("EDGEGRAFT_CACHE", "off")
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5)).astype(np.uint8)

    @dataclass(frozen=True, eq=False)
    class Means(Counting):
        def embed(self, x):
            self.calls.append(len(x))
            return x.mean(axis=(2, 3), dtype=np.float32) * self.factor

    backbone = Means(np.float32(2))
    fold = np.array([7, 1, 1, 3])
    first = embed_cached(backbone, x[fold])
    whole = embed_cached(backbone, x)
    again = embed_cached(backbone, x[::-1].astype(np.float32))
    assert backbone.calls == [3, 6]
    assert np.array_equal(whole[fold], first)
    assert np.array_equal(again, whole[::-1])
    assert np.array_equal(whole, x.mean(axis=(2, 3), dtype=np.float32) * 2)
    assert not first.flags.writeable
    other = dataclasses.replace(backbone, factor=np.float32(3), calls=[])
    assert not np.array_equal(embed_cached(other, x), whole)
    monkeypatch.setattr(cache, "MEMORY_BYTES", 40)
    embed_cached(backbone, x[:, :, ::-1])
    assert len(cache._rows) * 12 <= 40
