"""What a run leaves for other tools: models in the Hugging Face layout, classifiers beside them."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence

from calib_jax.classifiers.head import Head
from calib_jax.classifiers.stored import CLASSIFIER_FILE, linear_map, write_head
from calib_jax.core.errors import ConfigError, ExportError, nearest
from calib_jax.core.trees import interpolate
from calib_jax.core.types import Params
from calib_jax.data.tokenizers import TextTokenizer
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights.export import write_model
from calib_jax.training.loop import Fitted


@dataclasses.dataclass(kw_only=True)
class Export:
    """What the end of a run leaves for other tools, in the Hugging Face layout.

    Attributes:
        models: Every trained method's model, with its classifier.
        teacher: The EMA teachers too.
        wise_ft: Interpolations `(1 - a) pretrained + a finetuned` of all parameters too, the
            classifier's own included, for these a (WiSE-FT, arXiv 2109.01903, eq. 1).
        curves: Trained methods whose WiSE-FT models, a = 0, 0.1, ..., 1, the report plots.
    """

    models: bool = True
    teacher: bool = False
    wise_ft: tuple[float, ...] = ()
    curves: tuple[str, ...] = ()

    def validate(self, methods: dict[str, Method]) -> None:
        """Raises a ConfigError for a share outside 0..1, or for what no method can give."""
        trained = [name for name, method in methods.items() if method.terms]
        if not all(0 <= share <= 1 for share in self.wise_ft):
            raise ConfigError(
                f"export.wise_ft: got {self.wise_ft}, expected numbers in 0..1. Correct them."
            )
        if self.teacher and not any(method.teacher for method in methods.values()):
            raise ConfigError(
                "export.teacher: got true, but no method has a teacher. Set it to false."
            )
        if self.wise_ft and not trained:
            raise ConfigError(
                f"export.wise_ft: got {self.wise_ft}, but no method is trained. Leave it empty."
            )
        for name in sorted(set(self.curves) - set(trained)):
            raise ConfigError(
                f"export.curves: {name!r} is no trained method.{nearest(name, trained)} Correct it."
            )
        folders = [folder for name in methods for folder in self.folders(name, methods[name])]
        twice = [name for index, name in enumerate(folders) if name in folders[:index]]
        if twice:
            raise ConfigError(
                f"export: two models would be written to {twice[0]!r}. Rename the method, or "
                "remove the repeated number."
            )

    def folders(self, name: str, method: Method) -> list[str]:
        """What the exports of a method are called."""
        if not method.terms:
            return []
        suffixes = [
            *([""] if self.models else []),
            *(["_teacher"] if self.teacher and method.teacher else []),
            *(f"_wise_{share}" for share in self.wise_ft),
        ]
        return [name + suffix for suffix in suffixes]


@dataclasses.dataclass(frozen=True)
class Exporter:
    """Writes models for other tools.

    Attributes:
        encoder: The towers.
        tokenizer: Theirs.
        class_names: In the order of the logits.
    """

    encoder: Encoder
    tokenizer: TextTokenizer
    class_names: Sequence[str]

    def write(self, folder: pathlib.Path, params: Params, head: Head) -> None:
        """Writes a model and the classifier beside it.

        Args:
            folder: Is complete as soon as it is there.
            params: `{"encoder": ..., "classifier": ...}`.
            head: For these parameters.

        Raises:
            ExportError: The head is no linear map, or the folder cannot be written.
        """
        classifier = linear_map(head)
        partial = folder.with_name(f"{folder.name}.partial")
        try:
            if partial.exists():
                shutil.rmtree(partial)
            self.write_encoder(partial, params["encoder"])
            write_head(partial / CLASSIFIER_FILE, classifier, self.class_names)
            partial.replace(folder)
        except OSError as error:
            raise ExportError(
                f"export: {folder} cannot be written ({error.strerror or error}). Make room for "
                "it; the same command goes on from here and trains nothing again."
            ) from error

    def write_all(
        self,
        folders: Sequence[pathlib.Path],
        fitted: Fitted,
        export: Export,
        head: Callable[[Params], Head],
    ) -> None:
        """Writes the models of a training that are not there yet.

        Args:
            folders: Of `export.folders`.
            fitted: The training.
            export: What is written of it.
            head: Of parameters.

        Raises:
            ExportError: As `write`.
        """
        for folder, params in zip(folders, _exported(fitted, export), strict=True):
            if not folder.exists():
                self.write(folder, params, head(params))

    def write_encoder(self, folder: pathlib.Path, params: Params) -> None:
        """Writes the two towers and the tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        write_model(
            folder,
            self.encoder.config,
            params,
            bos=self.tokenizer.bos,
            eot=self.tokenizer.eot,
            pad=self.tokenizer.pad,
        )
        self.tokenizer.save(folder, context_length=self.encoder.config.text.context_length)


def _exported(fitted: Fitted, export: Export) -> Iterator[Params]:
    """The models of `export.folders`, one at a time: each may be large."""
    if export.models:
        yield fitted.params
    if export.teacher and fitted.teacher is not None:
        yield fitted.teacher
    for share in export.wise_ft:
        yield interpolate(fitted.start, fitted.params, share)
