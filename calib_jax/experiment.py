"""The root config of a run."""

import dataclasses
import pathlib
from collections.abc import Callable

from jax.sharding import Mesh

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.sharding import check_batch_size
from calib_jax.data.captions import CaptionTable
from calib_jax.data.pipeline import Augmentation, Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.method import Method
from calib_jax.models.clip import ClipConfig
from calib_jax.training.loop import Training

PRETRAIN = "pretrain"


@dataclasses.dataclass(kw_only=True)
class Stage:
    """Captioned images and how long to train on them.

    Attributes:
        sources: The images and their captions.
        class_names: What the captions call the classes.
        augmentation: Random views.
        training: Steps and batches.
    """

    sources: tuple[Source, ...]
    class_names: tuple[str, ...]
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    training: Training = dataclasses.field(default_factory=Training)

    def captions(self) -> CaptionTable:
        """Every class in every template of the sources."""
        templates = dict.fromkeys(t for source in self.sources for t in source.templates)
        return CaptionTable(self.class_names, tuple(templates))


@dataclasses.dataclass(kw_only=True)
class Experiment:
    """Everything that a run depends on.

    Attributes:
        name: A word.
        title: The report's headline.
        model: The towers.
        pretrained: A folder with `model.safetensors` (OpenAI's naming) and `tokenizer.json`; empty:
            pre-train.
        pretrain_method: How to pre-train.
        pretrain: On what to pre-train, where `pretrained` is empty.
        finetune: What every method is fine-tuned on, and for how long.
        methods: By the name that the table gives them.
        evaluation: What every method is tested on.
        seeds: Each is a whole run, pre-training included unless `pretrained` names a model.
        data_dir: The folder of prepared TFDS data sets.
        prepare: Functions `(data_dir, output_dir)` that write further data sets, once.
        tuned_on: What the hyper-parameters of this config were chosen on, for the report.
        fsdp: Devices that share each parameter; 1 replicates them.
    """

    name: str
    title: str
    model: ClipConfig
    pretrained: str = ""
    pretrain_method: Method | None = None
    pretrain: Stage | None = None
    finetune: Stage
    methods: dict[str, Method]
    evaluation: Evaluation
    seeds: tuple[int, ...] = (0,)
    data_dir: str = "data"
    prepare: tuple[Callable[[pathlib.Path, pathlib.Path], None], ...] = ()
    tuned_on: str = "nothing: defaults of the papers"
    fsdp: int = 1

    def validate(self, mesh: Mesh) -> None:
        """Raises a ConfigError for the first setting that is out of range or missing."""
        self.model.validate()
        self.evaluation.validate()
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
                "Name a folder with model.safetensors, or set pretrain and pretrain_method."
            )
        for name, method, stage in self.phases():
            field = PRETRAIN if name == PRETRAIN else "finetune"
            stage.training.validate(mesh, field=f"{field}.training")
            stage.augmentation.validate(field=f"{field}.augmentation")
            where = "pretrain_method" if name == PRETRAIN else f"methods.{name}"
            method.validate(where, num_steps=stage.training.num_steps)

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
    if variant != "tune":
        known = ("tune", *experiment.methods)
        raise ConfigError(
            f"--config: got variant {variant!r}, expected one of {', '.join(known)}."
            f"{nearest(variant, known)} Correct what follows the colon."
        )
    evaluation = dataclasses.replace(
        experiment.evaluation,
        id_name="held-out",
        id_split=experiment.evaluation.validation,
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
