import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data.builders import record
from calib_jax.data.datasets import cifar10
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split


def test_splits_do_not_overlap():
    assert cifar10.train().split == "train[:45000]"
    assert cifar10.validation().split == "train[45000:]"
    assert cifar10.test().split == "test"


def test_every_style_is_a_source_with_its_own_captions():
    sources = cifar10.styled(cifar10.train())
    assert len(sources) == len(cifar10.STYLES) == 9
    assert sources[0].style is None
    assert sources[0].templates == cifar10.TEMPLATES
    assert len({template for source in sources for template in source.templates}) == 13


def test_class_names_are_in_the_order_of_the_alphabet_like_the_labels():
    for names, num_classes in ((cifar10.CLASS_NAMES, 10), (cifar10.CIFAR100_CLASS_NAMES, 100)):
        assert tuple(sorted(set(names))) == names
        assert len(names) == num_classes
    assert not set(cifar10.CLASS_NAMES) & set(cifar10.CIFAR100_CLASS_NAMES)


@pytest.mark.image_sets
def test_class_names_are_those_of_the_prepared_data(image_sets):
    for name, class_names in (
        ("cifar10", cifar10.CLASS_NAMES),
        ("cifar100", cifar10.CIFAR100_CLASS_NAMES),
    ):
        opened = ImageSplit(Split(name=name), [image_sets], image_size=32)
        assert opened.label_names == class_names


@pytest.fixture(params=["drawn", pytest.param("prepared", marks=pytest.mark.image_sets)])
def source_dir(request, draw_set, image_sets):
    """Where `cifar10` lies: the real images, or four drawn ones a class."""
    if request.param == "prepared":
        return image_sets
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    examples = [(record.png_bytes(each), index % 10) for index, each in enumerate(pixels)]
    return draw_set("cifar10", cifar10.CLASS_NAMES, {"test": examples})


def test_corrupted_copies_of_the_test_images(source_dir, tmp_path):
    corrupted = cifar10.CorruptedTest(
        corruptions=("gaussian_noise", "contrast"), severities=(1, 5), max_examples=20
    )
    corrupted(source_dir, tmp_path)
    splits = corrupted.splits()
    assert list(splits) == ["gaussian noise 1", "gaussian noise 5", "contrast 1", "contrast 5"]
    labels = []
    for split in splits.values():
        opened = ImageSplit(split, [tmp_path], image_size=32, class_names=cifar10.CLASS_NAMES)
        assert len(opened) == 20
        labels.append(opened.labels().tolist())
    assert all(row == labels[0] for row in labels)
    assert sorted(labels[0]) == sorted(list(range(10)) * 2)


def test_a_missing_folder_is_named(tmp_path):
    corrupted = cifar10.CorruptedTest(corruptions=("contrast",))
    message = r"'cifar10': no prepared .* Run python -m calib_jax.data.prepare cifar10 .*, or set"
    with pytest.raises(ConfigError, match=message):
        corrupted(tmp_path, tmp_path)
