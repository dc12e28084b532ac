"""CLIP's token ids against plain loops over its byte pairs, and on ImageNet's prompts."""

import json
import unicodedata

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data import captions, tokenizers
from calib_jax.data.datasets import imagenet

BOS, EOT = 49406, 49407
CAT = [BOS, 320, 1125, 539, 320, 2368, EOT]


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


def test_clip_ids_are_openai(clip):
    assert (clip.bos, clip.eot, clip.pad, clip.unknown) == (BOS, EOT, 0, None)
    assert clip.vocab_size == 49408
    tokens = tokenizers.tokenize(clip, ["a photo of a cat", ""], context_length=77)
    assert tokens.tolist() == [[*CAT, 0], [BOS, EOT, 0, 0, 0, 0, 0, 0]]


CAPTIONS = [
    "A PHOTO of a CaT",
    "  a\tphoto \n\n of a  cat ",
    "#1 of 2024, 100%!!! (really...)",
    "it's the dogs' don't we'll they've I'm she'd you're 'tis 's",
    "café, naïve Übermaß",
    "cafe\u0301",  # a combining accent: the same as above after NFC
    "日本の猫 и кошка",
    "a cat 🐱🎉 and a family 👨‍👩‍👧",
    "snake_case/x-ray @user http://a.b/c?d=e&f",
    "½ and ² and Ⅻ",
    "itap of a shih-tzu",
    "no\u00a0break\u3000wide",
    "!",
]


class BytePairs:
    """OpenAI's `SimpleTokenizer` without ftfy, with plain loops."""

    def __init__(self, folder):
        self.vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
        self.ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self.letters = {byte: chr(byte) for byte in printable}
        self.letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}

    def split(self, text):
        contractions, kind = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"), None
        words = []
        while text:
            for contraction in contractions:
                if kind != "P" and text.startswith(contraction):
                    words.append(contraction)
                    text, kind = text[len(contraction) :], None
                    break
            else:
                category = unicodedata.category(text[0])[0]
                category = "Z" if text[0].isspace() else category if category in "LN" else "P"
                if category == kind and category in "LP":
                    words[-1] += text[0]
                elif category != "Z":
                    words.append(text[0])
                text, kind = text[1:], category
        return words

    def merge(self, word):
        parts = [self.letters[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while True:
            pairs = [pair for pair in zip(parts, parts[1:], strict=False) if pair in self.ranks]
            if not pairs:
                return parts
            first = min(pairs, key=self.ranks.__getitem__)
            merged = []
            while parts:
                size = 2 if tuple(parts[:2]) == first else 1
                merged.append("".join(parts[:size]))
                parts = parts[size:]
            parts = merged

    def __call__(self, text):
        text = unicodedata.normalize("NFC", text).lower()
        pieces = [piece for word in self.split(text) for piece in self.merge(word)]
        return [BOS, *(self.vocabulary[piece] for piece in pieces), EOT]


@pytest.fixture(scope="module")
def oracle(clip_folder):
    return BytePairs(clip_folder)


@pytest.mark.parametrize("text", CAPTIONS)
def test_clip_ids_are_those_of_plain_loops(clip, oracle, text):
    assert oracle("a photo of a cat") == CAT
    assert ids(clip, text) == oracle(text)


def test_clip_ids_of_random_text(clip, oracle):
    rng = np.random.default_rng(0)
    alphabet = list("aAbBéßñЖ中🎉  \t.!'#_-0129stdlmrev")
    for _ in range(200):
        text = "".join(rng.choice(alphabet, rng.integers(0, 30)))
        assert ids(clip, text, 200) == oracle(text), text


def test_what_openai_repairs_and_we_do_not(clip, oracle):
    """The documented differences to the original, which calls ftfy and html.unescape."""
    assert ids(clip, "it’s") != ids(clip, "it's")
    assert ids(clip, "a &amp; b") != ids(clip, "a & b")
    assert ids(clip, "ΟΔΟΣ") != oracle("ΟΔΟΣ")


def test_imagenet_prompts_fit_24_tokens(clip, oracle, caplog):
    names, templates = imagenet.CLASS_NAMES, imagenet.TEMPLATES
    texts = captions.CaptionTable(names, templates).texts()
    prompts = tokenizers.tokenize(clip, texts, context_length=77).reshape(1000, 80, -1)
    assert prompts.shape == (1000, 80, 24)
    assert (prompts == EOT).sum() == 80_000
    assert prompts.argmax(axis=-1).max() + 1 <= 22
    assert not caplog.messages
    for i in range(0, 1000, 97):
        for j in range(0, 80, 13):
            row = prompts[i, j].tolist()
            expected = oracle(templates[j].replace("{}", names[i]))
            assert row == expected + [0] * (24 - len(expected))


def test_clip_keeps_its_end_at_the_context(clip, caplog):
    rows = tokenizers.tokenize(clip, ["cat " * 75, "cat " * 76], context_length=77)
    np.testing.assert_array_equal(rows, [[BOS, *[2368] * 75, EOT]] * 2)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("1 of 2 captions are longer than 77 tokens")


def test_an_end_of_text_inside_a_caption(clip):
    message = (
        r"caption 'a <\|endoftext\|> cat': got '<\|endoftext\|>' inside, which hides what follows "
        r"it, expected it nowhere\. Remove it\."
    )
    with pytest.raises(ConfigError, match=message):
        tokenizers.tokenize(clip, ["a cat", "a <|endoftext|> cat"], context_length=77)
