"""The halves of PACS, on drawn images and on the data themselves where they are at hand."""

import pytest

from calib_jax.data.captions import CaptionTable
from calib_jax.data.datasets import pacs
from calib_jax.data.datasets.records import RecordSplit, Split, id_position
from calib_jax.data.pipeline import Source

PREPARED_SIZES = {
    "photo": (707, 147, 816),
    "art_painting": (875, 192, 981),
    "cartoon": (950, 244, 1150),
    "sketch": (1583, 401, 1945),
}
DRAWN_SIZES = {
    "photo": (67, 27, 106),
    "art_painting": (74, 19, 107),
    "cartoon": (89, 20, 91),
    "sketch": (75, 21, 104),
}
"""Of 200 images each: an image that changed its share would be tested after it has trained."""

SHARES = (pacs.TRAIN, pacs.VALIDATION, pacs.TEST)


@pytest.fixture(scope="module")
def drawn_dir(draw_set, picture):
    examples = [(picture(index), index % len(pacs.CLASS_NAMES)) for index in range(200)]
    return draw_set("pacs", pacs.CLASS_NAMES, dict.fromkeys(pacs.DOMAINS, examples))


@pytest.fixture(params=["drawn", pytest.param("prepared", marks=pytest.mark.image_sets)])
def sized(request, drawn_dir, image_sets):
    """(data_dir, {domain: how many images TRAIN, VALIDATION and TEST have})."""
    if request.param == "prepared":
        return image_sets, PREPARED_SIZES
    return drawn_dir, DRAWN_SIZES


def opened(data_dir, split):
    return RecordSplit(split, [data_dir])


def ids(records):
    return [records.read(index).id for index in range(len(records))]


def test_the_shares_fit_together():
    assert [*pacs.TRAIN, *pacs.VALIDATION, *pacs.TEST] == [0.0, 0.4, 0.4, 0.5, 0.5, 1.0]


def test_a_source_is_the_training_share_with_its_own_captions():
    assert tuple(PREPARED_SIZES) == pacs.DOMAINS
    for name in pacs.DOMAINS:
        source = pacs.source(name, repeats=3)
        split = Split(name="pacs", split=name, share=(0.0, 0.4))
        assert source == Source(split=split, templates=pacs.TEMPLATES[name], repeats=3)
        assert source.split == pacs.domain(name, pacs.TRAIN)
        source.validate(field="source")
        assert len(CaptionTable(pacs.CLASS_NAMES, source.templates).texts()) >= 14
    templates = [template for own in pacs.TEMPLATES.values() for template in own]
    assert len(set(templates)) == len(templates)


@pytest.mark.parametrize("name", pacs.DOMAINS)
def test_every_image_of_a_domain_is_in_one_share_of_the_right_size(sized, name):
    data_dir, sizes_of = sized
    records = opened(data_dir, Split(name="pacs", split=name))
    assert tuple(records.features["label"].names) == pacs.CLASS_NAMES
    positions = [id_position(one) for one in ids(records)]
    assert len(set(positions)) == len(records) == sum(sizes_of[name])
    sizes = tuple(sum(low <= p < high for p in positions) for low, high in SHARES)
    assert sizes == sizes_of[name]
    for (low, high), size in zip(SHARES, sizes, strict=True):
        share = high - low
        assert abs(size - share * len(records)) < 4 * (len(records) * share * (1 - share)) ** 0.5


def test_the_shares_of_a_domain_cover_it_and_are_disjoint(sized):
    data_dir, sizes_of = sized
    whole = ids(opened(data_dir, Split(name="pacs", split="photo")))
    parts = [ids(opened(data_dir, pacs.domain("photo", share))) for share in SHARES]
    assert tuple(map(len, parts)) == sizes_of["photo"]
    assert sorted(one for part in parts for one in part) == sorted(whole)
