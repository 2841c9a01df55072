"""Small folders of the form that data sets have, with videos and images that we draw."""

import pickle

import numpy as np
import torch
from PIL import Image

from captum_ext.data import IMAGENET, ClipTransform, SyntheticActions, write_video
from captum_ext.models import FrameCNNLSTM, save_checkpoint

CLASSES = ("Basketball", "BasketballDunk")  # the first two of UCF101-24


def ucf101_24(root):
    """Three training and two test videos of two classes, with one box per frame on 320 x 240."""
    actions = SyntheticActions(
        shapes=("disc", "square"), motions=("circle",), size=(48, 64), n_frames=20, fps=25.0
    )
    annotations, test = {}, []
    for index in range(10):
        rendered = actions.render(index)
        label = CLASSES[rendered.label_index]
        name = f"{label}/v_{label}_g01_c{index:02d}"
        boxes = np.array(
            [[x0 * 5 + 1, y0 * 5 + 1, (x1 - x0) * 5, (y1 - y0) * 5] for x0, y0, x1, y1 in rendered.boxes]
        )
        tube = {"label": rendered.label_index, "sf": 0, "ef": 20, "boxes": boxes.astype(np.uint16)}
        annotations[np.str_(name)] = {"annotations": [tube], "numf": 20, "label": rendered.label_index}
        (root / "UCF-101" / label).mkdir(parents=True, exist_ok=True)
        write_video(root / "UCF-101" / f"{name}.mp4", rendered.frames, 25.0)
        if index >= 6:
            test.append(name)
    (root / "pyannot.pkl").write_bytes(pickle.dumps(annotations, protocol=2))
    (root / "testlist01.txt").write_text("\n".join(test) + "\n")
    return root


def thumos14(root):
    """Two test videos of 80 frames with three dives, and a model that knows the two classes."""
    (root / "annotation").mkdir()
    (root / "annotation" / "detclasslist.txt").write_text("22 CliffDiving\n26 Diving\n")
    lines = {
        "Diving": "video_test_0000004  0.5 2.5\nvideo_test_0000006  1.0 3.0\nvideo_test_0000006  4.0 5.5\n",
        "CliffDiving": "video_test_0000004  0.5 2.5\n",
    }
    (root / "annotation" / "Ambiguous_test.txt").write_text("video_test_0000006  6.0 7.0\n")
    for name, text in lines.items():
        (root / "annotation" / f"{name}_test.txt").write_text(text)
    generator = torch.Generator().manual_seed(0)
    for number in (4, 6):
        frames = torch.randint(0, 255, (80, 3, 48, 64), generator=generator, dtype=torch.uint8)
        write_video(root / f"video_test_{number:07d}.mp4", frames, 10.0)
    torch.manual_seed(0)
    built_with = {"num_classes": 2, "output": "steps"}
    save_checkpoint(
        root / "model.pt",
        FrameCNNLSTM(**built_with),
        arguments=built_with,
        labels=["CliffDiving", "Diving"],
        transform=ClipTransform(64, *IMAGENET),
    )
    return root


def flickr30k_entities(root):
    """Three images with a caption of two phrases each."""
    for folder in ("Sentences", "Annotations", "flickr30k-images"):
        (root / folder).mkdir()
    for number, (noun, colour) in enumerate([("man", "red"), ("dog", "blue"), ("dog", "red")]):
        name = f"100{number}"
        text = f"A [/EN#1/people {noun}] beside [/EN#2/other a {colour} thing] ."
        (root / "Sentences" / f"{name}.txt").write_text(text + "\n")
        objects = "".join(
            f"<object><name>{chain}</name><bndbox><xmin>{x}</xmin><ymin>10</ymin><xmax>{x + 29}</xmax>"
            "<ymax>50</ymax></bndbox></object>"
            for chain, x in ((1, 5), (2, 40))
        )
        size = "<size><width>80</width><height>60</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        pixels = np.full((60, 80, 3), 60 + 50 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(root / "flickr30k-images" / f"{name}.jpg")
    (root / "train.txt").write_text("1000\n1001\n")
    (root / "test.txt").write_text("1002\n")
    return root
