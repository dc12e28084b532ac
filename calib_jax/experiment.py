"""The root config of a run."""

import dataclasses
import pathlib
from collections.abc import Callable

from jax.sharding import Mesh

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.sharding import check_batch_size
from calib_jax.data.captions import CaptionTable
from calib_jax.data.images import RESIZES
from calib_jax.data.pipeline import Augmentation, Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.method import Method
from calib_jax.models.config import ClipConfig, Compute
from calib_jax.training.loop import Training

PRETRAIN = "pretrain"


@dataclasses.dataclass(kw_only=True)
class Stage:
    """Captioned images and how long to train on them.

    Attributes:
        sources: The images and their captions; none where nothing is trained.
        class_names: What the captions call the classes; none, which only `finetune` can have:
            what the ID data set calls them.
        augmentation: Random views.
        training: Steps and batches.
    """

    sources: tuple[Source, ...] = ()
    class_names: tuple[str, ...]
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    training: Training = dataclasses.field(default_factory=Training)

    def captions(self) -> CaptionTable:
        """Every class in every template of the sources."""
        templates = dict.fromkeys(t for source in self.sources for t in source.templates)
        return CaptionTable(self.class_names, tuple(templates))


@dataclasses.dataclass(kw_only=True)
class Export:
    """What the end of a run leaves for other tools, in the Hugging Face layout.

    Attributes:
        models: Every trained method's model, with its classifier.
        teacher: The EMA teachers too.
        wise_ft: Interpolations `(1 - a) pretrained + a finetuned` of all parameters too, the
            classifier's own included, for these a (WiSE-FT, arXiv 2109.01903, eq. 1).
    """

    models: bool = True
    teacher: bool = False
    wise_ft: tuple[float, ...] = ()

    def validate(self, methods: dict[str, Method]) -> None:
        """Raises a ConfigError for a share outside 0..1, or for what no method can give."""
        if not all(0 <= share <= 1 for share in self.wise_ft):
            raise ConfigError(
                f"export.wise_ft: got {self.wise_ft}, expected numbers in 0..1. Correct them."
            )
        if self.teacher and not any(method.teacher for method in methods.values()):
            raise ConfigError(
                "export.teacher: got true, but no method has a teacher. Set it to false."
            )
        if self.wise_ft and not any(method.terms for method in methods.values()):
            raise ConfigError(
                f"export.wise_ft: got {self.wise_ft}, but no method is trained. Leave it empty."
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


@dataclasses.dataclass(kw_only=True)
class Experiment:
    """Everything that a run depends on.

    Attributes:
        name: A word.
        title: The report's headline.
        model: The towers; None takes those of `pretrained`.
        compute: How the towers are computed.
        pretrained: A CLIP model: a hub id (`openai/clip-vit-base-patch16`), a folder (Hugging Face,
            open_clip, or what a pre-training run has written) or an OpenAI file; empty: pre-train.
        image_size: Side of the images in pixels; 0 is the model's own. For another, the position
            embeddings of `pretrained` are interpolated.
        activation: Of `pretrained`, where it is a file alone, which cannot tell: `quick_gelu`
            (OpenAI's) or `gelu` (most of open_clip's); empty: what its config says, or quick_gelu.
        tokenizer: A hub id or a folder; empty: that of `pretrained`, or, where this run
            pre-trains, one of the words of all captions.
        pretrain_method: How to pre-train.
        pretrain: On what to pre-train, where `pretrained` is empty.
        finetune: What every method is fine-tuned on, and for how long.
        methods: By the name that the table gives them.
        evaluation: What every method is tested on.
        seeds: Each is a whole run, pre-training included unless `pretrained` names a model.
        data_dir: The folder of prepared TFDS data sets.
        resize: Where images get the model's size: on the `host`, or on the `device`.
        prepare: Functions `(data_dir, output_dir)` that write further data sets, once.
        tuned_on: What the hyper-parameters of this config were chosen on, for the report.
        export: What is left for other tools at the end.
        cache_dir: Where zero-shot heads of many prompts are kept, for any run.
        fsdp: Devices that share each parameter; 1 replicates them.
    """

    name: str
    title: str
    model: ClipConfig | None = None
    compute: Compute = dataclasses.field(default_factory=Compute)
    pretrained: str = ""
    image_size: int = 0
    activation: str = ""
    tokenizer: str = ""
    pretrain_method: Method | None = None
    pretrain: Stage | None = None
    finetune: Stage
    methods: dict[str, Method]
    evaluation: Evaluation
    seeds: tuple[int, ...] = (0,)
    data_dir: str = "data"
    resize: str = "host"
    prepare: tuple[Callable[[pathlib.Path, pathlib.Path], None], ...] = ()
    tuned_on: str = "nothing: defaults of the papers"
    export: Export = dataclasses.field(default_factory=Export)
    cache_dir: str = "~/.cache/calib_jax"
    fsdp: int = 1

    def validate(self, mesh: Mesh) -> None:
        """Raises a ConfigError for the first setting that is out of range or missing."""
        self.compute.validate("compute")
        self.evaluation.validate()
        self.export.validate(self.methods)
        if self.resize not in RESIZES:
            raise ConfigError(
                f"resize: got {self.resize!r}, expected {' or '.join(RESIZES)}."
                f"{nearest(self.resize, RESIZES)} Correct it."
            )
        check_batch_size(self.evaluation.batch_size, mesh, field="evaluation.batch_size")
        distinct = set(self.seeds)
        if not distinct or len(distinct) < len(self.seeds) or not distinct <= set(range(2**16)):
            raise ConfigError(
                f"seeds: got {self.seeds}, expected distinct numbers in 0..65535. Correct them."
            )
        if PRETRAIN in self.methods:
            raise ConfigError(f"methods: the name {PRETRAIN!r} is taken. Rename the method.")
        if not self.pretrained and (self.pretrain is None or self.pretrain_method is None):
            raise ConfigError(
                "pretrained: got an empty name and no pretrain stage, expected one of them. "
                "Name a model, or set pretrain and pretrain_method."
            )
        self._validate_model()
        for name, method, stage in self.phases():
            field = PRETRAIN if name == PRETRAIN else "finetune"
            stage.training.validate(mesh, field=f"{field}.training")
            stage.augmentation.validate(field=f"{field}.augmentation")
            where = "pretrain_method" if name == PRETRAIN else f"methods.{name}"
            method.validate(where, num_steps=stage.training.num_steps)
            if method.terms and not stage.sources:
                raise ConfigError(
                    f"{field}.sources: got none, but {where} is trained on them. Name the images."
                )
            if "contexts" in method.needs() and len(self.evaluation.templates) < 2:
                raise ConfigError(
                    f"evaluation.templates: got {len(self.evaluation.templates)}, but {where} "
                    "compares the templates of the prompts. Name at least 2."
                )
            if method.terms and self.evaluation.validation is None:
                raise ConfigError(
                    f"evaluation.validation: got None, but {where} is trained. Name a split of the "
                    "training distribution that no number is reported on."
                )

    def _validate_model(self) -> None:
        if self.model is not None:
            self.model.validate()
        elif not self.pretrained:
            raise ConfigError(
                "model: got None, expected the towers to pre-train. Set model=presets.vit_b16(), "
                "or name a pre-trained model."
            )
        if self.image_size < 0 or (self.image_size and not self.pretrained):
            raise ConfigError(
                f"image_size: got {self.image_size}, expected 0, or the size at which a pretrained "
                "model is to be used. Set model.vision.image_size where the run pre-trains."
            )

    def phases(self) -> list[tuple[str, Method, Stage]]:
        """Every training of one seed, in order."""
        first = []
        if not self.pretrained and self.pretrain is not None and self.pretrain_method is not None:
            first = [(PRETRAIN, self.pretrain_method, self.pretrain)]
        return [*first, *((name, m, self.finetune) for name, m in self.methods.items())]


def select(
    experiment: Experiment,
    variant: str,
    methods: Callable[[dict[str, float]], dict[str, Method]],
    *,
    rates: tuple[float, ...],
) -> Experiment:
    """The experiment that `config.py:variant` stands for.

    Args:
        experiment: With all its methods: what the empty variant gives.
        variant: A method's name, for that method alone; or `tune`: every trained method at every
            learning rate, one seed, tested on the validation split alone, without any shift
            or OOD set, so that what is chosen from it has seen no reported split.
        methods: Makes the methods from a learning rate for each.
        rates: The learning rates of `tune`; every method gets the same number of trials.

    Raises:
        ConfigError: An unknown variant.
    """
    if not variant:
        return experiment
    if variant in experiment.methods:
        return dataclasses.replace(experiment, methods={variant: experiment.methods[variant]})
    held_out = experiment.evaluation.validation
    if variant != "tune" or held_out is None:
        known = ("tune", *experiment.methods)
        raise ConfigError(
            f"--config: got variant {variant!r}, expected one of {', '.join(known)}."
            f"{nearest(variant, known)} Correct what follows the colon."
        )
    evaluation = dataclasses.replace(
        experiment.evaluation,
        id_name="held-out",
        id_split=held_out,
        shifts={},
        near={},
        far={},
    )
    return dataclasses.replace(
        experiment,
        name=f"{experiment.name}_tune",
        methods={
            f"{name}_{rate:g}": method
            for rate in rates
            for name, method in methods(dict.fromkeys(experiment.methods, rate)).items()
            if method.terms
        },
        evaluation=evaluation,
        seeds=experiment.seeds[:1],
        tuned_on="this is the tuning",
    )
