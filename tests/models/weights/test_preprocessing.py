"""What files say of the preprocessing: the pixels of transformers' processor, or one line."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from calib_jax.core.errors import WeightsError
from calib_jax.data.resizing import resize_and_crop
from calib_jax.models import presets
from calib_jax.models.config import ClipConfig
from calib_jax.models.weights import hugging_face, load, preprocessing
from calib_jax.models.weights.export import write_model
from calib_jax.models.weights.fields import Fields

SIDE = 32
SIDES = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
CASES = pathlib.Path(__file__).resolve().parents[4] / "shared" / "cases" / "b18_preprocessor"


def taken(said, side=SIDE):
    config = ClipConfig()
    config.vision.image_size = side
    preprocessing.take_hugging_face(Fields(said, "FILE"), config)
    return config


def ours(config, pixels):
    view = resize_and_crop(pixels, config.vision.image_size).astype(np.float32)
    return ((view / 255 - config.pixel_mean) / config.pixel_std).transpose(2, 0, 1)


def theirs(said, pixels):
    """What transformers' processor makes of an image with Pillow."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return np.asarray(CLIPImageProcessorPil(**said)(Image.fromarray(pixels))["pixel_values"][0])


def picture(rng):
    # An odd rest of 3, 7, ... is cut by one pixel more in front by torchvision, which OpenAI's CLIP
    # and the default processor use, and by us, than by this one.
    while True:
        height, width = rng.integers(20, 90, 2).tolist()
        if (SIDE * max(height, width) // min(height, width) - SIDE) % 4 != 3:
            return rng.integers(0, 256, (height, width, 3), np.uint8)


CHOICES = {
    "size": [SIDE, {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE}, 40, [SIDE, SIDE]],
    "crop_size": [SIDE, {"height": SIDE, "width": SIDE}, [SIDE, SIDE], 24],
    "do_resize": [True, None, False],
    "do_center_crop": [True, None, False],
    "do_rescale": [True, None, False],
    "do_normalize": [True, None, False],
    "do_convert_rgb": [True, None, False],
    "rescale_factor": [1 / 255, 1 / 127.5, None, 0.5],
    "resample": [3, None, 2],
    "image_mean": [[0.5, 0.4, 0.3], 0.5, None],
    "image_std": [[0.1, 0.2, 0.3], 2, None],
    "use_square_size": [False, True],
}


def differences(num_drawn, seed):
    """How many drawn files are taken; asserts that each of these gives transformers' pixels."""
    rng, num_taken = np.random.default_rng(seed), 0
    for _ in range(num_drawn):
        said = dict(SIDES)
        for name in rng.choice(list(CHOICES), rng.integers(1, 6), replace=False).tolist():
            said[name] = CHOICES[name][rng.integers(len(CHOICES[name]))]
        try:
            config = taken(said)
        except WeightsError as error:
            assert str(error).startswith("FILE: ") and "\n" not in str(error)
            continue
        num_taken += 1
        pixels = picture(rng)
        expected = theirs(said, pixels)
        np.testing.assert_allclose(
            ours(config, pixels), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
        )
    return num_taken


def test_drawn_files_give_the_pixels_of_transformers_or_are_refused():
    assert 20 < differences(100, seed=0) < 90


@pytest.mark.many
def test_many_drawn_files_give_the_pixels_of_transformers_or_are_refused():
    assert 200 < differences(1000, seed=1) < 900


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1]}, 0.5, None),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 1 / 255),
        ({"do_normalize": False, "image_mean": [0.5] * 3}, 0.0, 1.0),
        ({"image_mean": 0.25, "image_std": 2}, 0.25, 2.0),
        ({"rescale_factor": 1 / 255, "image_mean": [0.1] * 3}, 0.1, None),
        ({"size": SIDE, "feature_extractor_type": "CLIPFeatureExtractor"}, None, None),
        ({"size": {"shortest_edge": SIDE}, "crop_size": [SIDE, SIDE]}, None, None),
        ({**SIDES, "size": {"shortest_edge": SIDE, "longest_edge": None}}, None, None),
    ],
)
def test_shift_and_scale_are_taken(said, mean, std):
    config, pixels = taken(SIDES | said), picture(np.random.default_rng(2))
    np.testing.assert_allclose(
        ours(config, pixels), theirs(SIDES | said, pixels), rtol=1e-5, atol=1e-4
    )
    assert mean is None or config.pixel_mean == (mean,) * 3
    assert std is None or config.pixel_std == (std,) * 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"size": 40}, r"size: got 40, expected \{'shortest_edge': 32\}: the shorter edge at"),
        ({"size": {"height": 32, "width": 32}}, r"size: got \{'height': 32, 'width': 32\}, exp"),
        ({"size": [32, 32]}, r"size: got \[32, 32\], expected"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "size: got .*'longest_edge': 64"),
        ({"size": 32, "default_to_square": True}, "size: got 32, expected"),
        ({"size": None}, "size: got None, expected a value, or no such field: null"),
        ({"do_normalize": None}, "do_normalize: got None, expected a value, or no such field"),
        ({"crop_size": 24}, "crop_size: got 24, expected 32, the model's image_size"),
        ({"crop_size": {"height": 32, "width": 24}}, "crop_size: got .*expected 32"),
        ({"do_center_crop": False}, "do_center_crop: got False, expected None or True"),
        ({"do_resize": False}, "do_resize: got False, expected None or True"),
        ({"do_pad": True}, "do_pad: got True, expected None or False"),
        ({"use_square_size": True}, "use_square_size: got True, expected None or False"),
        ({"do_rescale": "yes"}, "do_rescale: got 'yes', expected None or True or False"),
        ({"resample": 2}, "resample: got 2, expected None or 3"),
        ({"rescale_factor": 0}, "rescale_factor: got 0, expected a finite number above 0"),
        ({"image_mean": [0.5]}, r"image_mean: got \[0\.5\], expected three finite numbers"),
        ({"image_processor_type": "ViTImageProcessor"}, "image_processor_type: got 'ViTImage"),
    ],
)
def test_other_views_are_refused(said, message):
    with pytest.raises(WeightsError, match=f"^FILE: {message}"):
        taken(SIDES | said)


