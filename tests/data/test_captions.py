"""Tokens of the caption table, by hand; every message."""

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data import captions

TEMPLATES = ("a photo of a {}.", "a {}")
TEXTS = ["a photo of a dog.", "a dog", "a photo of a big cat."]


@pytest.fixture(scope="module")
def tokenizer():
    return captions.word_tokenizer(TEXTS)


def test_vocabulary_is_padding_begin_words_end(tokenizer):
    words = [captions.PAD, captions.BOS, ".", "a", "big", "cat", "dog", "of", "photo", captions.EOT]
    assert tokenizer.get_vocab() == {word: number for number, word in enumerate(words)}


def test_rows_are_begin_words_end_padding(tokenizer):
    tokens = captions.tokenize(tokenizer, ["a dog", "A photo of a BIG cat."])
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [
        [1, 3, 6, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 3, 8, 7, 3, 4, 5, 2, 9, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_the_end_of_text_is_the_largest_id_of_every_row(tokenizer):
    tokens = captions.tokenize(tokenizer, TEXTS)
    end = tokenizer.get_vocab()[captions.EOT]
    assert end == max(tokenizer.get_vocab().values())
    assert tokens.argmax(axis=1).tolist() == [7, 3, 8]
    assert ((tokens == end).sum(axis=1) == 1).all()


@pytest.mark.parametrize(("num_words", "length"), [(0, 8), (1, 8), (6, 8), (7, 16), (14, 16)])
def test_rows_are_as_long_as_the_longest_rounded_up_to_eight(tokenizer, num_words, length):
    tokens = captions.tokenize(tokenizer, ["", " ".join(["dog"] * num_words)])
    assert tokens.shape == (2, length)


def test_an_unknown_word_is_named_with_its_caption_and_the_nearest(tokenizer):
    message = (
        r"caption 'a photo of a Dogg\.': the tokenizer does not know the word 'Dogg'\. "
        r"Did you mean 'dog'\? Add its text"
    )
    with pytest.raises(ConfigError, match=message):
        captions.tokenize(tokenizer, ["a dog", "a photo of a Dogg."])


def test_words_that_look_like_special_tokens_are_words():
    tokenizer = captions.word_tokenizer(["a [PAD] sign"])
    assert captions.tokenize(tokenizer, ["a [PAD] sign"])[0].tolist().count(0) == 1


def test_table_rows_are_class_major():
    table = captions.CaptionTable(("dog", "cat"), TEMPLATES)
    texts = table.texts()
    assert texts == ["a photo of a dog.", "a dog", "a photo of a cat.", "a cat"]
    for i, name in enumerate(table.class_names):
        for j, template in enumerate(TEMPLATES):
            assert texts[table.row(i, j)] == template.format(name)
    assert table.template_indices(("a {}", "a photo of a {}.")) == (1, 0)


def test_other_braces_are_text():
    table = captions.CaptionTable(("{dog}", "{}"), ("a {} in {braces} {",))
    assert table.texts() == ["a {dog} in {braces} {", "a {} in {braces} {"]


@pytest.mark.parametrize(("template", "places"), [("a dog", 0), ("a {0}", 0), ("a {} {}", 2)])
def test_a_template_needs_one_place_for_the_name(template, places):
    with pytest.raises(ConfigError, match=rf"got {places} places '{{}}' for the class name"):
        captions.CaptionTable(("dog",), ("a {}", template))


@pytest.mark.parametrize(("names", "templates"), [((), ("a {}",)), (("dog",), ())])
def test_an_empty_table(names, templates):
    message = rf"got {len(names)} class names and {len(templates)} templates, expected at least"
    with pytest.raises(ConfigError, match=message):
        captions.CaptionTable(names, templates)


def test_class_prompts_are_the_table_by_class(tokenizer):
    prompts = captions.class_prompts(tokenizer, ("dog", "big cat"), TEMPLATES)
    assert prompts.shape == (2, 2, 16)
    expected = captions.tokenize(tokenizer, ["a photo of a big cat.", "a big cat"])
    np.testing.assert_array_equal(prompts[1], expected)
