import dataclasses
import math
import pathlib

import pytest

from calib_jax.core import command_line
from calib_jax.core.errors import ConfigError
from calib_jax.core.settings import check_types
from calib_jax.main import RUNNERS
from calib_jax.models.config import ClipConfig, Compute, ResNetConfig, TextConfig, VisionConfig
from calib_jax.runs.experiment import Experiment

QUICKSTART = pathlib.Path(__file__).resolve().parents[2] / "configs" / "quickstart.py"


def test_the_defaults_pass():
    ClipConfig().validate()
    ClipConfig(vision=ResNetConfig()).validate()
    Compute().validate("compute")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("embed_dim", 0, r"embed_dim: got 0, expected at least 1\."),
        ("vision.num_layers", 0, r"vision\.num_layers: got 0, expected at least 1\."),
        ("text.vocab_size", -1, r"text\.vocab_size: got -1, expected at least 1\."),
        ("vision.patch_size", 15, r"vision\.patch_size: got 15, expected a divisor of .* = 224\."),
        ("vision.num_heads", 7, r"vision\.num_heads: got 7, expected a divisor of .* = 768\."),
        ("text.num_heads", 3, r"text\.num_heads: got 3, expected a divisor of .* = 512\."),
        ("vision.mlp_ratio", 0.0, r"vision\.mlp_ratio: got 0\.0, expected a finite number"),
        ("text.mlp_ratio", math.inf, r"text\.mlp_ratio: got inf, expected .* CLIP's is 4\."),
        ("activation", "quickgelu", r"activation: got 'quickgelu', .* Did you mean 'quick_gelu'\?"),
        ("initial_logit_scale", 0.0, r"initial_logit_scale: got 0\.0, expected a finite number"),
        ("pixel_mean", (0.5, 0.5, math.nan), r"pixel_mean: got .*nan.*, expected three finite"),
        ("pixel_std", (0.5, 0.5, 0.0), r"pixel_std: got .*0\.0.*, expected three finite"),
    ],
)
def test_validate_names_the_field(path, value, message):
    config = ClipConfig()
    *parents, name = path.split(".")
    owner = config
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, value)
    with pytest.raises(ConfigError, match=message):
        config.validate()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_size", 100, r"vision\.image_size: got 100, .* multiple of 32.*Set it to 96\."),
        ("image_size", 9, r"vision\.image_size: got 9, .*Set it to 32\."),
        ("image_size", 0, r"vision\.image_size: got 0, expected at least 1\."),
        ("width", 15, r"vision\.width: got 15, expected an even number"),
        ("num_blocks", (1, 1, 1), r"vision\.num_blocks: got \(1, 1, 1\), expected four numbers"),
        ("num_blocks", (1, 0, 1, 1), r"vision\.num_blocks: got \(1, 0, 1, 1\), .* at least 1"),
        ("num_heads", 3, r"vision\.num_heads: got 3, expected a divisor of .* = 2048\."),
    ],
)
def test_validate_names_the_field_of_a_resnet(name, value, message):
    vision = ResNetConfig()
    setattr(vision, name, value)  # as an override on the command line sets it
    with pytest.raises(ConfigError, match=message):
        ClipConfig(vision=vision).validate()


def test_the_hidden_width_is_rounded():
    assert VisionConfig(width=1664, mlp_ratio=4.9231).mlp_width == 8192
    assert TextConfig(width=10, mlp_ratio=0.25).mlp_width == 2


