"""What a run leaves for other tools: the models, their tokenizer, and their classifiers."""

import dataclasses
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoTokenizer, CLIPConfig

from calib_jax import main
from calib_jax.classifiers.stored import read_head
from calib_jax.core.errors import ConfigError, ExportError
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.robust import carot
from calib_jax.models.config import Compute
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights.load import read_model
from calib_jax.runs.experiment import Export
from calib_jax.runs.run import run
from calib_jax.runs.workdir import read_json

pytestmark = pytest.mark.usefixtures("one_device", "no_figures")

EVALUATE = pathlib.Path(__file__).resolve().parents[2] / "configs" / "evaluate.py"


@pytest.fixture(scope="module")
def exported(from_pretrained, tmp_path_factory):
    """The workdir of a run that exports all there is."""
    workdir = tmp_path_factory.mktemp("exported")
    experiment = from_pretrained(
        methods={
            "finetune": finetune().scheduled(learning_rate=1e-3, warmup_steps=1),
            "carot": carot(update_every=2).scheduled(learning_rate=1e-3, warmup_steps=1),
        },
        export=Export(teacher=True, wise_ft=(0.0, 0.25)),
    )
    return experiment, workdir, run(experiment, workdir)


def folder(exported, name):
    return exported[1] / "models" / "seed_0" / name


def leaves(params):
    return dict(
        zip(
            [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)],
            map(np.asarray, jax.tree.leaves(params)),
            strict=True,
        )
    )


def test_every_model_that_was_asked_for_is_there(exported):
    names = {path.name for path in (exported[1] / "models" / "seed_0").iterdir()}
    own = {"finetune", "finetune_wise_0.0", "finetune_wise_0.25"}
    assert names == own | {"carot", "carot_wise_0.0", "carot_wise_0.25", "carot_teacher"}
    files = {path.name for path in folder(exported, "carot").iterdir()}
    assert files >= {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "classifier.safetensors",
    }


@pytest.mark.parametrize("name", ["finetune", "carot"])
def test_the_files_alone_give_the_accuracy_of_the_results(exported, tiny_data, name):
    """Embeddings of the exported model and arithmetic on the exported classifier."""
    model = read_model(str(folder(exported, name)))
    head, class_names = read_head(folder(exported, name) / "classifier.safetensors")
    split = ImageSplit(Split(name="tiny_colours", split="test"), [tiny_data], image_size=16)
    images = jnp.stack([split.image(index) for index in range(len(split))])
    logits = head.logits(jax.jit(Encoder(model.config).encode_image)(model.params, images))
    assert class_names == ("red", "green", "dark blue")
    (record,) = (run for run in exported[2]["runs"] if run["method"] == name)
    accuracy = np.mean(np.argmax(logits, axis=1) == split.labels())
    assert accuracy == pytest.approx(record["metrics"]["clean"]["accuracy"])
    log_probs = jax.nn.log_softmax(logits)
    nll = -np.mean(np.asarray(log_probs)[np.arange(len(split)), split.labels()])
    assert nll == pytest.approx(record["metrics"]["clean"]["nll"], rel=1e-4)


def test_the_config_for_any_model_tests_the_exported_classifier_too(exported, tiny_data, tmp_path):
    model = folder(exported, "finetune")
    arguments = [
        "calib_jax",
        f"--config={EVALUATE}:tiny_colours,{model}",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data_dir={tiny_data}",
        "--config.evaluation.batch_size=8",
    ]
    assert main.main(arguments) == 0
    tested = read_json(tmp_path / "run" / "results.json")
    assert [found["method"] for found in tested["runs"]] == ["zero_shot", "exported"]
    (record,) = (run for run in exported[2]["runs"] if run["method"] == "finetune")
    got, expected = tested["runs"][1]["metrics"]["tiny_colours"], record["metrics"]["clean"]
    assert got["accuracy"] == expected["accuracy"]
    assert got["nll"] == pytest.approx(expected["nll"], rel=1e-4)
    assert not (tmp_path / "run" / "models").exists()


def test_wise_ft_lies_between_the_pretrained_and_the_tuned_weights(exported, pretrained_folder):
    first = leaves(read_model(str(pretrained_folder)).params)
    last = leaves(read_model(str(folder(exported, "carot"))).params)
    start = leaves(read_model(str(folder(exported, "carot_wise_0.0"))).params)
    quarter = leaves(read_model(str(folder(exported, "carot_wise_0.25"))).params)
    assert any(np.any(first[name] != last[name]) for name in first)
    for name, value in first.items():
        np.testing.assert_array_equal(start[name], value)
        expected = 0.75 * np.float64(value) + 0.25 * np.float64(last[name])
        np.testing.assert_allclose(quarter[name], expected, rtol=1e-5, atol=1e-7)


def test_wise_ft_interpolates_the_linear_head_too(exported):
    start, half, last = (
        read_head(folder(exported, name) / "classifier.safetensors")[0]
        for name in ("finetune_wise_0.0", "finetune_wise_0.25", "finetune")
    )
    np.testing.assert_array_equal(start.bias, np.zeros(3))
    np.testing.assert_allclose(half.bias, 0.25 * last.bias, rtol=1e-5, atol=1e-8)
    expected = 0.75 * start.kernel + 0.25 * last.kernel
    np.testing.assert_allclose(half.kernel, expected, rtol=1e-5, atol=1e-6)


