import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from calib_jax.core import hub
from calib_jax.core.errors import ConfigError

MODEL = "openai/clip-vit-base-patch16"


def answer(monkeypatch, error):
    def snapshot_download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def test_a_folder_comes_before_a_hub_id(tmp_path, monkeypatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    answer(monkeypatch, AssertionError("the hub was asked"))
    assert hub.folder_of("org/name", field="pretrained", patterns=["*"]).samefile("org/name")


def test_the_home_folder_of_nobody():
    with pytest.raises(ConfigError, match="^tokenizer: got '~nobodyx/clip', expected the home fol"):
        hub.folder_of("~nobodyx/clip", field="tokenizer", patterns=["*"])


def test_the_hub_gives_the_folder_of_its_copy(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(source, *, allow_patterns):
        asked.update(source=source, allow_patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert hub.folder_of(MODEL, field="pretrained", patterns=("*.json",)) == tmp_path
    assert asked == {"source": MODEL, "allow_patterns": ["*.json"]}


@pytest.mark.parametrize(
    "source", ["", "nowhere", "/no/such", "a/b/c", "org/na me", "./x", "../x", "a/ViT-B-16.pt"]
)
def test_neither_a_folder_nor_a_hub_id(source):
    with pytest.raises(ConfigError, match=r"pretrained: got '.*', expected a file or folder"):
        hub.folder_of(source, field="pretrained", patterns=["*"])


def test_without_a_network_the_message_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        hub.folder_of(MODEL, field="model.pretrained", patterns=["*.json"])
    message = str(caught.value)
    assert message.startswith(
        f"model.pretrained: '{MODEL}' is no folder here, and the hub cannot be reached ("
    )
    assert message.endswith("and set --config.model.pretrained=FOLDER.")
    assert f"hf download {MODEL} --local-dir FOLDER" in message
    assert "\n" not in message


def http_error(kind):
    # The response is only kept.
    error = kind.__new__(kind)
    OSError.__init__(error, "404 Client Error.\n\nRequest ID: 1")
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (http_error(errors.GatedRepoError), "the hub asks for permission: log in with"),
        (http_error(errors.RepositoryNotFoundError), "the hub has no such model, or keeps it priv"),
        (http_error(errors.HfHubHTTPError), r"the hub cannot be reached \(404 Client Error\)"),
        (errors.LocalEntryNotFoundError("no file"), r"the hub cannot be reached \(no file\)"),
        (errors.OfflineModeIsEnabled("offline"), r"the hub cannot be reached \(offline\)"),
        (errors.HFValidationError("bad id"), r"the hub cannot be reached \(bad id\)"),
        (ConnectionError(), r"the hub cannot be reached \(ConnectionError\)"),
    ],
)
def test_what_the_hub_answers_is_one_line(monkeypatch, error, reason):
    answer(monkeypatch, error)
    with pytest.raises(ConfigError, match=rf"is no folder here, and {reason}") as caught:
        hub.folder_of(MODEL, field="pretrained", patterns=["*"])
    assert "\n" not in str(caught.value)
