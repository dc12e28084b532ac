"""Rows by hand and by `transformers`, files of both kinds of tokenizers; every message."""

import json
import logging
import shutil
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from calib_jax.core.errors import ConfigError
from calib_jax.data import tokenizers

TEXTS = ["a photo of a dog.", "a dog", "a photo of a big cat."]
BOS, EOT = 49406, 49407


@pytest.fixture(scope="module")
def words():
    return tokenizers.word_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def clip_folder(golden_dir):
    return golden_dir / "clip_tokenizer"


@pytest.fixture(scope="module")
def clip(clip_folder):
    return tokenizers.read_tokenizer(clip_folder)


def ids(tokenizer, text, context_length=77):
    """The ids of a text up to its EOT."""
    (row,) = tokenizers.tokenize(tokenizer, [text], context_length=context_length).tolist()
    return row[: row.index(tokenizer.eot) + 1]


def test_vocabulary_is_padding_begin_words_end(words):
    names = ["[PAD]", "[BOS]", ".", "a", "big", "cat", "dog", "of", "photo", "[EOT]"]
    assert words.backend.get_vocab() == {word: number for number, word in enumerate(names)}
    assert (words.pad, words.bos, words.eot, words.vocab_size) == (0, 1, 9, 10)


def test_rows_are_begin_words_end_padding(words):
    tokens = tokenizers.tokenize(words, ["a dog", "A photo of a BIG cat."], context_length=77)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [
        [1, 3, 6, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 3, 8, 7, 3, 4, 5, 2, 9, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_the_end_of_text_is_the_largest_id_of_every_row(words):
    tokens = tokenizers.tokenize(words, TEXTS, context_length=77)
    assert words.eot == max(words.backend.get_vocab().values())
    assert tokens.argmax(axis=1).tolist() == [7, 3, 8]
    assert ((tokens == words.eot).sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("num_words", "context_length", "length"),
    [
        (0, 77, 8),
        (6, 77, 8),
        (7, 77, 16),
        (22, 77, 24),
        (23, 77, 32),
        (31, 77, 48),
        (62, 77, 64),
        (63, 77, 77),
        (75, 77, 77),
        (63, 200, 200),
        (0, 4, 4),
        (6, 8, 8),
        (7, 12, 12),
    ],
)
def test_rows_take_the_smallest_static_length(words, num_words, context_length, length):
    texts = ["", " ".join(["dog"] * num_words)]
    tokens = tokenizers.tokenize(words, texts, context_length=context_length)
    assert tokens.shape == (2, length)


def test_no_texts_are_no_rows(words):
    assert tokenizers.tokenize(words, [], context_length=77).shape == (0, 8)


def test_long_rows_keep_their_end_and_are_counted_once(words, caplog):
    texts = ["a dog", "a photo of a dog.", "dog dog dog", "dog dog dog dog dog"]
    with caplog.at_level(logging.WARNING, "calib_jax"):
        tokens = tokenizers.tokenize(words, texts, context_length=5)
    assert tokens.tolist() == [[1, 3, 6, 9, 0], [1, 3, 8, 7, 9], [1, 6, 6, 6, 9], [1, 6, 6, 6, 9]]
    assert caplog.messages == [
        "2 of 4 captions are longer than 5 tokens and lose their last words; "
        "first: 'a photo of a dog.'"
    ]


def test_rows_that_fill_the_context_are_whole(words, caplog):
    tokens = tokenizers.tokenize(words, ["dog dog dog"], context_length=5)
    assert tokens.tolist() == [[1, 6, 6, 6, 9]]
    assert not caplog.messages


def test_an_unknown_word_is_named_with_its_caption_and_the_nearest(words):
    message = (
        r"caption 'a photo of a Dogg\.': the tokenizer does not know the word 'Dogg'\. "
        r"Did you mean 'dog'\? Add its text"
    )
    with pytest.raises(ConfigError, match=message):
        tokenizers.tokenize(words, ["a dog", "a photo of a Dogg."], context_length=77)


def test_words_that_look_like_special_tokens_are_words(tmp_path):
    tokenizer = tokenizers.word_tokenizer(["a [PAD] [EOT] sign"])
    tokenizer.save(tmp_path, context_length=77)
    expected = ids(tokenizer, "a [PAD] [EOT] sign")
    assert len(expected) == 10
    assert 0 not in expected
    assert ids(tokenizers.read_tokenizer(tmp_path), "a [PAD] [EOT] sign") == expected
    assert auto_tokenizer(tmp_path)("a [PAD] [EOT] sign")["input_ids"] == expected


def auto_tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def test_saved_words_are_read_by_transformers_and_by_us(words, tmp_path):
    folder = tmp_path / "new" / "model"
    words.save(folder, context_length=12)
    again = tokenizers.read_tokenizer(folder)
    assert again.backend.to_str() == words.backend.to_str()
    assert (again.bos, again.eot, again.pad, again.unknown) == (1, 9, 0, 0)
    theirs = auto_tokenizer(folder)
    assert theirs.model_max_length == 12
    rows = theirs(TEXTS, padding="max_length", truncation=True)["input_ids"]
    ours = tokenizers.tokenize(words, TEXTS, context_length=12)
    np.testing.assert_array_equal(ours, rows)


def test_words_saved_before_there_were_templates_are_read(words, tmp_path):
    content = json.loads(words.backend.to_str())
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert ids(tokenizers.read_tokenizer(tmp_path), "a dog") == [1, 3, 6, 9]


def test_saved_clip_is_read_by_transformers_and_by_us(clip, tmp_path):
    clip.save(tmp_path, context_length=77)
    again = tokenizers.read_tokenizer(tmp_path)
    assert again.backend.to_str() == clip.backend.to_str()
    theirs = auto_tokenizer(tmp_path)
    assert type(theirs).__name__.startswith("CLIPTokenizer")
    assert theirs.model_max_length == 77
    texts = ["a photo of a dog!", "", "It's a café 🐱 #1", "100% a/b\n c"]
    assert theirs(texts)["input_ids"] == [ids(clip, text) for text in texts]
    (tmp_path / "tokenizer.json").unlink()
    assert ids(tokenizers.read_tokenizer(tmp_path), "a photo of a cat") == CAT


def test_cached_tokenizer_json_of_the_hub(clip, tmp_path):
    """With another padding, and with cuts, as some files of the hub have them."""
    backend = Tokenizer.from_str(clip.backend.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(pad_id=EOT, pad_token="<|endoftext|>", length=4)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert ids(tokenizers.read_tokenizer(tmp_path), "a photo of a cat") == CAT
    assert ids(tokenizers.read_tokenizer(tmp_path), "a") == [BOS, 320, EOT]


CAT = [BOS, 320, 1125, 539, 320, 2368, EOT]


def test_importing_transformers_is_silent(caplog):
    logger = logging.getLogger("transformers")
    filters = list(logger.filters)
    with tokenizers._no_torch_advice():
        assert not logger.filter(record_of("PyTorch was not found. Models won't be available"))
        assert logger.filter(record_of("something else"))
    assert logger.filters == filters


def record_of(message):
    return logging.LogRecord("transformers", logging.WARNING, "", 0, message, None, None)


def test_words_need_no_transformers(words, tmp_path, monkeypatch):
    words.save(tmp_path, context_length=77)
    monkeypatch.setitem(sys.modules, "transformers", None)  # importing it fails
    assert tokenizers.read_tokenizer(tmp_path).vocab_size == 10


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ((), r"model.folder: no tokenizer.json in .*, and no vocab.json or merges.txt\. Copy"),
        (("vocab.json",), r"model.folder: no tokenizer.json in .*, and no merges.txt\. Copy"),
        (("merges.txt",), r"model.folder: no tokenizer.json in .*, and no vocab.json\. Copy"),
    ],
)
def test_missing_files(tmp_path, there, message):
    for name in there:
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=message):
        tokenizers.read_tokenizer(tmp_path, field="model.folder")


