"""The root config of a run."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from calib_jax.classifiers.stored import check_exportable
from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.paths import check_names, expanded
from calib_jax.core.sharding import check_batch_size, make_mesh
from calib_jax.data.captions import CaptionTable
from calib_jax.data.images import RESIZES
from calib_jax.data.pipeline import Augmentation, Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.method import Method
from calib_jax.models.config import ClipConfig, Compute
from calib_jax.runs.export import Export
from calib_jax.runs.trials import Tuning as Tuning
from calib_jax.training.loop import Training
from calib_jax.weight_space.rows import Combination, Tpgm

PRETRAIN, FINETUNE = "pretrain", "finetune"


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
        """Every class in every template of the sources; the bare names, where there is none."""
        templates = dict.fromkeys(t for source in self.sources for t in source.templates)
        return CaptionTable(self.class_names, tuple(templates) or ("{}",))


class Phase(NamedTuple):
    """One training.

    Attributes:
        stage: `pretrain` or `finetune`.
        name: Of the checkpoints and the history.
        where: The method's place in the config.
        method: What is trained.
    """

    stage: str
    name: str
    where: str
    method: Method


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
        tuning: Of some methods, before the rest of the run; None: all are taken as they are.
        weight_space: Further rows of the table: models made of the weights of the methods'.
        evaluation: What every method is tested on.
        seeds: Each is a whole run, pre-training included unless `pretrained` names a model.
        data_dir: The folder of prepared TFDS data sets.
        resize: Where images get the model's size: on the `host`, or on the `device`.
        sections: Further sections of the report by title: functions of what `results.json` holds,
            that return HTML.
        prepare: Functions `(data_dir, output_dir)` that write further data sets, once.
        tuned_on: What the hyper-parameters of this config were chosen on, for the report; empty:
            what the run itself has chosen, if it has.
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
    tuning: Tuning | None = None
    weight_space: dict[str, Combination] = dataclasses.field(default_factory=dict)
    evaluation: Evaluation
    seeds: tuple[int, ...] = (0,)
    data_dir: str = "data"
    resize: str = "host"
    prepare: tuple[Callable[[pathlib.Path, pathlib.Path], None], ...] = ()
    sections: dict[str, Callable[[Mapping[str, Any]], str]] = dataclasses.field(
        default_factory=dict
    )
    tuned_on: str = ""
    export: Export = dataclasses.field(default_factory=Export)
    cache_dir: str = "~/.cache/calib_jax"
    fsdp: int = 1

    def validate(self) -> None:
        """Raises a ConfigError for the first setting that is out of range or missing."""
        mesh = make_mesh(fsdp=self.fsdp)
        self.compute.validate("compute")
        self.evaluation.validate()
        self.export.validate(self.methods)
        expanded(self.cache_dir, field="cache_dir")
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
        if self.tuning is not None:
            self.tuning.validate(self.methods)
        trials = {} if self.tuning is None else self.tuning.trials
        candidates = self.methods | {name: next(iter(t.values())) for name, t in trials.items()}
        for name, combination in self.weight_space.items():
            combination.validate(f"weight_space.{name}", candidates, self.seeds)
            if isinstance(combination, Tpgm):
                field = f"weight_space.{name}.batch_size"
                check_batch_size(combination.batch_size, mesh, field=field)
            if combination.num_models > 1 and not self.pretrained:
                raise ConfigError(
                    f"weight_space.{name}: it mixes seeds, but each of them pre-trains a model of "
                    "its own. Name one pretrained model."
                )
        check_names((*self.methods, *self.weight_space, *trials), field="methods")
        twice = sorted(set(self.methods) & set(self.weight_space))
        if twice:
            raise ConfigError(
                f"weight_space: the name {twice[0]!r} is a method's too. Rename one of them."
            )
        if not self.pretrained and (self.pretrain is None or self.pretrain_method is None):
            raise ConfigError(
                "pretrained: got an empty name and no pretrain stage, expected one of them. "
                "Name a model, or set pretrain and pretrain_method."
            )
        self._validate_model()
        if not any(phase.stage == FINETUNE and phase.method.terms for phase in self.phases()):
            self.evaluation.validate_untrained()
        names = [phase.name for phase in self.phases()]
        shared = [name for index, name in enumerate(names) if name in names[:index]]
        if shared:
            raise ConfigError(
                f"methods: two trainings would be called {shared[0]!r} and share checkpoints. "
                "Rename a method or a trial."
            )
        for phase in self.phases():
            self._validate_phase(phase, mesh)

    def _validate_phase(self, phase: Phase, mesh: Mesh) -> None:
        method, stage, field = phase.method, self.stage(phase.stage), phase.stage
        stage.training.validate(mesh, field=f"{field}.training")
        stage.augmentation.validate(field=f"{field}.augmentation")
        method.validate(phase.where, num_steps=stage.training.num_steps)
        if phase.stage == FINETUNE and self.export.folders(phase.name, method):
            check_exportable(method.classifier, phase.where)
        if phase.stage == FINETUNE:
            self.evaluation.validate_head(method.classifier.head_type, phase.where)
        if not method.terms:
            return
        if not stage.sources:
            raise ConfigError(
                f"{field}.sources: got none, but {phase.where} is trained on them. Name the images."
            )
        needs = method.needs()
        for number, source in enumerate(stage.sources):
            source.validate(field=f"{field}.sources[{number}]")
            if "captions" in needs and not source.templates:
                term = next(n for n, t in method.terms.items() if "captions" in t.needs)
                raise ConfigError(
                    f"{field}.sources[{number}].templates: got none, but term {term!r} of "
                    f"{phase.where} needs a caption for each image. Name at least one."
                )
            if method.cached_features and source.style is not None:
                raise ConfigError(
                    f"{field}.sources[{number}].style: got a style, but {phase.where} sees each "
                    "image once, as it is. Set cached_features to false, or remove the source."
                )
        if needs & {"contexts", "templates"} and len(self.evaluation.templates) < 2:
            raise ConfigError(
                f"evaluation.templates: got {len(self.evaluation.templates)}, but {phase.where} "
                "compares the templates of the prompts. Name at least 2."
            )
        if self.evaluation.validation is None:
            raise ConfigError(
                f"evaluation.validation: got None, but {phase.where} is trained. Name a split of "
                "the training distribution that no number is reported on."
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

    def stage(self, name: str) -> Stage:
        """The stage of a phase: `pretrain` or `finetune`."""
        if name == PRETRAIN and self.pretrain is not None:
            return self.pretrain
        return self.finetune

    def phases(self) -> list[Phase]:
        """Every training of one seed, in order; of a tuned method, every trial."""
        first = []
        if not self.pretrained and self.pretrain is not None and self.pretrain_method is not None:
            first = [Phase(PRETRAIN, PRETRAIN, "pretrain_method", self.pretrain_method)]
        trials = {} if self.tuning is None else self.tuning.trials
        return [
            *first,
            *(
                Phase(FINETUNE, part, f"{field}.{part}", method)
                for name, one in self.methods.items()
                for field, phase, whole in (
                    [("tuning.trials", f"{name}.{t}", m) for t, m in trials[name].items()]
                    if name in trials
                    else [("methods", name, one)]
                )
                for part, method in whole.parts(phase)
            ),
        ]


def select(experiment: Experiment, variant: str, tuning: Tuning) -> Experiment:
    """The experiment that `config.py:variant` stands for.

    Args:
        experiment: With all its methods: what the empty variant gives.
        variant: A method's name, for that method alone; or `tune`, for all after the tuning.
        tuning: Of `tune`.

    Raises:
        ConfigError: An unknown variant.
    """
    if not variant:
        return experiment
    if variant in experiment.methods:
        return _alone(experiment, variant)
    if variant != "tune":
        known = ("tune", *experiment.methods)
        raise ConfigError(
            f"--config: got variant {variant!r}, expected one of {', '.join(known)}."
            f"{nearest(variant, known)} Correct what follows the colon."
        )
    return dataclasses.replace(experiment, name=f"{experiment.name}_tune", tuning=tuning)


def _alone(experiment: Experiment, name: str) -> Experiment:
    """One method, its own trials and the rows made of it."""
    tuning = experiment.tuning
    if tuning is not None:
        trials = {key: value for key, value in tuning.trials.items() if key == name}
        tuning = dataclasses.replace(tuning, trials=trials) if trials else None
    return dataclasses.replace(
        experiment,
        methods={name: experiment.methods[name]},
        tuning=tuning,
        weight_space={k: row for k, row in experiment.weight_space.items() if row.of == name},
    )
