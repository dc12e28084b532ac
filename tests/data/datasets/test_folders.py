"""Which prepared folder is opened, and what lies in it."""

import shutil

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data.datasets.folders import files_of, open_folder, open_split, reason


def test_the_newest_whole_version_of_the_first_folder_counts(tiny_data, tmp_path):
    source = tiny_data / "tiny_colours/1.0.0"
    for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0.incompleteA1B2C3"):
        folder = shutil.copytree(source, tmp_path / "tiny_colours" / version)
        info = folder / "dataset_info.json"
        info.write_text(info.read_text().replace('"1.0.0"', f'"{version[:6].rstrip(".")}"'))
    builder = open_folder("tiny_colours", [tmp_path, tiny_data])
    assert builder.data_dir == str(tmp_path / "tiny_colours/1.10.0")
    builder = open_folder("tiny_colours", [tmp_path / "none", tiny_data])
    assert builder.data_dir == str(source)


def test_the_files_of_a_split(tiny_data):
    folder = tiny_data / "tiny_colours/1.0.0"
    names = [path.name for path in files_of(folder, {"test"})]
    assert names == sorted(names)
    assert {"features.json", "label.labels.txt"} < set(names)
    assert [name for name in names if "array_record" in name] == [
        name for name in (path.name for path in sorted(folder.iterdir())) if "-test." in name
    ]


def test_a_slice_has_its_rows(tiny_data):
    builder = open_folder("tiny_colours", [tiny_data])
    whole, part = (open_split(builder, text, "x") for text in ("test", "test[2:5]"))
    assert (len(whole), len(part)) == (10, 3)
    assert [row["label"] for row in part] == [whole[index]["label"] for index in (2, 3, 4)]
    with pytest.raises(ConfigError, match=r"^data set x: cannot be opened: .*\. Prepare it as"):
        open_split(builder, "test[3:3]", "x")


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("one.\ntwo"), "one"), (OSError(), "OSError"), (ValueError("x" * 300), "x" * 200)],
)
def test_a_reason_is_one_line(error, expected):
    assert reason(error) == expected
