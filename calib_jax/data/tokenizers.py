"""Tokenizers: CLIP's byte pairs and words of our own; texts in, rows of token ids out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int32
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from calib_jax.core import manifests
from calib_jax.core.errors import ConfigError, WeightsError, nearest

PAD, BOS, EOT = "[PAD]", "[BOS]", "[EOT]"
TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE = "tokenizer.json", "vocab.json", "merges.txt"
CONFIG_FILE = "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER_FILE, VOCABULARY_FILE, MERGES_FILE)
# What `transformers` reads besides.
_FURTHER_FILES = (CONFIG_FILE, "special_tokens_map.json", "added_tokens.json")

_WORD_END = "</w>"
# Few, so that different sets of captions share compiled programs; ImageNet's prompts fit 24.
_LENGTHS = (8, 16, 24, 32, 48, 64)
_LOGGER = logging.getLogger("calib_jax")


@dataclasses.dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer with the ids that the text towers rely on.

    Attributes:
        backend: Encodes a text as BOS, its pieces, EOT; it neither cuts nor pads.
        bos: Id of the begin of text.
        eot: Id of the end of text; the largest of all, where the towers pool.
        pad: Id that fills rows after the EOT.
        unknown: Id that a word outside the vocabulary gets; None where none can be outside.
    """

    backend: Tokenizer
    bos: int
    eot: int
    pad: int
    unknown: int | None

    @property
    def vocab_size(self) -> int:
        """The largest id plus one: rows of the smallest embedding that fits."""
        return max(self.backend.get_vocab().values()) + 1

    def save(self, folder: pathlib.Path, *, context_length: int) -> None:
        """Leaves Hugging Face's tokenizer files in the folder.

        `transformers.AutoTokenizer` makes the same ids from them, and so does
        `read_tokenizer`. CLIP's come with `vocab.json` and `merges.txt` for tools that know no
        `tokenizer.json`.

        Args:
            folder: Made where it is missing.
            context_length: Tokens that the text tower takes.
        """
        with manifests.recorded(folder, (*TOKENIZER_FILES, CONFIG_FILE)):
            self._write(folder, context_length)

    def _write(self, folder: pathlib.Path, context_length: int) -> None:
        self.backend.save(str(folder / TOKENIZER_FILE))
        bos, eot = self.backend.id_to_token(self.bos), self.backend.id_to_token(self.eot)
        if isinstance(self.backend.model, models.BPE):
            self.backend.model.save(str(folder))
            # As on the hub. Naming "!" (id 0) here would make every "!" of a text special.
            kind, pad, unknown = "CLIPTokenizer", eot, eot
        else:
            kind, pad, unknown = "PreTrainedTokenizerFast", PAD, PAD
        config = {
            "tokenizer_class": kind,
            "bos_token": bos,
            "eos_token": eot,
            "pad_token": pad,
            "unk_token": unknown,
            "model_max_length": context_length,
            # "[PAD]" in a caption of ours is three words; in CLIP's captions, as on the hub.
            "split_special_tokens": kind != "CLIPTokenizer",
        }
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def word_tokenizer(texts: Iterable[str]) -> TextTokenizer:
    """A tokenizer of lower-case words and punctuation marks that knows the words of the texts.

    For models trained from scratch on few words. Id 0 pads, 1 begins, the
    words follow in alphabetical order. The largest id is the end of text, as the
    towers' pooling has it.
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
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    backend.normalizer = normalizer
    backend.pre_tokenizer = splitter
    return _of_words(backend)


def _of_words(backend: Tokenizer) -> TextTokenizer:
    vocabulary = backend.get_vocab()
    bos, eot, pad = (vocabulary[name] for name in (BOS, EOT, PAD))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOT}", special_tokens=[(BOS, bos), (EOT, eot)]
    )
    return TextTokenizer(backend, bos=bos, eot=eot, pad=pad, unknown=pad)


def read_tokenizer(folder: pathlib.Path, *, field: str = "pretrained") -> TextTokenizer:
    """The tokenizer of a folder: CLIP's, or the words that a pre-training run has written.

    CLIP's is the fast one of `transformers`, from `tokenizer.json` or from `vocab.json` and
    `merges.txt`. Unlike OpenAI's original it repairs nothing with ftfy and decodes no HTML
    entities: curly quotes, ligatures, full-width letters, mojibake and `&amp;` stay as they
    are. A capital sigma that ends a word becomes a medial one. Other printable text gives the
    original's ids. Padding is 0 as OpenAI has it, where the hub's files say EOT: either is
    exact, since a row ends for the towers at the first of its largest ids.

    Args:
        folder: Holds `tokenizer.json`, or `vocab.json` and `merges.txt`.
        field: The config field that names the folder, for the messages.

    Raises:
        ConfigError: A file is missing or damaged, or is of another kind of tokenizer.
    """
    names = (*TOKENIZER_FILES, *_FURTHER_FILES)
    manifests.check((folder / name for name in names), error=WeightsError)
    path = folder / TOKENIZER_FILE
    if not path.exists():
        missing = [name for name in (VOCABULARY_FILE, MERGES_FILE) if not (folder / name).exists()]
        if missing:
            raise ConfigError(
                f"{field}: no {TOKENIZER_FILE} in {folder}, and no {' or '.join(missing)}. "
                "Copy the model's tokenizer files there, or set --config.tokenizer to a hub id or "
                "a folder that has them."
            )
        return _read_clip(folder, field)
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ConfigError(f"{field}: {path} cannot be read ({error}). Copy it again.") from error
    model = backend.model
    if isinstance(model, models.BPE) and model.end_of_word_suffix == _WORD_END:
        return _read_clip(folder, field)
    if not isinstance(model, models.WordLevel):
        raise ConfigError(
            f"{field}: {path} is of the kind {type(model).__name__}, expected CLIP's (BPE whose "
            f"words end in {_WORD_END}) or WordLevel. Use the tokenizer of a CLIP model."
        )
    missing = [name for name in (PAD, BOS, EOT) if backend.token_to_id(name) is None]
    if missing:
        raise ConfigError(
            f"{field}: {path} has no token {missing[0]!r}, expected {PAD}, {BOS} and {EOT}. "
            "Use a model that a pre-training run has written."
        )
    return _checked(_of_words(backend), folder, field)


def _read_clip(folder: pathlib.Path, field: str) -> TextTokenizer:
    with _no_torch_advice():
        from transformers import CLIPTokenizer  # the fast one, since transformers 5; takes seconds
    try:
        fast = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # JSON, Unicode, or a bare Exception of the tokenizers
        raise ConfigError(
            f"{field}: CLIP's tokenizer in {folder} cannot be read ({error}). Copy it again."
        ) from error
    backend = fast.backend_tokenizer
    special = {fast.bos_token, fast.eos_token}
    model = json.loads(backend.to_str())["model"]
    made = {"".join(pair) for pair in model["merges"]}
    given = model["vocab"].keys() - made - special
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    # A merge that is lost splits words differently, a byte that is lost ends the text there.
    wrong = given ^ (letters | {letter + _WORD_END for letter in letters})
    if wrong:
        raise ConfigError(
            f"{field}: the vocabulary in {folder} and its merges do not belong together: "
            f"{len(wrong)} pieces, the first {min(wrong)!r}, expected every byte and what the "
            "merges make of them. Copy CLIP's tokenizer files again."
        )
    tokenizer = TextTokenizer(
        backend, bos=fast.bos_token_id, eot=fast.eos_token_id, pad=0, unknown=None
    )
    return _checked(tokenizer, folder, field)


def _checked(tokenizer: TextTokenizer, folder: pathlib.Path, field: str) -> TextTokenizer:
    if tokenizer.eot != tokenizer.vocab_size - 1:
        raise ConfigError(
            f"{field}: the tokenizer in {folder} ends a text with id {tokenizer.eot}, expected its "
            f"largest id {tokenizer.vocab_size - 1}, where the text towers pool. Use the model's "
            "tokenizer as it came, without added tokens."
        )
    # Some files of the hub cut at 77 and pad: that is for `tokenize`, which warns.
    tokenizer.backend.no_truncation()
    tokenizer.backend.no_padding()
    return tokenizer


@contextlib.contextmanager
def _no_torch_advice() -> Iterator[None]:
    """Keeps the first import of `transformers` from advising to install PyTorch."""

    def other(record: logging.LogRecord) -> bool:
        return "PyTorch was not found" not in record.getMessage()

    logger = logging.getLogger("transformers")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def tokenize(
    tokenizer: TextTokenizer, texts: Sequence[str], *, context_length: int
) -> Int32[np.ndarray, "n t"]:
    """Token ids, each row BOS, words, EOT, padding.

    t is the smallest of 8, 16, 24, 32, 48, 64 and the context length that holds the longest row.
    Exact for a causal tower: tokens after the EOT do not change its output. A row
    that is longer than the context loses its last words and keeps its EOT; one
    warning counts these.

    Args:
        tokenizer: Of the text tower.
        texts: Captions; an empty one is BOS, EOT.
        context_length: Tokens that the text tower takes, the largest t.

    Raises:
        ConfigError: A text has a word that the tokenizer does not know, or spells an EOT.
    """
    rows = [encoding.ids for encoding in tokenizer.backend.encode_batch_fast(list(texts))]
    for text, ids in zip(texts, rows, strict=True):
        if tokenizer.unknown in ids or ids.index(tokenizer.eot) < len(ids) - 1:
            _refuse(tokenizer, text)
    too_long = [text for text, ids in zip(texts, rows, strict=True) if len(ids) > context_length]
    if too_long:
        _LOGGER.warning(
            "%d of %d captions are longer than %d tokens and lose their last words; first: %r",
            len(too_long),
            len(rows),
            context_length,
            too_long[0],
        )
    length = _static_length(max(map(len, rows), default=0), context_length)
    tokens = np.full((len(rows), length), tokenizer.pad, np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        kept = ids if len(ids) <= context_length else [*ids[: context_length - 1], tokenizer.eot]
        row[: len(kept)] = kept
    return tokens


def trimmed(tokens: Int32[np.ndarray, "n t"], tokenizer: TextTokenizer) -> Int32[np.ndarray, "n u"]:
    """The rows cut to the smallest length of `tokenize` that holds every end of text."""
    longest = int((tokens == tokenizer.eot).argmax(axis=1).max()) + 1
    return tokens[:, : _static_length(longest, tokens.shape[1])]


def _static_length(longest: int, limit: int) -> int:
    return next((length for length in _LENGTHS if longest <= length < limit), limit)


def _refuse(tokenizer: TextTokenizer, text: str) -> None:
    encoding = tokenizer.backend.encode(text)
    if tokenizer.unknown not in encoding.ids:
        raise ConfigError(
            f"caption {text!r}: got {tokenizer.backend.id_to_token(tokenizer.eot)!r} inside, which "
            "hides what follows it, expected it nowhere. Remove it."
        )
    unknown = text[slice(*encoding.offsets[encoding.ids.index(tokenizer.unknown)])]
    raise ConfigError(
        f"caption {text!r}: the tokenizer does not know the word {unknown!r}."
        f"{nearest(unknown.lower(), tokenizer.backend.get_vocab())} "
        "Add its text to the ones the tokenizer is made from."
    )


def check_fits(tokenizer: TextTokenizer, *, vocab_size: int, eot: int, field: str) -> None:
    """Passes when the tokenizer belongs to the text tower.

    Args:
        tokenizer: To be used with the tower.
        vocab_size: Rows of the tower's token embedding.
        eot: Id at which the tower pools.
        field: The config field that names the tokenizer, for the message.

    Raises:
        ConfigError: The EOT is another, or the vocabulary is larger than the embedding.
    """
    if tokenizer.vocab_size <= vocab_size and tokenizer.eot == eot:
        return
    raise ConfigError(
        f"{field}: got a tokenizer of {tokenizer.vocab_size} ids whose end of text is "
        f"{tokenizer.eot}, expected one for the text tower's {vocab_size} ids that ends with "
        f"{eot}. Use the tokenizer that came with the model's weights."
    )