def test_the_teacher_is_another_model(exported):
    student = leaves(read_model(str(folder(exported, "carot"))).params)
    teacher = leaves(read_model(str(folder(exported, "carot_teacher"))).params)
    distances = [np.abs(student[name] - teacher[name]).max() for name in student]
    assert 0 < max(distances) < 0.1


def test_other_tools_read_the_config_and_the_tokenizer(exported):
    config = CLIPConfig.from_pretrained(folder(exported, "carot"))
    assert config.vision_config.image_size == 16
    tokenizer = AutoTokenizer.from_pretrained(folder(exported, "carot"))
    ids = tokenizer("a photo of dark blue.")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == config.text_config.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id == config.text_config.eos_token_id
    assert len(ids) == 8


def test_an_export_is_where_the_next_run_starts(exported, tiny_experiment, tmp_path):
    start = str(folder(exported, "carot"))
    changes = {"pretrained": start, "pretrain": None, "pretrain_method": None, "model": None}
    again = tiny_experiment(**changes, export=Export(models=False))
    again.methods = {"zero_shot": again.methods["zero_shot"]}
    results = run(again, tmp_path)
    (record,) = (run for run in exported[2]["runs"] if run["method"] == "carot")
    found = results["runs"][0]["metrics"]["clean"]["nll"]
    assert found == pytest.approx(record["metrics"]["clean"]["nll"], rel=1e-4)
    assert not (tmp_path / "models").exists()


def test_a_tokenizer_of_another_model_is_refused(exported, golden_dir, from_pretrained):
    experiment = from_pretrained(model=None, tokenizer=str(golden_dir / "clip_tokenizer"))
    with pytest.raises(ConfigError, match=r"tokenizer: got a tokenizer of 49408 ids .* 16 ids"):
        run(experiment, exported[1] / "refused")
    assert not (exported[1] / "refused").exists()


def test_a_finished_run_exports_what_is_asked_for_later(exported, tmp_path, capsys):
    """Nothing is trained again, and what a stop had left half written is gone."""
    experiment, workdir, results = exported
    later = tmp_path / "run"
    shutil.copytree(workdir, later)
    shutil.rmtree(later / "models" / "seed_0" / "carot")
    left = later / "models" / "seed_0" / "carot.partial" / "classifier.safetensors.partial999"
    left.parent.mkdir()
    left.touch()
    export = Export(wise_ft=(0.5,), curves=("finetune",))
    experiment = dataclasses.replace(experiment, export=export)
    again = run(experiment, later)
    curve = again.pop("curves")["finetune"]
    assert again["page"].pop("curves") != results["page"]["curves"]
    before = {key: value for key, value in results["page"].items() if key != "curves"}
    assert again == results | {"page": before}
    assert curve["alphas"] == [i / 10 for i in range(11)]
    (tuned,) = (r["metrics"] for r in results["runs"] if r["method"] == "finetune")
    for split, values in curve["splits"].items():
        for metric, of_alpha in values.items():
            assert len(of_alpha) == 11 and of_alpha[-1] == tuned[split][metric]
    assert list(curve["splits"]) == ["clean", "shifted"]
    models = later / "models" / "seed_0"
    assert {"carot", "carot_wise_0.5", "carot_teacher"} <= {path.name for path in models.iterdir()}
    assert not list(models.rglob("*partial*"))
    for path in (models / "carot").iterdir():
        assert path.read_bytes() == (folder(exported, "carot") / path.name).read_bytes()
    assert "0/6" not in capsys.readouterr().err  # no bar of a training


def test_an_export_that_cannot_be_written_says_how_to_go_on(exported, tmp_path):
    experiment, workdir, _ = exported
    later = tmp_path / "run"
    shutil.copytree(workdir, later)
    shutil.rmtree(later / "models")
    (later / "models").write_text("in the way")
    with pytest.raises(ExportError, match=r"export: .*models/seed_0/finetune cannot be written"):
        run(experiment, later)
    (later / "models").unlink()
    run(experiment, later)
    assert len(list((later / "models" / "seed_0").iterdir())) == 7


def test_a_run_however_it_is_computed(from_pretrained, tmp_path):
    """From a model of 16 pixels at 32; in bfloat16, scanned, rematerialised, device-resized."""
    changes = {"model": None, "image_size": 32, "export": Export(models=False)}
    untrained = {"zero_shot": zero_shot()}
    plain = run(from_pretrained(**changes, methods=untrained), tmp_path / "plain")
    other = run(
        from_pretrained(
            **changes,
            methods={**untrained, "carot": carot().scheduled(learning_rate=1e-3, warmup_steps=1)},
            resize="device",
            compute=Compute(dtype="bfloat16", scan=True, remat="full"),
        ),
        tmp_path / "other",
    )
    before, same, trained = (
        record["metrics"]["clean"]["nll"] for record in (*plain["runs"], *other["runs"])
    )
    assert same == pytest.approx(before, rel=0.02)
    assert same != before
    assert np.isfinite(trained)
    assert trained != same
