"""Flickr30k Entities: phrases by word, boxes from 1 with both ends inclusive, no XML tricks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.data.annotations import AnnotationError, EntityPhrase, read_flickr30k_entities
from captum_ext.data.annotations.flickr30k_entities import _caption

CAPTION = (
    "[/EN#1/people Two young guys] with [/EN#2/bodyparts shaggy hair] look at [/EN#3/bodyparts their hands] "
    "while hanging out in [/EN#8/scene the yard] ."
)


def entry(names, box=None, scene=0, nobndbox=0):
    named = "".join(f"<name>{name}</name>" for name in names)
    if box is None:
        return f"<object>{named}<scene>{scene}</scene><nobndbox>{nobndbox}</nobndbox></object>"
    corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object>{named}<bndbox>{corners}</bndbox></object>"


def xml(*objects, head="", width=333, height=500):
    return (
        f"{head}<annotation><filename>1000092795.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{''.join(objects)}</annotation>"
    )


OBJECTS = (
    entry([1], (159, 125, 217, 300)),
    entry([1, 2], (1, 1, 333, 500)),
    entry([3], nobndbox=1),
    entry([8], scene=1, nobndbox=1),
)


def write(folder, annotation, captions=CAPTION + "\n", image_id="1000092795"):
    for name, suffix, text in (("Annotations", "xml", annotation), ("Sentences", "txt", captions)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"{image_id}.{suffix}").write_bytes(text.encode())
    return folder


def test_convention_boxes_count_from_1_and_include_both_ends(tmp_path):
    (image,) = read_flickr30k_entities(write(tmp_path, xml(*OBJECTS)))
    assert dict(image.boxes) == {
        "1": ((158.0, 124.0, 217.0, 300.0), (0.0, 0.0, 333.0, 500.0)),
        "2": ((0.0, 0.0, 333.0, 500.0),),
    }
    assert image.frame_size == (500, 333)  # (H, W)
    assert (image.no_box, image.scene) == ({"3", "8"}, {"8"})


def test_convention_a_box_of_one_pixel_is_one_pixel_wide(tmp_path):
    (image,) = read_flickr30k_entities(write(tmp_path, xml(entry([1], (5, 7, 5, 7)))))
    assert image.boxes["1"] == ((4.0, 6.0, 5.0, 7.0),)


def test_captions_lose_their_markup_and_phrases_keep_their_place(tmp_path):
    lines = f"\ufeff{CAPTION}\r\n\r\n[/EN#0/notvisual Nothing/here]\r\nNo phrase .\r\n"
    (image,) = read_flickr30k_entities(write(tmp_path, xml(*OBJECTS), lines))
    first, second, third = image.captions
    assert (
        first.words == "Two young guys with shaggy hair look at their hands while hanging out in the yard ."
    )
    assert first.phrases == (
        EntityPhrase("1", ("people",), "Two young guys", 0, 3),
        EntityPhrase("2", ("bodyparts",), "shaggy hair", 4, 2),
        EntityPhrase("3", ("bodyparts",), "their hands", 8, 2),
        EntityPhrase("8", ("scene",), "the yard", 14, 2),
    )
    assert (second.words, second.phrases[0].chain_id) == ("Nothing/here", "0")
    assert third.phrases == ()


words = st.lists(st.text("abc'-/.,", min_size=1, max_size=4), min_size=1, max_size=3)
pieces = st.lists(
    st.tuples(st.booleans(), words, st.integers(0, 99), st.sampled_from(["people", "a/b"])), max_size=5
)


@given(pieces)
def test_every_phrase_is_found_at_its_words(parts):
    line = " ".join(
        f"[/EN#{chain}/{types} {' '.join(said)}]" if marked else " ".join(said)
        for marked, said, chain, types in parts
    )
    caption = _caption(line)
    spoken = [word for _, said, _, _ in parts for word in said]
    assert caption.words.split() == spoken
    assert len(caption.phrases) == sum(marked for marked, *_ in parts)
    for phrase in caption.phrases:
        assert " ".join(spoken[phrase.first_word : phrase.first_word + phrase.n_words]) == phrase.words


def test_a_split_chooses_images_in_its_order(tmp_path):
    for image_id in ("10", "20", "30"):
        write(tmp_path, xml(*OBJECTS), image_id=image_id)
    assert [image.image_id for image in read_flickr30k_entities(tmp_path)] == ["10", "20", "30"]
    split = tmp_path / "test.txt"
    split.write_text("30\r\n10\r\n")
    assert [image.image_id for image in read_flickr30k_entities(tmp_path, split)] == ["30", "10"]
    split.write_text("30\n10\n30\n")
    with pytest.raises(AnnotationError, match=r"test\.txt, line 3: the image '30' is in line 1"):
        read_flickr30k_entities(tmp_path, split)
    split.write_text("../30\n")
    with pytest.raises(AnnotationError, match=r"line 1: '\.\./30' is not an image id"):
        read_flickr30k_entities(tmp_path, split)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE, "<!DOCTYPE annotation>"])
def test_xml_with_a_document_type_is_refused(head, tmp_path):
    write(tmp_path, xml(*OBJECTS, head=head))
    with pytest.raises(AnnotationError, match=r"Annotations/1000092795\.xml: has a document type"):
        read_flickr30k_entities(tmp_path)
    path = tmp_path / "Annotations" / "1000092795.xml"
    path.write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + xml(head=head)).encode("utf-16"))
    with pytest.raises(AnnotationError, match="not UTF-8, which is refused"):
        read_flickr30k_entities(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (xml(entry([1], (10, 5, 9, 8))), "object 1: box .* is empty or reversed"),
        (xml(OBJECTS[0], entry([1], (334, 1, 340, 8))), "object 2: box .* outside the frame"),
        (xml(entry(["a"], (1, 1, 2, 2))), "object 1: names must be chain ids, not"),
        (xml(entry([], (1, 1, 2, 2))), "object 1: names must be chain ids"),
        (xml(entry([1], ("x", 1, 2, 2))), "object 1: bndbox/xmin must be a number, not 'x'"),
        (xml("<object><name>1</name><bndbox></bndbox></object>"), "object 1: has no bndbox/xmin"),
        (xml("<object><name>1</name></object>"), "object 1: has no nobndbox"),
        (xml(height=0), "the image is empty"),
        ("<annotation></annotation>", "has no size/height"),
        ("<annotation>", "is not XML"),
        ("", "is not XML"),
    ],
)
def test_a_faulty_annotation_is_an_error_with_file_place_and_reason(annotation, reason, tmp_path):
    write(tmp_path, annotation)
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_flickr30k_entities(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}, image 1000092795: Annotations/1000092795.xml: ")


def test_boxes_over_the_border_are_clipped(tmp_path):
    (image,) = read_flickr30k_entities(write(tmp_path, xml(entry([1], (0, 490, 20, 510)))))
    assert image.boxes["1"] == ((0.0, 489.0, 20.0, 500.0),)


def test_a_broken_mark_names_file_and_line(tmp_path):
    write(tmp_path, xml(*OBJECTS), "fine .\n[/EN#1/people Two guys\n")
    with pytest.raises(AnnotationError, match=r"Sentences/1000092795\.txt, line 2: a phrase is not marked"):
        read_flickr30k_entities(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*Annotations"):
        read_flickr30k_entities(tmp_path)
    write(tmp_path, xml(*OBJECTS))
    (tmp_path / "Sentences" / "1000092795.txt").unlink()
    with pytest.raises(AnnotationError, match=r"there is no Sentences/1000092795\.txt"):
        read_flickr30k_entities(tmp_path)
    with pytest.warns(UserWarning, match="1 faulty"):
        assert read_flickr30k_entities(tmp_path, on_error="skip") == []
