"""Copies of ImageNet-C read from an archive laid out as blur.tar."""

import pytest

from calib_jax.core.errors import DataError
from calib_jax.data.builders.archives import open_archive
from calib_jax.data.builders.imagenet_c import imagenet_c
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.prepared import ImageSplit


def test_every_corruption_and_severity_is_a_data_set(pack, picture, tmp_path):
    files = {
        f"{corruption}/{severity}/{wordnet_id}/ILSVRC2012_val_0000000{number}.JPEG": picture(
            10 * severity + number
        )
        for corruption, severity in (("defocus_blur", 1), ("defocus_blur", 5), ("fog", 3))
        for number, wordnet_id in ((1, "n01440764"), (2, "n04356056"))
    }
    with open_archive(pack(tmp_path / "blur.tar", files)) as archive:
        builders = imagenet_c(archive, tmp_path)
        for builder in builders:
            builder.write()
    names = [f"{builder.name}/{builder.builder_config.name}" for builder in builders]
    assert names == ["imagenet_c/defocus_blur_1", "imagenet_c/defocus_blur_5", "imagenet_c/fog_3"]
    split = imagenet.corrupted(severities=(3,))["fog 3"]
    images = ImageSplit(split, [tmp_path], image_size=4, class_names=imagenet.CLASS_NAMES)
    assert images.labels().tolist() == [0, 837]
    assert [int(images.image(index)[0, 0, 0]) for index in range(2)] == [31, 32]
    assert images.groups is None and images.absent == ()  # as of the whole archive


@pytest.mark.parametrize("path", ["fog/6/n01440764/1.JPEG", "fog/5/n00000001/1.JPEG"])
def test_another_layout(pack, picture, tmp_path, path):
    archive = pack(tmp_path / "x.tar", {path: picture(1)})
    message = rf"got {path}, expected CORRUPTION/SEVERITY/WORDNET_ID/FILE as in Ima"
    with open_archive(archive) as opened, pytest.raises(DataError, match=message):
        imagenet_c(opened, tmp_path)