def test_a_missing_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"pretrained: no tokenizer.json in .*nowhere"):
        tokenizers.read_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "\0"])
def test_a_damaged_tokenizer_json(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"pretrained: .*tokenizer.json cannot be read \(.*Copy"):
        tokenizers.read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
@pytest.mark.parametrize("size", [0, 1001])
def test_cut_clip_files(clip_folder, tmp_path, name, size):
    copy_clip(clip_folder, tmp_path)
    (tmp_path / name).write_bytes((clip_folder / name).read_bytes()[:size])
    message = r"pretrained: CLIP's tokenizer in .* cannot be read \(.*\)\. Copy it again"
    if (name, size) == ("merges.txt", 0):
        message = MISMATCH
    with pytest.raises(ConfigError, match=message):
        tokenizers.read_tokenizer(tmp_path)


MISMATCH = (
    r"pretrained: the vocabulary in .* and its merges do not belong together: \d+ pieces, the "
    r"first '.+', expected every byte and what the merges make of them\. Copy CLIP's"
)


def test_merges_that_end_early(clip_folder, tmp_path):
    copy_clip(clip_folder, tmp_path)
    lines = (clip_folder / "merges.txt").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "merges.txt").write_text("".join(lines[:-1]), "utf-8")
    with pytest.raises(ConfigError, match=MISMATCH.replace(r"\d+", "1")):
        tokenizers.read_tokenizer(tmp_path)


