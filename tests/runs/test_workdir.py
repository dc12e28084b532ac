"""One config for ever: every way in which a folder can be another run's."""

import json

import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.runs.workdir import Workdir, read_json, write_json

CONFIG = {"seeds": [0, 1], "model": {"width": 16}}


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "runs" / "tiny")


def test_paths_lie_in_the_folder(workdir):
    assert workdir.checkpoints("carot", 1) == workdir.path / "checkpoints/seed_1/carot"
    assert workdir.pretrained(1) == workdir.path / "pretrained/seed_1"
    assert workdir.trial("carot.1e-3", 1) == workdir.path / "tuning/seed_1/carot.1e-3.json"
    assert workdir.evaluation("carot", 1) == workdir.path / "evaluations/seed_1/carot.json"
    assert not workdir.path.exists()


def test_a_new_folder_is_claimed_once(workdir):
    with workdir.opened():
        assert not workdir.config.exists()
        workdir.claim(CONFIG)
    workdir.check(CONFIG)
    workdir.claim({"seeds": [7]})
    assert json.loads(workdir.config.read_text()) == CONFIG


def test_tuples_equal_the_lists_that_json_makes_of_them(workdir):
    workdir.path.mkdir(parents=True)
    workdir.claim({"seeds": (0, 1)})
    workdir.check({"seeds": (0, 1)})


def test_another_config_is_refused_and_the_fields_named(workdir):
    workdir.path.mkdir(parents=True)
    workdir.claim(CONFIG)
    message = (
        r"workdir .*tiny: it holds a run of another config, which is left as it is; 2 fields "
        r"differ: seeds: \[0, 1\] -> \[0\]; model.width: 16 -> 32\. Choose another --workdir, or"
    )
    with pytest.raises(ConfigError, match=message):
        workdir.check({"seeds": [0], "model": {"width": 32}})
    assert json.loads(workdir.config.read_text()) == CONFIG


def test_one_difference(workdir):
    workdir.claim({"seed": 0})
    with pytest.raises(ConfigError, match=r"left as it is; 1 field differs: seed: 0 -> 1\. Choose"):
        workdir.check({"seed": 1})


def test_many_differences_are_cut(workdir):
    workdir.path.mkdir(parents=True)
    workdir.claim({f"field_{i}": i for i in range(11)})
    with pytest.raises(ConfigError, match=r"11 fields differ: .*field_7: 7 -> 'absent' and 3 more"):
        workdir.check({})


def test_a_file_is_no_folder(workdir):
    workdir.path.parent.mkdir()
    workdir.path.write_text("")
    message = r"tiny: cannot be written \(File exists\)\. Choose another --workdir"
    with pytest.raises(ConfigError, match=message), workdir.opened():
        pass


def test_a_second_process_is_refused(workdir):
    with workdir.opened():
        message = r"tiny: another process is running in it\. Wait for it, or choose"
        with pytest.raises(ConfigError, match=message), Workdir(workdir.path).opened():
            pass
    with workdir.opened():
        pass


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_refused_leaves_nothing_behind(workdir, is_there):
    if is_there:
        workdir.path.mkdir(parents=True)
        (workdir.path / "mine.txt").write_text("x")
    root = workdir.path.parents[1]
    before = sorted(root.rglob("*"))
    with pytest.raises(ConfigError, match="no such data set"), workdir.opened():
        assert (workdir.path / ".lock").exists()
        raise ConfigError("no such data set")
    assert sorted(root.rglob("*")) == before


def test_a_stopped_run_keeps_what_it_has_and_its_lock(workdir):
    with workdir.opened():
        workdir.claim(CONFIG)
    with pytest.raises(KeyboardInterrupt), workdir.opened():
        raise KeyboardInterrupt
    assert {".lock", "config.json"} <= {path.name for path in workdir.path.iterdir()}


