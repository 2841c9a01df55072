"""Flickr30k Entities: phrases of captions and the boxes of what they name, in images."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from captum_ext.data.annotations._faults import Faults, OnError, whole, within
from captum_ext.data.annotations._limits import clip_box
from captum_ext.data.annotations._text import read_lines
from captum_ext.data.records import Box

__all__ = ["EntityCaption", "EntityImage", "EntityPhrase", "read_flickr30k_entities"]

_TAG = re.compile(r"\[/EN#(\d+)((?:/[^\s/\]]+)+)\s+([^\[\]]+)\]")


@dataclass(frozen=True)
class EntityPhrase:
    """A phrase of a caption.

    Attributes:
        chain_id (str): what it names; the same thing has the same id in all captions of the image. "0" marks
            a phrase that names nothing to be seen.
        types (tuple of str): "people", "clothing", "scene", ..., one or more.
        words (str): the phrase.
        first_word (int): position of its first word among the words of the caption, from 0.
        n_words (int): its number of words.
    """

    chain_id: str
    types: tuple[str, ...]
    words: str
    first_word: int
    n_words: int


@dataclass(frozen=True)
class EntityCaption:
    """A caption without its markup, and the phrases in it.

    Attributes:
        words (str): the caption; words and punctuation are separated by one space.
        phrases (tuple of EntityPhrase): from left to right.
    """

    words: str
    phrases: tuple[EntityPhrase, ...]


@dataclass(frozen=True)
class EntityImage:
    """An image with its captions and boxes.

    Attributes:
        image_id (str): the name of the image without ``.jpg``.
        frame_size (tuple[int, int]): (H, W) in pixels.
        captions (tuple of EntityCaption): in the order of the file.
        boxes (mapping): from chain ids to boxes, each float ``(x0, y0, x1, y1)`` in pixels, half-open.
        no_box (frozenset of str): chains that are in the image and have no box.
        scene (frozenset of str): chains that are the whole scene.
    """

    image_id: str
    frame_size: tuple[int, int]
    captions: tuple[EntityCaption, ...]
    boxes: Mapping[str, tuple[Box, ...]]
    no_box: frozenset[str]
    scene: frozenset[str]


def read_flickr30k_entities(
    folder: str | os.PathLike[str],
    split: str | os.PathLike[str] | None = None,
    on_error: OnError = "raise",
) -> list[EntityImage]:
    """Read the folder with ``Sentences`` and ``Annotations``.

    ``Sentences/<id>.txt`` has a caption a line, with phrases marked ``[/EN#<chain>/<type>/... <words>]``.
    ``Annotations/<id>.xml`` has the size of the image and an ``object`` for each box, with one ``name`` for
    each chain it belongs to and either a ``bndbox`` of ``xmin``, ``ymin``, ``xmax``, ``ymax`` or the flags
    ``nobndbox`` and ``scene``. Boxes count from **1**, both ends **inclusive**: the data set's own tools
    subtract 1 from all four numbers. Here ``x0 = xmin - 1`` and ``x1 = xmax``. XML with a document type, and
    so with entities, is refused before it is parsed.

    Boxes that reach over the border are clipped to the image; an empty box, or one wholly outside, is an
    error.

    Args:
        folder (str or os.PathLike): the folder.
        split (str or os.PathLike, optional): ``train.txt``, ``val.txt`` or ``test.txt``: a file with the
            image ids, one a line. Default: None, all in ``Annotations``
        on_error (str): "raise" at the first faulty image or "skip" faulty images with one warning.
            Default: "raise"

    Returns:
        list of EntityImage: in the order of the split, else by id.

    Raises:
        AnnotationError: if a file of an image is missing or faulty, or the split has an id twice.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no ``Annotations`` or no split file.

    References:
        Plummer et al., Flickr30k Entities: collecting region-to-phrase correspondences for richer
        image-to-sentence models, ICCV 2015.
    """
    root = Path(folder)
    if not (root / "Annotations").is_dir():
        raise FileNotFoundError(f"there is no folder {root / 'Annotations'}")
    if split is None:
        ids = sorted(file.stem for file in (root / "Annotations").glob("*.xml"))
    else:
        ids = _split_ids(Path(split))
    images = []
    with Faults(root, on_error) as faults:
        for image_id in ids:
            with faults.at(f"image {image_id}"):
                images.append(_image(root, image_id))
    return images


def _split_ids(file: Path) -> list[str]:
    seen: dict[str, int] = {}
    with Faults(file, "raise") as faults:
        for line_number, line in read_lines(file):
            with faults.at(f"line {line_number}"):
                if not re.fullmatch(r"[\w-]+", line):
                    raise ValueError(f"{line!r} is not an image id")
                if line in seen:
                    raise ValueError(f"the image {line!r} is in line {seen[line]} already")
                seen[line] = line_number
    return list(seen)


def _image(root: Path, image_id: str) -> EntityImage:
    sentences = root / "Sentences" / f"{image_id}.txt"
    annotation = root / "Annotations" / f"{image_id}.xml"
    for file in (sentences, annotation):
        if not file.is_file():
            raise ValueError(f"there is no {file.relative_to(root)}")
    captions = []
    for line_number, line in read_lines(sentences):
        with within(f"{sentences.relative_to(root)}, line {line_number}"):
            captions.append(_caption(line))
    with within(str(annotation.relative_to(root))):
        return _annotated(image_id, tuple(captions), _parse(annotation))


def _caption(line: str) -> EntityCaption:
    words: list[str] = []
    phrases = []
    position = 0
    for tag in _TAG.finditer(line):
        words += _plain_words(line[position : tag.start()])
        chain, types, phrase = tag[1], tuple(tag[2].strip("/").split("/")), tag[3].split()
        phrases.append(EntityPhrase(chain, types, " ".join(phrase), len(words), len(phrase)))
        words += phrase
        position = tag.end()
    words += _plain_words(line[position:])
    return EntityCaption(" ".join(words), tuple(phrases))


def _plain_words(part: str) -> list[str]:
    if "[/EN#" in part:
        raise ValueError(f"a phrase is not marked as [/EN#chain/type words]: {part.strip()!r:.80}")
    return part.split()


def _parse(file: Path) -> ElementTree.Element:
    content = file.read_bytes()
    # Entities can expand without bound and name other files; they need a document type, which real files
    # lack. In UTF-16 the bytes below would not be found.
    if b"\x00" in content or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("has a document type or is not UTF-8, which is refused")
    try:
        return ElementTree.fromstring(content)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(f"is not XML: {error}") from error


def _annotated(image_id: str, captions: tuple[EntityCaption, ...], root: ElementTree.Element) -> EntityImage:
    frame_size = (_child(root, "size/height"), _child(root, "size/width"))
    if min(frame_size) < 1:
        raise ValueError(f"the image is empty: (H, W) = {frame_size}")
    boxes: dict[str, tuple[Box, ...]] = {}
    no_box, scene = set(), set()
    for position, entry in enumerate(root.iterfind("object"), start=1):
        chains = [(name.text or "").strip() for name in entry.iterfind("name")]
        if not chains or not all(chain.isdecimal() for chain in chains):
            raise ValueError(f"object {position}: names must be chain ids, not {chains}")
        with within(f"object {position}"):
            box = _box(entry, frame_size)
            for chain in chains:
                if box is not None:
                    boxes[chain] = (*boxes.get(chain, ()), box)
                else:
                    no_box |= {chain} if _child(entry, "nobndbox") else set()
                    scene |= {chain} if _child(entry, "scene") else set()
    return EntityImage(image_id, frame_size, captions, boxes, frozenset(no_box), frozenset(scene))


def _box(entry: ElementTree.Element, frame_size: tuple[int, int]) -> Box | None:
    if entry.find("bndbox") is None:
        return None
    x_min, y_min, x_max, y_max = (_child(entry, f"bndbox/{n}") for n in ("xmin", "ymin", "xmax", "ymax"))
    return clip_box((x_min - 1.0, y_min - 1.0, float(x_max), float(y_max)), frame_size)


def _child(entry: ElementTree.Element, path: str) -> int:
    found = entry.findtext(path)
    if found is None:
        raise ValueError(f"has no {path}")
    return whole(found.strip(), path)