def copy_clip(clip_folder, folder):
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(clip_folder / name, folder / name)


def test_a_vocabulary_without_a_byte(clip_folder, tmp_path):
    copy_clip(clip_folder, tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text("utf-8"))
    del vocabulary["Ā</w>"]  # byte 0 at the end of a word: no merge needs it
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ConfigError, match=r"do not belong together: 1 pieces, the first 'Ā</w>'"):
        tokenizers.read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (models.WordPiece({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"), "WordPiece"),
        (models.BPE({"a": 0, "b": 1}, []), "BPE"),
        (models.Unigram([("a", 0.0)]), "Unigram"),
    ],
)
def test_other_kinds_of_tokenizers(tmp_path, model, kind):
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    message = rf"pretrained: .*tokenizer.json is of the kind {kind}, expected CLIP's \(BPE whose"
    with pytest.raises(ConfigError, match=message):
        tokenizers.read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["[PAD]", "[BOS]", "[EOT]"])
def test_words_without_a_special_token(words, tmp_path, name):
    content = json.loads(words.backend.to_str())
    content["model"]["vocab"]["<other>"] = content["model"]["vocab"].pop(name)
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"has no token '\{name[:-1]}\]', expected \[PAD\], "):
        tokenizers.read_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["words", "clip"])
def test_the_end_of_text_must_be_the_largest_id(kind, request, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_tokens(["<new>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    message = (
        rf"pretrained: the tokenizer in .* ends a text with id {tokenizer.eot}, expected its "
        rf"largest id {tokenizer.eot + 1}, where the text towers pool"
    )
    with pytest.raises(ConfigError, match=message):
        tokenizers.read_tokenizer(tmp_path)


def test_a_tokenizer_fits_its_tower(words):
    tokenizers.check_fits(words, vocab_size=10, eot=9, field="pretrained")
    tokenizers.check_fits(words, vocab_size=32, eot=9, field="pretrained")


@pytest.mark.parametrize(("vocab_size", "eot"), [(9, 9), (49408, EOT), (10, 8)])
def test_a_tokenizer_of_another_tower(words, vocab_size, eot):
    message = (
        r"pretrained: got a tokenizer of 10 ids whose end of text is 9, expected one for the text "
        rf"tower's {vocab_size} ids that ends with {eot}\. Use the tokenizer that came"
    )
    with pytest.raises(ConfigError, match=message):
        tokenizers.check_fits(words, vocab_size=vocab_size, eot=eot, field="pretrained")


def test_rows_are_trimmed_to_the_longest_of_them():
    tokenizer = tokenizers.word_tokenizer(["a b c d e f g h i j k l m n o p q r"])
    texts = ["a b", "a b c d e f g", "a b c d e f g h i j k l m n o p q r"]
    rows = tokenizers.tokenize(tokenizer, texts, context_length=21)
    assert rows.shape == (3, 21)
    for number, length in ((1, 8), (2, 16), (3, 21)):
        trimmed = tokenizers.trimmed(rows[:number], tokenizer)
        assert trimmed.shape == (number, length)
        np.testing.assert_array_equal(trimmed, rows[:number, :length])