def test_a_lock_is_neither_followed_nor_emptied(workdir, tmp_path):
    other = tmp_path / "mine.txt"
    other.write_text("precious")
    workdir.path.mkdir(parents=True)
    lock = workdir.path / ".lock"
    lock.symlink_to(other)
    message = r"tiny: cannot be written \(\.lock is a link\)\. Choose another --workdir"
    with pytest.raises(ConfigError, match=message), workdir.opened():
        pass
    assert other.read_text() == "precious"
    lock.unlink()
    lock.write_text("notes")
    with workdir.opened():
        assert lock.read_text() == "notes"


def test_a_lock_that_another_process_removes_is_no_lock(workdir, monkeypatch):
    def remove(*_):
        (workdir.path / ".lock").unlink()

    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", remove)
        with pytest.raises(ConfigError, match="another process is running"), workdir.opened():
            pass


def test_a_damaged_file_of_the_run_is_named(tmp_path):
    path = tmp_path / "carot.json"
    path.write_text('{"metrics": ')
    with pytest.raises(DataError, match=r"carot.json: damaged \(.*\)\. Delete it to have it made"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(DataError, match=r"damaged \(got a list, expected a dict\)\. Delete it"):
        read_json(path)
    assert read_json(path, list) == [1]
    write_json(path, {"a": [1]})
    assert read_json(path) == {"a": [1]}
    path.write_text(path.read_text().replace("1", "2"))
    with pytest.raises(DataError, match=r"carot\.json: got another content than SHA256SUMS"):
        read_json(path)


@pytest.mark.parametrize("name", ["metrics", "results"])
def test_results_without_a_config_are_refused(workdir, name):
    workdir.path.mkdir(parents=True)
    getattr(workdir, name).write_text("{}")
    with pytest.raises(ConfigError, match=r"it holds results but no config\.json\. Choose"):
        workdir.check(CONFIG)


@pytest.mark.parametrize("content", [b'{"seeds": [0', b"", b"\xff\xfe{", b"[1]", b"null", None])
def test_a_damaged_config_is_refused(workdir, content):
    workdir.path.mkdir(parents=True)
    if content is None:
        workdir.config.mkdir()
    else:
        workdir.config.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json is damaged \(.*\)\. Choose another"):
        workdir.check(CONFIG)


def test_a_config_that_was_edited_is_named(workdir):
    workdir.claim(CONFIG)
    workdir.config.write_text(workdir.config.read_text().replace("16", "17"))
    with pytest.raises(ConfigError, match=r"config\.json: got another content than SHA256SUMS"):
        workdir.check(CONFIG)
    (workdir.path / "SHA256SUMS").unlink()
    with pytest.raises(ConfigError, match=r"1 field differs: model\.width: 17 -> 16"):
        workdir.check(CONFIG)


@pytest.mark.parametrize("kept", ["checkpoints/seed_0/carot", "tuning/seed_0/carot.json"])
def test_a_training_without_what_it_depends_on_is_refused(workdir, kept):
    (workdir.path / kept).mkdir(parents=True)
    (workdir.path / "trainings").mkdir()
    message = rf"got .*{kept} without .*trainings/seed_0/carot\.json, .*Delete the former to have"
    with pytest.raises(ConfigError, match=message):
        workdir.check_trainings({("carot", 0): {"a": 1}})
    write_json(workdir.training("carot", 0), {"a": 1})
    workdir.check_trainings({("carot", 0): {"a": 1}})


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    workdir = Workdir(tmp_path / "file" / "run")
    message = r"run: cannot be written \(Not a directory\)"
    with pytest.raises(ConfigError, match=message), workdir.opened():
        pass


def test_json_is_written_at_once_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert {each.name for each in path.parent.iterdir()} == {"results.json", "SHA256SUMS"}


@pytest.mark.parametrize("make", ["folder", "deep", "list"])
def test_a_config_that_cannot_be_read_is_one_line(tmp_path, make):
    path = tmp_path / "config.json"
    if make == "folder":
        path.mkdir()
    else:
        path.write_text({"deep": "[" * 5000, "list": "[1]"}[make])
    message = r"config\.json is damaged \(.*\)\. Choose another --workdir"
    with pytest.raises(ConfigError, match=message) as caught:
        Workdir(tmp_path).check({})
    assert "\n" not in str(caught.value)
