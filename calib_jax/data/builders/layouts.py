"""Which folders of a tree of images are classes and which are splits.

Classes and their images are those of torchvision's `ImageFolder` for the folder of a split. Every
folder in it is a class; whatever lies in that and below belongs to the class. A tree that can be
read in two ways is refused.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from calib_jax.data.builders.listings import readable

SPLITS = ("train", "training", "val", "validation", "valid", "test", "testing")
"""Folder names that are splits, in whatever case."""

_UNLABELLED = re.compile(
    r"(train|val|valid|test|submission|unlabell?ed)(ing|idation)?[\W_\d]*(set|images?|data|\d+)?",
    re.IGNORECASE,
)


class LayoutError(ValueError):
    """A tree that has no one reading: what was got."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """The reading of a tree.

    Attributes:
        splits: The paths of the class folder and of the file of every image, by the split.
        left_out: Paths that belong to no class, by the reason, in the singular.
        remark: What was decided where the tree could be meant otherwise; empty: nothing.
    """

    splits: Mapping[str, Sequence[tuple[str, str]]]
    left_out: Mapping[str, Sequence[str]]
    remark: str = ""


class Folder:
    """A folder that holds images, or holds folders that do.

    Attributes:
        path: Of it.
        images: Paths of those in the folder itself.
        folders: By name, sorted.
    """

    def __init__(self, path: str = "", images: Iterable[str] = ()) -> None:
        """The folder at a path.

        Args:
            path: Of the folder.
            images: Sorted paths of all images in it and below.
        """
        self.path, self.images = path, []
        below: dict[str, list[str]] = {}
        start = len(path) + 1 if path else 0
        for image in images:
            name, slash, _ = image[start:].partition("/")
            if slash:
                below.setdefault(name, []).append(image)
            else:
                self.images.append(image)
        self.folders = {
            name: Folder(f"{path}/{name}" if path else name, below[name]) for name in sorted(below)
        }

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def all_images(self) -> Iterator[str]:
        """Paths of the images in it and below."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.all_images()

    def drawn(self, depth: int = 3, width: int = 4) -> str:
        """A short drawing: `{train: {cat: 2, dog: 2}, test: 5}`, numbers for images."""
        if not depth or not self.folders:
            return f"{sum(1 for _ in self.all_images())}"
        parts = [str(len(self.images))] if self.images else []
        for name, folder in [*self.folders.items()][:width]:
            parts.append(f"{readable(name)}: {folder.drawn(depth - 1, width)}")
        parts += ["..."] * (len(self.folders) > width)
        return f"{{{', '.join(parts)}}}"


def layout(images: Iterable[str]) -> Layout:
    """The reading of a tree whose class folders nobody named.

    A folder that holds one folder alone is looked into. Folders called as in SPLITS are splits if
    they hold class folders, and so are folders that hold the same two or more.

    Raises:
        LayoutError: There is none, or there are several.
    """
    node, strays = Folder(images=images), []
    while True:
        strays += node.images
        if any(_is_split(folder) for folder in node.folders.values()):
            return _of_splits(node, strays)
        inner = _lone_folder(node)
        if inner is None:
            break
        node = inner
    folders = list(node.folders.values())
    if not folders or all(map(_is_called_a_split, folders)):
        lone = next(node.all_images())
        raise LayoutError(f"got {lone}, which lies in no class folder")
    inner_splits = [
        inner.path
        for folder in folders
        for inner in folder.folders.values()
        if inner.name.lower() in SPLITS
    ]
    if inner_splits:
        raise LayoutError(f"got {len(folders)} folders around or beside {inner_splits[0]}")
    alike = _alike(folders)
    bare = [folder for folder in alike if not folder.images]
    if len(bare) == len(folders):
        remark = f"{_named(folders)} are splits, for they hold folders of the same names"
        return _layout({folder.name: folder for folder in folders}, strays, remark)
    if bare:
        raise LayoutError(
            f"got folders of the same names in {_named(alike)}, which may be classes or splits"
        )
    remark = f"the classes are the folders in {node.path}" if node.path else ""
    if not any(folder.images for folder in folders):
        remark = remark or f"{_named(folders)} are the classes"
        remark += "; folders in them belong to them"
    return _layout({"test": node}, strays, remark)