MEAN_AND_STD = {
    "image_mean": list(ClipConfig().pixel_mean),
    "image_std": list(ClipConfig().pixel_std),
}


@pytest.mark.parametrize(
    "said",
    [
        {"size": 224, "crop_size": 224, "feature_extractor_type": "CLIPFeatureExtractor"},
        {
            "image_processor_type": "CLIPImageProcessorFast",
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
            "rescale_factor": 0.00392156862745098,
            "default_to_square": False,
            **dict.fromkeys(("device", "do_pad", "input_data_format", "pad_size")),
        },
    ],
    ids=["openai", "4.57"],
)
def test_what_published_models_and_earlier_versions_write(said):
    steps = dict.fromkeys(("do_resize", "do_center_crop", "do_normalize"), True)
    assert taken(said | steps | {"resample": 3} | MEAN_AND_STD, side=224) == ClipConfig()


def test_what_the_installed_transformers_writes():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    written = json.loads(CLIPImageProcessorPil().to_json_string())
    assert taken(written, side=224) == ClipConfig()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"crop_size": SIDE}, "size: got None, expected .'shortest_edge': 32.: the shorter"),
        ({"size": SIDE}, "crop_size: got None, expected 32"),
    ],
)
def test_where_one_size_is_said_the_other_is_224(said, message):
    with pytest.raises(WeightsError, match=message):
        taken(said)


def test_what_is_not_said_is_the_models():
    assert taken({}) == dataclasses.replace(taken(SIDES))
    assert taken({"size": 224, "crop_size": 224}, side=224) == taken({}, side=224)
    # Where one is said, transformers has 224 for the other.
    assert taken({"size": 224}, side=224) == taken({"crop_size": 224}, side=224)


@pytest.mark.skipif(not CASES.exists(), reason="needs ../shared/cases")
def test_the_cases():
    names = [path.name for path in sorted(CASES.glob("*.json"))]
    assert names == ["crop24.json", "rescale.json", "size40.json", "squash.json"]
    pixels, refused = picture(np.random.default_rng(3)), []
    for name in names:
        said = json.loads((CASES / name).read_text())
        try:
            config = taken(said)
        except WeightsError:
            refused.append(name)
            continue
        np.testing.assert_allclose(ours(config, pixels), theirs(said, pixels), atol=1e-4)
    assert refused == ["crop24.json", "size40.json", "squash.json"]


