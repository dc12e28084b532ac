"""Drawn image sets: they stand in for the prepared ones, which are no part of the repository."""

import pytest
import tensorflow_datasets as tfds

from calib_jax.data.builders import record


class DrawnSet(record.RecordBuilder):
    """What its subclasses hold: `class_names`, and (encoded image, label) pairs of each split."""

    name = "drawn_set"
    VERSION = tfds.core.Version("1.0.0")
    class_names: tuple[str, ...] = ()
    splits: dict[str, list[tuple[bytes, int]]] = {}

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=self.class_names),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split):
        for index, (image, label) in enumerate(self.splits[split]):
            yield index, {"id": f"{split}_{index:04d}", "image": image, "label": label}


@pytest.fixture(scope="session")
def draw_set(tmp_path_factory):
    """A function that writes a set by the library's own builder and returns its data_dir."""

    def draw(name, class_names, splits):
        folder = tmp_path_factory.mktemp("drawn_sets")
        fields = {"name": name, "class_names": class_names, "splits": splits}
        type("Drawn", (DrawnSet,), fields)(data_dir=str(folder)).write()
        return folder

    return draw
