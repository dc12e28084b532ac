"""The protocol's texts against their hashes, and labels that go by WordNet id."""

import collections
import hashlib
import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from calib_jax.core import settings
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.data.builders import record
from calib_jax.data.captions import CaptionTable
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.imagenet import CLASS_NAMES, TEMPLATES, WORDNET_IDS, ImageNetSplit
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import RecordSplit, Split

OWN_IDS = ("n04355933", "n01440764", "n04356056")
"""Sunglass, tench, sunglasses: CLIP calls the first and the last the same."""


class TinyImageNet(record.RecordBuilder):
    """Four black images of the classes 0, 1, 2, 0 of OWN_IDS."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(OWN_IDS)),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        image = record.png_bytes(np.zeros((8, 8, 3), np.uint8))
        for index in range(4):
            yield index, {"image": image, "label": index % 3}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("tiny_imagenet")
    TinyImageNet(data_dir=str(folder)).write()
    return folder


def opened(data_dir, class_names=CLASS_NAMES):
    split = ImageNetSplit(name="tiny_image_net")
    return ImageSplit(split, [data_dir], image_size=8, class_names=class_names)


def test_the_class_names():
    assert len(CLASS_NAMES) == 1000
    twice = {name for name, count in collections.Counter(CLASS_NAMES).items() if count > 1}
    assert twice == {"missile", "sunglasses"}
    assert len(set(CLASS_NAMES)) == 998
    assert CLASS_NAMES[:3] == ("tench", "goldfish", "great white shark")
    assert CLASS_NAMES[-1] == "toilet paper"
    assert all(name == " ".join(name.split()) and "{" not in name for name in CLASS_NAMES)


def test_the_templates():
    assert len(set(TEMPLATES)) == len(TEMPLATES) == 80
    assert all(text == " ".join(text.split()) and text.endswith(".") for text in TEMPLATES)
    texts = CaptionTable(CLASS_NAMES, TEMPLATES).texts()  # refuses all but one {} a template
    assert len(texts) == 80_000
    assert texts[0] == "a bad photo of a tench."


@pytest.mark.parametrize("kind", ["class_names", "templates"])
def test_every_text_is_the_protocols(golden_dir, kind):
    expected = json.loads((golden_dir / "imagenet_protocol_hashes.json").read_text())[kind]
    texts = {"class_names": CLASS_NAMES, "templates": TEMPLATES}[kind]
    digests = [hashlib.sha256(f"calib-jax:{text}".encode()).hexdigest()[:12] for text in texts]
    assert digests == expected


def test_the_wordnet_ids_are_those_of_tfds():
    assert tuple(sorted(set(WORDNET_IDS))) == WORDNET_IDS
    file = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    assert tuple(file.read_text().splitlines()) == WORDNET_IDS
    ids_of = collections.defaultdict(list)
    for wordnet_id, name in zip(WORDNET_IDS, CLASS_NAMES, strict=True):
        ids_of[name].append(wordnet_id)
    assert ids_of["missile"] == ["n03773504", "n04008634"]
    assert ids_of["sunglasses"] == ["n04355933", "n04356056"]


@pytest.fixture(params=["drawn", pytest.param("prepared", marks=pytest.mark.image_sets)])
def sample_dir(request, draw_set, picture, image_sets):
    """Where `imagenet_sample` lies: a photograph a class, or a drawn shade a class."""
    if request.param == "prepared":
        return image_sets
    labels = np.random.default_rng(0).permutation(1000).tolist()
    examples = [(picture(label % 256), label) for label in labels]
    return draw_set("imagenet_sample", WORDNET_IDS, {"validation": examples})


def test_the_sample_has_one_image_a_class(sample_dir):
    split = imagenet.validation("imagenet_sample")
    records = RecordSplit(split, [sample_dir])
    labels = [records.read(index).label for index in range(len(records))]
    assert sorted(labels) == list(range(1000))
    images = ImageSplit(split, [sample_dir], image_size=32, class_names=CLASS_NAMES)
    assert images.label_names == CLASS_NAMES
    assert images.absent == ()
    for label in (0, 657, 744, 836, 837, 999):
        assert images.label(labels.index(label)) == label


def test_labels_go_by_wordnet_id(data_dir):
    images = opened(data_dir)
    assert images.labels().tolist() == [836, 0, 837, 836]
    assert images.label_names == CLASS_NAMES
    lacking = [n for n, i in zip(CLASS_NAMES, WORDNET_IDS, strict=True) if i not in OWN_IDS]
    assert images.absent == tuple(lacking)
    assert len(lacking) == 997


def test_without_class_names_the_labels_stay(data_dir):
    images = opened(data_dir, class_names=())
    assert images.labels().tolist() == [0, 1, 2, 0]
    assert images.label_names == OWN_IDS
    assert images.absent == ()


def test_any_order_of_the_ids_is_mapped():
    order = np.random.default_rng(0).permutation(1000)
    own = tuple(WORDNET_IDS[index] for index in order)
    mapped = ImageNetSplit(name="x").label_map(own, CLASS_NAMES, "x[test]")
    assert mapped.dtype == np.int32
    np.testing.assert_array_equal(mapped, order)


def test_fewer_class_names(data_dir):
    message = (
        r"data set tiny_image_net\[test\]: got 998 class names, expected the 1000 of the protocol "
        r"in their order\. Set class_names=imagenet\.CLASS_NAMES"
    )
    with pytest.raises(ConfigError, match=message):
        opened(data_dir, class_names=tuple(dict.fromkeys(CLASS_NAMES)))


def test_class_names_in_another_order(data_dir):
    names = (CLASS_NAMES[1], CLASS_NAMES[0], *CLASS_NAMES[2:])
    message = r"got class name 0 'goldfish', expected 'tench', the protocol's for n01440764\. Set"
    with pytest.raises(ConfigError, match=message):
        opened(data_dir, class_names=names)


def test_a_data_set_without_wordnet_ids(tiny_data):
    split = ImageNetSplit(name="tiny_colours")
    message = (
        r"data set tiny_colours\[test\]: got the class 'red', expected WordNet ids such as "
        r"'n01440764'\. Name the split by Split, which goes by class names"
    )
    for class_names in (CLASS_NAMES, ()):
        with pytest.raises(ConfigError, match=message):
            ImageSplit(split, [tiny_data], image_size=8, class_names=class_names)


@pytest.mark.parametrize("class_names", [CLASS_NAMES, ("n01440765", "n01443537")])
def test_a_wordnet_id_beyond_imagenet(class_names):
    message = (
        r"data set x\[test\]: 1 of its 2 classes are not among the 1000 of ImageNet-1k, first "
        r"'n01440765'\. Did you mean 'n01440764'\? Choose a data set of ImageNet-1k"
    )
    with pytest.raises(ConfigError, match=message):
        ImageNetSplit(name="x").label_map(("n01440765", "n01443537"), class_names, "x[test]")


def test_validation_and_shifts_are_what_tfds_knows(tmp_path):
    assert imagenet.validation() == ImageNetSplit(name="imagenet2012", split="validation")
    shifts = imagenet.shifts()
    assert list(shifts) == [
        "imagenet_v2",
        "imagenet_r",
        "imagenet_a",
        "imagenet_sketch",
        "objectnet",
    ]
    num_classes = {"imagenet_r": 200, "imagenet_a": 200}
    for split in shifts.values():
        assert isinstance(split, ImageNetSplit)
        assert split.split == "test"
        if split.name == "objectnet":  # TFDS has none
            continue
        builder = tfds.builder(split.name, data_dir=str(tmp_path))
        own_names = tuple(builder.info.features["label"].names)
        mapped = split.label_map(own_names, CLASS_NAMES, split.name)
        np.testing.assert_array_equal(mapped, np.arange(1000))
        groups = split.groups(own_names, CLASS_NAMES)
        if split.name not in num_classes:
            assert groups is None
            continue
        held = [WORDNET_IDS[index] for index in np.flatnonzero(groups >= 0)]
        assert tuple(held) == imagenet.SUBSETS[split.name]
        assert groups[groups >= 0].tolist() == list(range(200))


def test_the_classes_of_a_and_r():
    for name, first, last in (
        ("imagenet_a", 6, 988),
        ("imagenet_r", 1, 988),
    ):
        ids = imagenet.SUBSETS[name]
        assert tuple(sorted(set(ids))) == ids
        assert len(ids) == 200
        assert (WORDNET_IDS.index(ids[0]), WORDNET_IDS.index(ids[-1])) == (first, last)


def test_a_subset_restricts_predictions_to_its_classes(data_dir):
    images = opened(data_dir)
    assert images.groups[[836, 0, 837]].tolist() == [0, 1, 2]
    assert np.count_nonzero(images.groups >= 0) == 3
    assert opened(data_dir, class_names=()).groups is None


def test_an_image_of_a_class_that_the_data_set_does_not_have(data_dir, monkeypatch):
    monkeypatch.setitem(imagenet.SUBSETS, "tiny_image_net", OWN_IDS[:2])
    images = opened(data_dir)
    assert images.label(1) == 0
    message = r"record 2: got the class 'sunglasses', which is none of the data set's\. Prepare"
    with pytest.raises(DataError, match=message):
        images.label(2)


def test_a_wordnet_id_in_two_classes():
    own_names = ("n01440764 n01443537", "n01443537")
    message = (
        r"^data set x\[test\]: got n01443537 in two classes, expected distinct WordNet ids\. P"
    )
    with pytest.raises(ConfigError, match=message):
        ImageNetSplit(name="x").label_map(own_names, CLASS_NAMES, "x[test]")


def test_corrupted_copies_are_the_published_ones():
    splits = imagenet.corrupted()
    assert len(splits) == 75
    assert splits["glass blur 4"] == ImageNetSplit(name="imagenet_c/glass_blur_4")


def test_a_stored_config_tells_the_two_kinds_of_split_apart():
    split = ImageNetSplit(name="imagenet_a")
    settings.check_types(split, Split, "split")
    stored = settings.to_dict(split)
    assert (stored["()"], stored["name"], stored["split"]) == (
        "ImageNetSplit",
        "imagenet_a",
        "test",
    )
    assert split != Split(name="imagenet_a")