OWN = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
OTHER = {"image_mean": [0.7, 0.8, 0.9]}


@pytest.mark.parametrize(
    ("joint", "own", "mean"),
    [
        ({"image_processor": OWN, "processor_class": "CLIPProcessor"}, None, 0.1),
        ({"image_processor": OWN}, OTHER, 0.1),
        ({"processor_class": "CLIPProcessor"}, OTHER, 0.7),
        ({"image_processor": None}, OTHER, 0.7),
        ({"processor_class": "CLIPProcessor"}, None, ClipConfig().pixel_mean[0]),
        ({"image_processor": {}}, OTHER, ClipConfig().pixel_mean[0]),
    ],
)
def test_the_joint_file_wins_as_for_transformers(tmp_path, joint, own, mean):
    model = hugging_face.describe(presets.vit_b32(), bos=0, eot=49407, pad=0)[0]
    for name, content in (
        ("config.json", model),
        ("processor_config.json", joint),
        ("preprocessor_config.json", own),
    ):
        if content is not None:
            (tmp_path / name).write_text(json.dumps(content))
    assert load._layout_of_folder(tmp_path).config.pixel_mean[0] == mean
    if own is not None or "image_processor" in joint:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        assert CLIPImageProcessorPil.from_pretrained(tmp_path).image_mean[0] == mean


def test_a_joint_file_of_another_form_is_refused(tmp_path):
    model = hugging_face.describe(presets.vit_b32(), bos=0, eot=49407, pad=0)[0]
    (tmp_path / "config.json").write_text(json.dumps(model))
    (tmp_path / "processor_config.json").write_text('{"image_processor": ["x"]}')
    with pytest.raises(WeightsError, match=r"image_processor: got \['x'\], expected an object"):
        load._layout_of_folder(tmp_path)
    nested = {"image_processor": {"size": 40, "crop_size": 224}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    with pytest.raises(WeightsError, match=r"r_config\.json: image_processor\.size: got 40"):
        load._layout_of_folder(tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"resize_mode": "squash"}, "resize_mode: got 'squash', expected None or 'shortest'"),
        ({"interpolation": "bilinear"}, "interpolation: got 'bilinear', expected None or"),
        ({"size": 40}, r"size: got 40, expected None or 32 or \[32, 32\]"),
        ({"mode": "L"}, "mode: got 'L', expected None or 'RGB'"),
        ({"image_size": 40}, "image_size: got 40, expected no such field"),
        ({"mean": [0.5]}, r"mean: got \[0\.5\], expected three finite numbers"),
    ],
)
def test_other_views_of_open_clip_are_refused(said, message):
    config = ClipConfig()
    config.vision.image_size = SIDE
    with pytest.raises(WeightsError, match=f"^FILE: {message}"):
        preprocessing.take_open_clip(Fields(said, "FILE"), config)


def test_what_open_clip_says_is_taken():
    config = ClipConfig()
    config.vision.image_size = SIDE
    said = {"size": [SIDE, SIDE], "mode": "RGB", "fill_color": 0, "mean": [0.5, 0.4, 0.3]}
    preprocessing.take_open_clip(Fields(said, "FILE"), config)
    assert config.pixel_mean == (0.5, 0.4, 0.3)
    assert config.pixel_std == ClipConfig().pixel_std


def test_another_scale_is_exported_as_mean_and_deviation(odd_vit, tmp_path, assert_same):
    config, params = odd_vit
    write_model(tmp_path, config, params, bos=1, eot=19, pad=0)
    (tmp_path / "SHA256SUMS").unlink()
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rescale_factor": 1 / 127.5}))
    found = load.read_model(str(tmp_path))
    write_model(tmp_path / "again", found.config, found.params, bos=1, eot=19, pad=0)
    assert load.read_model(str(tmp_path / "again")).config == found.config
    np.testing.assert_allclose(found.config.pixel_std, np.array(config.pixel_std) / 2)
    assert_same(jax.tree.map(np.asarray, found.params), jax.tree.map(np.asarray, params))