def _is_split(folder: Folder) -> bool:
    return folder.name.lower() in SPLITS and _has_classes(folder)


def _is_called_a_split(folder: Folder) -> bool:
    return folder.name.lower() in SPLITS or _is_unlabelled(folder)


def _is_unlabelled(folder: Folder) -> bool:
    return _UNLABELLED.fullmatch(folder.name) is not None and not _has_classes(folder)


def _has_classes(folder: Folder) -> bool:
    inner = folder.folders.get(folder.name)
    is_repeated = inner is not None and len(folder.folders) == 1 and not inner.folders
    return bool(folder.folders) and not is_repeated  # test/test/FILE has none


def _lone_folder(node: Folder) -> Folder | None:
    """The folder that a folder is wrapped around."""
    if len(node.folders) != 1:
        return None
    (inner,) = node.folders.values()
    if any(map(_is_split, inner.folders.values())):
        return inner
    if len(inner.folders) < 2 and inner.images:
        return None  # one class, perhaps with a folder in it
    if inner.images:
        fewest = min(sum(1 for _ in folder.all_images()) for folder in inner.folders.values())
        if len(inner.images) >= fewest:
            raise LayoutError(
                f"got {len(inner.images)} images beside the folders in {inner.path}, "
                "which may be a class or hold classes"
            )
    return inner if inner.folders else None


def _alike(folders: Sequence[Folder]) -> list[Folder]:
    """Those that hold two or more folders of which another one holds the same."""
    inner = [_unwrapped(folder) for folder in folders]
    counts = collections.Counter(name for folder in inner for name in folder.folders)
    return [
        folder
        for folder, own in zip(folders, inner, strict=True)
        if sum(counts[name] > 1 for name in own.folders) >= 2
    ]


def _unwrapped(folder: Folder) -> Folder:
    """Without a second folder of the same name around it: `train/train/CLASS`."""
    while not folder.images and list(folder.folders) == [folder.name]:
        inner = folder.folders[folder.name]
        if not inner.folders:
            break
        folder = inner
    return folder


def _of_splits(node: Folder, strays: Sequence[str]) -> Layout:
    """The reading of a folder in which some are called as splits and hold class folders."""
    splits = {name: folder for name, folder in node.folders.items() if _is_split(folder)}
    first = next(iter(splits))
    unlabelled = [folder for folder in node.folders.values() if _is_unlabelled(folder)]
    classes = {name: _unwrapped(folder).folders.keys() for name, folder in splits.items()}
    known = set[str]().union(*classes.values())
    for name, folder in node.folders.items():
        if folder in unlabelled or name in splits:
            continue
        classes[name] = _unwrapped(folder).folders.keys()
        if folder.images or not known & classes[name]:
            raise LayoutError(
                f"got the folder {folder.path} beside the split {first}, which may be a split or "
                "a class"
            )
        splits[name] = folder
    for name, own in classes.items():
        others = set[str]().union(*(classes[other] for other in classes if other != name))
        if len(own) == 1 and len(others) > 1 and not own & others:
            raise LayoutError(
                f"got the one folder {min(own)} in {splits[name].path}, which is no class of "
                "another split"
            )
    found = _layout(splits, strays)
    images = sorted(image for folder in unlabelled for image in folder.all_images())
    return dataclasses.replace(found, left_out={**found.left_out, "unlabelled image": images})


def _layout(roots: Mapping[str, Folder], strays: Sequence[str], remark: str = "") -> Layout:
    splits: dict[str, list[tuple[str, str]]] = {}
    beside = set(strays)
    for name, root in roots.items():
        split, inner = re.sub(r"\W", "_", name), _unwrapped(root)
        if split in splits:
            raise LayoutError(f"got two folders of the split {split}")
        beside.update(inner.images)
        splits[split] = [
            (folder.path, image)
            for folder in inner.folders.values()
            for image in folder.all_images()
        ]
    return Layout(splits, {"stray image": sorted(beside)}, remark)


def _named(folders: Sequence[Folder]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:4]) + ", ..." * (len(names) > 4)
