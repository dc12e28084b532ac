"""The texts and the pre-trained model of an experiment: what can be checked before any image."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import replicated
from calib_jax.core.trees import trainable_mask
from calib_jax.core.types import Params
from calib_jax.data.captions import CaptionTable
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.tokenizers import (
    TextTokenizer,
    tokenize,
    trimmed,
)
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Tables
from calib_jax.runs.experiment import FINETUNE, PRETRAIN, Experiment, Stage
from calib_jax.runs.pretrained import make_tokenizer, read_pretrained
from calib_jax.training.start import initial_params


@dataclasses.dataclass(frozen=True)
class Texts:
    """What needs no images: checked first.

    Attributes:
        encoder: The towers.
        tokenizer: The pre-trained model's, or one that knows the words of all captions.
        tables: The tokenised captions and prompts of each stage, `pretrain` and `finetune`.
        pretrained: The parameters of the model that the config names, or None where it names none.
    """

    encoder: Encoder
    tokenizer: TextTokenizer
    tables: dict[str, Tables]
    pretrained: Params | None


def with_class_names(experiment: Experiment) -> Experiment:
    """The experiment with the class names of the ID data set, where it gives none.

    Raises:
        ConfigError: The data set cannot be opened, or has numbers for names.
    """
    if experiment.finetune.class_names:
        return experiment
    split = experiment.evaluation.id_split
    opened = ImageSplit(split, (pathlib.Path(experiment.data_dir),), image_size=0)
    if all(re.fullmatch(r"\d+|n\d{8}", name) for name in opened.label_names):
        raise ConfigError(
            f"finetune.class_names: got none, and data set {opened.description} has only numbers, "
            f"first {opened.label_names[0]!r}. Set them in the config (for ImageNet, see "
            "configs/imagenet)."
        )
    stage = dataclasses.replace(experiment.finetune, class_names=opened.label_names)
    return dataclasses.replace(experiment, finetune=stage)


def read_texts(experiment: Experiment, mesh: Mesh) -> Texts:
    """The texts of every phase, and the pre-trained model.

    Raises:
        ConfigError: A word, a regex or the pre-trained model does not fit.
    """
    checkpoint = read_pretrained(experiment)
    model = experiment.model if checkpoint is None else checkpoint.config
    if model is None:
        raise ConfigError("model: got None. Set it, or name a pretrained model.")
    encoder = Encoder(model, experiment.compute)
    prompts = CaptionTable(experiment.finetune.class_names, experiment.evaluation.templates)
    captions = {name: stage.captions() for name, stage in _trained_stages(experiment).items()}
    texts = [text for table in (prompts, *captions.values()) for text in table.texts()]
    tokenizer = make_tokenizer(experiment, model.text, checkpoint, texts)
    tokens_of = _tokens(tuple(dict.fromkeys(texts)), tokenizer, model.text.context_length)
    tables = _make_tables(prompts, captions, tokens_of, mesh)
    of_encoder = jax.eval_shape(encoder.init, jax.random.key(0))
    for phase in experiment.phases():
        if phase.method.terms:
            shapes = jax.eval_shape(
                functools.partial(initial_params, phase.method, encoder, seed=0),
                of_encoder,
                tables[phase.stage],
            )
            batch_size = experiment.stage(phase.stage).training.batch_size
            try:
                trainable_mask(shapes, phase.method.trainable)
                phase.method.validate_sizes(batch_size=batch_size, embed_dim=model.embed_dim)
            except ConfigError as error:
                raise ConfigError(f"{phase.where}.{error}") from None
    return Texts(encoder, tokenizer, tables, None if checkpoint is None else checkpoint.params)


def _tokens(
    texts: tuple[str, ...], tokenizer: TextTokenizer, context_length: int
) -> Callable[[CaptionTable], Int32[np.ndarray, "n t"]]:
    """What gives the tokens of a table; all at once, so that one warning counts all too long."""
    rows = tokenize(tokenizer, texts, context_length=context_length)
    row_of = {text: number for number, text in enumerate(texts)}
    return lambda table: trimmed(rows[[row_of[text] for text in table.texts()]], tokenizer)


def _make_tables(
    prompts: CaptionTable,
    captions: Mapping[str, CaptionTable],
    tokens_of: Callable[[CaptionTable], Int32[np.ndarray, "n t"]],
    mesh: Mesh,
) -> dict[str, Tables]:
    """The tokens of each stage: its own captions, and the same prompts for all."""
    everywhere = replicated(mesh)
    class_tokens = jax.device_put(
        tokens_of(prompts).reshape(len(prompts.class_names), len(prompts.templates), -1), everywhere
    )
    own = {name: tokens_of(table) for name, table in captions.items()}
    # As many rows for every stage, those at the end in no batch: so that equal steps of two stages
    # are one program.
    most = max(map(len, own.values()), default=0)
    own = {name: np.pad(table, ((0, most - len(table)), (0, 0))) for name, table in own.items()}
    none = np.zeros((0, class_tokens.shape[-1]), np.int32)
    return {
        name: Tables(
            captions=jax.device_put(own.get(name, none), everywhere), class_tokens=class_tokens
        )
        for name in (PRETRAIN, FINETUNE)
    }


def _trained_stages(experiment: Experiment) -> dict[str, Stage]:
    names = dict.fromkeys(phase.stage for phase in experiment.phases() if phase.method.terms)
    return {name: experiment.stage(name) for name in names}
