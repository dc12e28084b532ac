"""Captions: (class, template) pairs, tokenised once as a table."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from calib_jax.core.errors import ConfigError, nearest

PAD, BOS, EOT = "[PAD]", "[BOS]", "[EOT]"
_LENGTH_STEP = 8


def word_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of lower-case words and punctuation marks that knows the words of the texts.

    For models trained from scratch on few words: id 0 pads, 1 begins, the
    words follow in alphabetical order, and the largest id is the end of text, as
    the towers' pooling has it.
    """
    normalizer = normalizers.Lowercase()
    splitter = pre_tokenizers.Whitespace()
    words = sorted(
        {
            word
            for text in texts
            for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        }
    )
    vocabulary = {word: number for number, word in enumerate([PAD, BOS, *words, EOT])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    return tokenizer


def read_tokenizer(path: pathlib.Path) -> Tokenizer:
    """The tokenizer that a pre-training run has written.

    Raises:
        ConfigError: The file is missing or damaged, or is of another kind of tokenizer.
    """
    if not path.exists():
        raise ConfigError(
            f"pretrained: no {path.name} in {path.parent}. Set --config.pretrained to a folder "
            "that a pre-training run has written."
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"pretrained: {path} cannot be read ({error}). Copy it again.") from error
    missing = [name for name in (PAD, BOS, EOT) if tokenizer.token_to_id(name) is None]
    if missing:
        raise ConfigError(
            f"pretrained: {path} has no token {missing[0]!r}, expected {PAD}, {BOS} and {EOT}. "
            "Use a model that a pre-training run has written."
        )
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> Int[np.ndarray, "n t"]:
    """Token ids, each row BOS, words, EOT, padding; t is the longest row rounded up to 8.

    Exact for a causal tower: tokens after the EOT do not change its output.

    Raises:
        ConfigError: A text has a word that the tokenizer does not know.
    """
    vocabulary = tokenizer.get_vocab()
    special = {name: vocabulary[name] for name in (PAD, BOS, EOT)}
    rows = []
    for text, encoding in zip(texts, tokenizer.encode_batch(list(texts)), strict=True):
        if special[PAD] in encoding.ids:
            unknown = text[slice(*encoding.offsets[encoding.ids.index(special[PAD])])]
            raise ConfigError(
                f"caption {text!r}: the tokenizer does not know the word {unknown!r}."
                f"{nearest(unknown.lower(), vocabulary)} "
                "Add its text to the ones the tokenizer is made from."
            )
        rows.append([special[BOS], *encoding.ids, special[EOT]])
    longest = max(map(len, rows))
    length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    tokens = np.full((len(rows), length), special[PAD], np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens


@dataclasses.dataclass(frozen=True)
class CaptionTable:
    """Every (class, template) caption of an experiment.

    Attributes:
        class_names: What stands in the templates' braces.
        templates: Sentences with `{}`.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises a ConfigError for a template without braces or an empty table."""
        if not self.class_names or not self.templates:
            raise ConfigError(
                f"captions: got {len(self.class_names)} class names and {len(self.templates)} "
                "templates, expected at least one of each. Name them in the config."
            )
        for template in self.templates:
            if template.count("{}") != 1:
                raise ConfigError(
                    f"template {template!r}: got {template.count('{}')} places '{{}}' for the "
                    "class name, expected one. Correct the template."
                )

    def texts(self) -> list[str]:
        """All captions; caption (class i, template j) is row `i * len(templates) + j`."""
        # Not `format`: it would stumble over other braces in a template.
        return [
            template.replace("{}", name) for name in self.class_names for template in self.templates
        ]

    def row(self, class_index: int, template_index: int) -> int:
        """The row of a caption in the table."""
        return class_index * len(self.templates) + template_index

    def template_indices(self, templates: Sequence[str]) -> tuple[int, ...]:
        """The columns of some of the table's templates."""
        return tuple(self.templates.index(template) for template in templates)


def class_prompts(
    tokenizer: Tokenizer, class_names: Sequence[str], templates: Sequence[str]
) -> Int[np.ndarray, "c k t"]:
    """The tokenised prompts of each class, for the zero-shot head."""
    table = CaptionTable(tuple(class_names), tuple(templates))
    return tokenize(tokenizer, table.texts()).reshape(len(class_names), len(templates), -1)