def test_the_command_line_overrides_the_fields_of_either_family(tmp_path):
    resnet = tmp_path / "resnet.py"
    resnet.write_text(
        "import runpy\n"
        "from calib_jax.models import presets\n"
        "def get_config():\n"
        f"    experiment = runpy.run_path({str(QUICKSTART)!r})['get_config']()\n"
        "    experiment.model = presets.rn50()\n"
        "    return experiment\n"
    )

    def model_of(config, *overrides):
        argv = ("calib_jax", f"--config={config}", "--workdir=x")
        experiment, _ = command_line.parse(
            (*argv, *(f"--config.model.vision.{x}" for x in overrides)), RUNNERS
        )
        check_types(experiment, Experiment, "")
        return experiment.model.vision

    vision = model_of(QUICKSTART, "width=64", "mlp_ratio=2.5")
    assert isinstance(vision, VisionConfig)
    assert (vision.width, vision.mlp_ratio) == (64, 2.5)
    vision = model_of(resnet, "width=32", "num_blocks=1,2,1,1")
    assert vision == ResNetConfig(width=32, num_blocks=(1, 2, 1, 1))
    with pytest.raises(ConfigError, match=r"no field 'num_blocks'. Did you mean 'num_layers'"):
        model_of(QUICKSTART, "num_blocks=1,1,1,1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": "bfloat"}, r"compute\.dtype: got 'bfloat', .* Did you mean 'bfloat16'\?"),
        ({"dtype": "half"}, r"compute\.dtype: got 'half', expected one of auto, .*Choose one"),
        ({"attention": "flash"}, r"compute\.attention: got 'flash', expected one of auto, xla"),
        ({"remat": "dot"}, r"compute\.remat: got 'dot', .* Did you mean 'dots'\?"),
        (
            {"attention": "cudnn", "dtype": "float32"},
            r"compute\.attention: got 'cudnn' in float32, .*Set compute\.dtype=bfloat16 or",
        ),
    ],
)
def test_validate_names_the_choice(fields, message):
    with pytest.raises(ConfigError, match=message):
        Compute(**fields).validate("compute")


@pytest.mark.parametrize(
    ("platform", "dtype", "expected"),
    [
        ("cpu", "auto", "float32"),
        ("gpu", "auto", "float32"),
        ("cuda", "auto", "bfloat16"),
        ("tpu", "auto", "bfloat16"),
        ("cpu", "bfloat16", "bfloat16"),
        ("cuda", "float32", "float32"),
    ],
)
def test_the_dtype_of_each_platform(platform, dtype, expected):
    assert Compute(dtype=dtype).resolve_dtype(platform) == expected


@pytest.mark.parametrize(
    ("platform", "dtype", "head_size", "expected"),
    [
        ("cuda", "auto", 64, "cudnn"),
        ("cuda", "bfloat16", 80, "cudnn"),
        ("cuda", "bfloat16", 128, "cudnn"),
        ("cuda", "float32", 64, "xla"),
        ("cuda", "bfloat16", 136, "xla"),
        ("cuda", "bfloat16", 20, "xla"),
        ("gpu", "bfloat16", 64, "xla"),
        ("tpu", "auto", 64, "xla"),
        ("cpu", "bfloat16", 64, "xla"),
    ],
)
def test_auto_takes_the_fused_kernel_where_it_runs(platform, dtype, head_size, expected):
    compute = Compute(dtype=dtype)
    assert compute.resolve_attention(platform, head_size=head_size) == expected
    xla = dataclasses.replace(compute, attention="xla")
    assert xla.resolve_attention(platform, head_size=head_size) == "xla"


@pytest.mark.parametrize(
    ("platform", "dtype", "head_size", "message"),
    [
        ("cpu", "bfloat16", 64, "got 'cudnn' on the platform cpu, expected an NVIDIA GPU"),
        ("cuda", "float32", 64, "got 'cudnn' in float32, expected"),
        ("cuda", "auto", 36, "got 'cudnn' with heads of size 36, expected .* Set attention=auto"),
    ],
)
def test_cudnn_where_it_cannot_run_is_an_error(platform, dtype, head_size, message):
    compute = Compute(dtype=dtype, attention="cudnn")
    with pytest.raises(ConfigError, match=f"attention: {message}"):
        compute.resolve_attention(platform, head_size=head_size)
