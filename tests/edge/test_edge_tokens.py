"""Sentences taken apart on the device, as the field's libraries take them apart."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegraft_edge import vocabulary
from edgegraft_edge.bytepair import byte_letters, words
from edgegraft_edge.errors import ModelError
from edgegraft_edge.program import Draft, split
from edgegraft_edge.signal import TextSpec
from edgegraft_edge.terms import terms_of
from edgegraft_edge.tokens import READERS
from edgegraft_edge.vocabulary import packed
from edgegraft_edge.wordpiece import basic_tokens

SHARED = Path(__file__).parents[2].parent / "shared/data"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "light", "##s", "on", "!", "##on", "l", "在"]
LETTERS = list(byte_letters())
BYTES, MERGES = packed([*LETTERS, "li", "Ġli", "end"]), packed(["#version: 0.2", "l i", "Ġ li"])


def pieces(*texts, size=8, **options):
    x = TextSpec(256).pack(texts)
    return READERS["wordpiece"](x, packed(PIECES), size=size, **options).astype(int).tolist()


def pairs(*texts, size=6):
    x = TextSpec(256).pack(texts)
    found = READERS["bytepair"](x, BYTES, MERGES, size=size, pad=258).astype(int)
    return [[([*LETTERS, "li", "Ġli", "end"])[n] for n in row if n != 258] for row in found]


def test_word_pieces_are_framed_matched_greedily_and_filled_up():
    assert pieces("Lights on!") == [[2, 4, 5, 6, 7, 3, 0, 0]]
    assert pieces("lighton") == [[2, 4, 8, 3, 0, 0, 0, 0]]
    assert pieces("lightx") == [[2, 1, 3, 0, 0, 0, 0, 0]]
    assert pieces("", " \t") == [[2, 3, 0, 0, 0, 0, 0, 0]] * 2


def test_word_pieces_are_cut_before_the_last_marker():
    assert pieces("on " * 20, size=4) == [[2, 6, 6, 3]]


def test_markers_inside_of_a_sentence_are_text():
    assert 3 not in pieces("a [SEP] b")[0][:5]


def test_case_and_accents_follow_the_options():
    assert basic_tokens("Ünö", lower=True, accents=False) == ["uno"]
    assert basic_tokens("Ünö", lower=True, accents=True) == ["ünö"]
    assert basic_tokens("Ünö", lower=False, accents=True) == ["Ünö"]
    assert basic_tokens("on在on", lower=True, accents=False) == ["on", "在", "on"]
    assert basic_tokens("a\u200bb\x00\ufffd\tc", lower=True, accents=False) == ["ab", "c"]


def test_a_word_of_more_than_a_hundred_letters_is_unknown():
    assert pieces("l" * 101) == [[2, 1, 3, 0, 0, 0, 0, 0]]


def test_byte_pairs_merge_by_rank_and_keep_the_space():
    assert pairs("li li l") == [["li", "Ġli", "Ġ", "l"]]
    assert "".join(pairs("é", size=4)[0]) == "".join(LETTERS[b] for b in "é".encode())
    assert pairs("") == [[]]


def test_byte_pairs_start_from_words_as_the_pattern_of_gpt2_has_them():
    assert list(words("we'll  go\n\n now")) == ["we", "'ll", " ", " go", "\n\n", " now"]
    assert list(words("a1 😀!\x1c ")) == ["a", "1", " 😀!\x1c", " "]


def test_terms_count_words_and_characters_within_words():
    x = TextSpec(32).pack(["On on", "off"])
    options = {"unit": "word", "shortest": 1, "longest": 2, "size": 3}
    found = READERS["terms"](x, packed(["on", "on on", "never"]), **options)
    assert found.tolist() == [[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert list(terms_of("ab", "character", 2, 3)) == [" a", "ab", "b ", " ab", "ab "]


@pytest.mark.parametrize(
    ("reader", "tables", "options"),
    [
        ("wordpiece", [packed(["a", "b"])], {"size": 4}),
        ("wordpiece", [np.array([255, 254], np.uint8)], {"size": 4}),
        ("bytepair", [packed(["a"]), MERGES], {"size": 4, "pad": 0}),
        ("bytepair", [BYTES, packed(["l i i"])], {"size": 4, "pad": 0}),
        ("terms", [packed(["a"])], {"size": 2, "unit": "word", "shortest": 1, "longest": 1}),
    ],
)
def test_damaged_vocabularies_are_refused_by_code(reader, tables, options):
    with pytest.raises(ModelError) as caught:
        READERS[reader](TextSpec(8).pack(["a"]), *tables, **options)
    assert caught.value.code == "vocabulary-form"


def test_sizes_and_shapes_are_bounded():
    with pytest.raises(ModelError, match="tokens-size"):
        pieces("on", size=10**9)
    with pytest.raises(ModelError, match="text-shape"):
        READERS["wordpiece"](np.zeros((1, 2, 3)), packed(PIECES), size=4)


def test_vocabularies_are_parsed_once_and_few_are_kept():
    vocabulary._parsed.clear()
    for number in range(20):
        table = packed([*PIECES, f"word{number}"])
        for _ in range(2):
            READERS["wordpiece"](TextSpec(8).pack(["on"]), table, size=4)
    assert len(vocabulary._parsed) == vocabulary._KEPT


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_text_is_read_alone_as_among_others(texts):
    x = TextSpec(64).pack(texts)
    for reader, tables, options in (
        ("wordpiece", [packed(PIECES)], {"size": 7}),
        ("bytepair", [BYTES, MERGES], {"size": 7, "pad": 258}),
        (
            "terms",
            [packed(["a", " a"])],
            {"size": 2, "unit": "character", "shortest": 1, "longest": 3},
        ),
    ):
        together = READERS[reader](x, *tables, **options)
        assert together.dtype == np.float32
        assert np.isfinite(together).all()
        for row, one in zip(together, x, strict=True):
            assert np.array_equal(READERS[reader](one[None], *tables, **options)[0], row)


@given(st.binary(max_size=32))
def test_bytes_that_are_no_text_are_read_too(data):
    x = np.frombuffer(data.ljust(32, b"\0"), np.uint8)[None]
    assert READERS["bytepair"](x, BYTES, MERGES, size=5, pad=258).shape == (1, 5)
    assert READERS["wordpiece"](x, packed(PIECES), size=5).shape == (1, 5)


def test_readers_are_split_off_for_other_runtimes():
    draft = Draft()
    ids = draft.add("wordpiece", "x", packed(PIECES), size=4)
    program = draft.finish(draft.add("mul", ids, np.float32(2)))
    front, rest = split(program)
    x = TextSpec(16).pack(["lights on"])
    assert np.array_equal(rest.run(front.run(x)), program.run(x))
    assert "wordpiece" not in {op.kind for op in rest.ops}


# -- against the field's library


def _sentences():
    found = []
    for folder in sorted((SHARED / "snips/2017-06-custom-intent-engines").iterdir()):
        if folder.is_dir():
            data = (folder / f"validate_{folder.name}.json").read_text(encoding="utf-8")
            for row in json.loads(data)[folder.name]:
                found.append("".join(part["text"] for part in row["data"]))
    clinc = json.loads((SHARED / "clinc150/data/data_full.json").read_text(encoding="utf-8"))
    found += [text for part in ("test", "oos_test") for text, _ in clinc[part]]
    return found


def _odd_sentences():
    """Of blocks that have been in Unicode for long, so that two libraries agree on them."""
    rng = random.Random(0)
    blocks = [
        (0x20, 0x7F),
        (0xA0, 0x180),
        (0x391, 0x3CA),
        (0x410, 0x450),
        (0x3041, 0x3097),
        (0x4E00, 0x9FA5),
        (0xAC00, 0xD7A3),
        (0x1F300, 0x1F5FF),
        (0x2000, 0x2064),
    ]
    texts = [
        "",
        " ",
        "\t\n",
        "👩‍👩‍👧 🇦🇹",
        "Σίσυφος ΣΑΣ",
        "İstanbul",
        "ﬁne ½ ²",
        "e\u0301",
        "x" * 120,
    ]
    for _ in range(2000):
        texts.append(
            "".join(chr(rng.randrange(*rng.choice(blocks))) for _ in range(rng.randrange(1, 30)))
        )
    return texts


@pytest.fixture(scope="module")
def sentences():
    if not SHARED.exists():
        pytest.skip("the development data is not beside the checkout")
    spec = TextSpec(1024)
    x = spec.pack(_sentences() + _odd_sentences())
    return x, list(spec.unpack(x))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("lower", [True, False])
def test_word_pieces_equal_those_of_tokenizers(sentences, lower, tmp_path):
    library = pytest.importorskip("tokenizers")
    x, texts = sentences
    trainer = library.BertWordPieceTokenizer(lowercase=lower)
    trainer.train_from_iterator(texts[:5000], vocab_size=3000, show_progress=False)
    trainer.save_model(str(tmp_path))
    reference = library.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=lower)
    reference.enable_truncation(48)
    reference.enable_padding(length=48)
    entries = (tmp_path / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    found = READERS["wordpiece"](x, packed(entries), size=48, lower=lower)
    assert np.array_equal(found, [row.ids for row in reference.encode_batch(texts)])


@pytest.mark.slow
@pytest.mark.shared
def test_byte_pairs_equal_those_of_tokenizers(sentences, tmp_path):
    library = pytest.importorskip("tokenizers")
    x, texts = sentences
    reference = library.ByteLevelBPETokenizer()
    reference.train_from_iterator(texts[:5000], vocab_size=2000, show_progress=False)
    reference.save_model(str(tmp_path))
    numbers = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    reference.enable_truncation(48)
    reference.enable_padding(length=48, pad_id=len(numbers))
    found = READERS["bytepair"](
        x, packed(sorted(numbers, key=numbers.get)), packed(merges), size=48, pad=len(numbers)
    )
    assert np.array_equal(found, [row.ids for row in reference.encode_batch(texts)])
