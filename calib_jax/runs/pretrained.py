"""The model that a run starts from, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from calib_jax.core import settings
from calib_jax.core.errors import ConfigError
from calib_jax.core.hub import folder_of
from calib_jax.core.manifests import MANIFEST
from calib_jax.data.tokenizers import (
    TOKENIZER_FILES,
    TextTokenizer,
    check_fits,
    read_tokenizer,
    word_tokenizer,
)
from calib_jax.models.config import TextConfig
from calib_jax.models.weights.load import Checkpoint, read_model
from calib_jax.runs.experiment import Experiment


def read_pretrained(experiment: Experiment) -> Checkpoint | None:
    """The model that the config names; None where it names none.

    Raises:
        ConfigError: It cannot be read, or is another than `model` says.
    """
    if not experiment.pretrained:
        return None
    model = experiment.model
    checkpoint = read_model(
        experiment.pretrained,
        image_size=experiment.image_size,
        activation=experiment.activation or ("" if model is None else model.activation),
    )
    if model is None:
        return checkpoint
    expected, found = map(settings.to_dict, (model, checkpoint.config))
    changes = [
        change
        for part in ("vision", "text", "embed_dim")
        for change in settings.differences(expected[part], found[part], f"model.{part}")
    ]
    if changes:
        raise ConfigError(
            f"pretrained: {experiment.pretrained} holds another model: {'; '.join(changes)}. "
            "Leave model out to take it from there, or choose another one."
        )
    return checkpoint


def make_tokenizer(
    experiment: Experiment, text: TextConfig, checkpoint: Checkpoint | None, captions: Sequence[str]
) -> TextTokenizer:
    """The tokenizer that the config names, or the model's, or one of the words of the captions.

    Args:
        experiment: The config.
        text: The text tower.
        checkpoint: The pre-trained model; None where the run pre-trains.
        captions: All that the run will read.

    Raises:
        ConfigError: It cannot be read, or does not fit the tower.
    """
    if experiment.tokenizer:
        field = "tokenizer"
        patterns = (*TOKENIZER_FILES, MANIFEST)
        folder = folder_of(experiment.tokenizer, field=field, patterns=patterns)
        tokenizer = read_tokenizer(folder, field=field)
    elif checkpoint is not None:
        field = "pretrained"
        tokenizer = read_tokenizer(checkpoint.folder, field=field)
    else:
        return _words_of(captions, text)
    check_fits(
        tokenizer,
        vocab_size=text.vocab_size,
        eot=tokenizer.eot if checkpoint is None else checkpoint.eot,
        field=field,
    )
    return tokenizer


def _words_of(captions: Sequence[str], text: TextConfig) -> TextTokenizer:
    tokenizer = word_tokenizer(captions)
    longest = max(len(encoding.ids) for encoding in tokenizer.backend.encode_batch(captions))
    for name, size, what in (
        ("vocab_size", tokenizer.vocab_size, "words of all captions"),
        ("context_length", longest, "tokens of the longest caption"),
    ):
        if getattr(text, name) < size:
            raise ConfigError(
                f"model.text.{name}: got {getattr(text, name)}, expected at least the {size} "
                f"{what}. Set model.text.{name}={size}."
            )
    return tokenizer
