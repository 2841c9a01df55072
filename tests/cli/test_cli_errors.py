"""Every mistake gets exit code 1 and one line that says what to do."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_ext.data import write_video
from captum_ext.models import FrameCNNLSTM


def failed(ran) -> str:
    """The message, after checks of what all failures have in common."""
    assert ran.code == 1
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("captum-ext: error: ")
    return lines[0]


def test_a_missing_file(run, checkpoint):
    assert "there is no video at nowhere.mp4" in failed(
        run("explain", "nowhere.mp4", "--checkpoint", checkpoint)
    )


def test_a_sound_file(run, checkpoint, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video stream" in failed(run("explain", path, "--checkpoint", checkpoint))


def test_a_truncated_video(run, clip, checkpoint, tmp_path):
    path = tmp_path / "half.mp4"
    content = Path(clip).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "truncated" in failed(run("explain", path, "--checkpoint", checkpoint))


def test_a_text_file_named_mp4(run, checkpoint, tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    assert "not a video" in failed(run("explain", path, "--checkpoint", checkpoint))


def test_pyav_is_missing(run, clip, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "captum-ext[video]"' in failed(run("explain", clip, "--checkpoint", checkpoint))


def test_an_unknown_model_with_suggestions(run, clip):
    message = failed(run("explain", clip, "--model", "resnet19"))
    assert "resnet18" in message


def test_a_model_that_resembles_nothing(run, clip):
    message = failed(run("explain", clip, "--model", "zzzz"))
    assert "captum-ext models" in message
    assert "package.module:attr" in message


def test_a_torchvision_model_that_is_no_classifier(run, clip):
    assert "no classifier" in failed(run("explain", clip, "--model", "maskrcnn_resnet50_fpn"))


def test_unknown_weights_with_those_there_are(run, clip):
    message = failed(run("explain", clip, "--model", "r3d_18", "--weights", "IMAGENET"))
    assert "KINETICS400_V1" in message


def test_weights_for_a_model_that_is_not_torchvisions(run, clip):
    assert "torchvision" in failed(run("explain", clip, "--model", "framecnn", "--weights", "DEFAULT"))


def test_a_download_without_network(run, clip, monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    ran = run("explain", clip, "--model", "squeezenet1_1", "--weights", "DEFAULT")
    # torch.hub announces the download in a line of its own.
    message = failed(ran._replace(err="".join(f"{line}\n" for line in ran.err.splitlines()[1:])))
    assert "could not be downloaded from https://download.pytorch.org" in message
    assert str(tmp_path / "checkpoints") in message


def test_an_unknown_layer_with_suggestions(run, clip, checkpoint):
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--layer", "feature"))
    assert "did you mean features" in message


def test_a_layer_without_a_map(run, clip, checkpoint):
    assert "no layer 'classifier' with a map" in failed(
        run("explain", clip, "--checkpoint", checkpoint, "--layer", "classifier")
    )


def test_an_unknown_label_with_suggestions(run, clip, checkpoint):
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--target", "disc updown"))
    assert "did you mean: disc up-down" in message


def test_a_label_where_there_are_none(run, clip):
    message = failed(run("explain", clip, "--model", "FrameCNN", "--target", "dog"))
    assert "from 0 to 9" in message


def test_a_class_out_of_range(run, clip, checkpoint):
    assert "classes 0 to 3" in failed(run("explain", clip, "--checkpoint", checkpoint, "--target", "4"))


def test_a_step_out_of_range(run, clip, checkpoint):
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--step", "16"))
    assert "steps 0 to 15" in message


def test_a_step_of_a_model_without_steps(run, clip):
    assert "no time step" in failed(run("explain", clip, "--model", "FrameCNN", "--step", "1"))


def test_a_recurrent_method_for_a_model_without_recurrence(run, clip):
    message = failed(run("explain", clip, "--model", "FrameCNN", "--method", "ceb-r"))
    assert "recurrent layer" in message
    assert message.endswith("use ceb")


def test_an_operation_without_a_rule(run, clip, tmp_path):
    source = tmp_path / "strange.py"
    source.write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Strange(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        x = torch.linalg.solve(torch.eye(x.shape[-1]), self.conv(x))\n"
        "        return self.head(x.mean((2, 3)))\n"
    )
    message = failed(run("explain", clip, "--model", f"{source}:Strange", "--size", "16", "--frames", "2"))
    assert "no Excitation Backprop rule for torch.linalg.solve" in message


def test_a_folder_that_cannot_be_made(run, clip, checkpoint, tmp_path):
    (tmp_path / "file").touch()
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--out", tmp_path / "file" / "out"))
    assert str(tmp_path / "file") in message


def test_a_folder_that_is_read_only(run, clip, checkpoint, tmp_path, monkeypatch):
    def refuse(dir):  # noqa: A002  # the tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("captum_ext.cli.tempfile.TemporaryFile", refuse)
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--out", tmp_path))
    assert "Permission denied" in message


def test_a_disk_that_fills_up_leaves_no_description(run, clip, checkpoint, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    run("explain", clip, "--checkpoint", checkpoint, "--frames", "2", "--out", tmp_path)
    monkeypatch.setattr("captum_ext.explanation.files.np.savez_compressed", full)
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--frames", "2", "--out", tmp_path))
    assert "No space left" in message
    assert not (tmp_path / "explanation.json").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_of_another_model(run, clip, tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "other.pt")
    message = failed(run("explain", clip, "--model", "FrameCNN", "--checkpoint", tmp_path / "other.pt"))
    assert "does not fit FrameCNN: missing features.0.weight" in message
    assert "unexpected weight, bias" in message


def test_a_checkpoint_that_names_no_model(run, clip, tmp_path):
    torch.save(FrameCNNLSTM(num_classes=2).state_dict(), tmp_path / "plain.pt")
    message = failed(run("explain", clip, "--checkpoint", tmp_path / "plain.pt"))
    assert "which model" in message


def test_labels_that_are_too_few(run, clip, checkpoint, tmp_path):
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    message = failed(run("explain", clip, "--checkpoint", checkpoint, "--labels", tmp_path / "labels.txt"))
    assert "2 labels, but the model has 4 scores" in message


def test_a_clip_too_small_for_the_model(run, clip):
    message = failed(run("explain", clip, "--model", "alexnet", "--size", "8", "--frames", "2"))
    assert "(2, 3, 8, 8)" in message
    assert "change the size" in message


def test_cuda_where_there_is_none(run, clip, checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cpu" in failed(run("explain", clip, "--checkpoint", checkpoint, "--device", "cuda"))


def test_debug_shows_the_traceback_above_the_line(run, checkpoint):
    ran = run("explain", "nowhere.mp4", "--checkpoint", checkpoint, "--debug")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert ran.err.splitlines()[-1].startswith("captum-ext: error: ")


def test_ctrl_c_exits_with_130(run, clip, checkpoint, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_ext.explanation.explain", interrupt)
    ran = run("explain", clip, "--checkpoint", checkpoint)
    assert (ran.code, ran.err) == (130, "captum-ext: interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explain"],
        ["explain", "clip.mp4"],
        ["explain", "clip.mp4", "--model", "r3d_18", "--method", "gradcam"],
        ["explain", "clip.mp4", "--model", "r3d_18", "--frames", "0"],
        ["explain", "clip.mp4", "--model", "r3d_18", "--weights", "DEFAULT", "--checkpoint", "a.pt"],
    ],
)
def test_wrong_usage_exits_with_2(run, arguments, capsys):
    with pytest.raises(SystemExit) as exited:
        run(*arguments)
    assert exited.value.code == 2
    assert "usage: captum-ext" in capsys.readouterr().err


def test_usage_errors_and_help_do_not_wait_for_torch():
    script = (
        "import sys\n"
        "from captum_ext.cli import main\n"
        "for arguments in (['explain', '--help'], ['explain', 'a.mp4'], ['--version']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_the_installed_command_runs(clip, checkpoint, tmp_path):
    command = Path(sys.executable).with_name("captum-ext")
    if not command.exists():
        pytest.skip("the captum-ext script is not installed beside this Python")
    arguments = ["explain", clip, "--checkpoint", checkpoint, "--frames", "3", "--out", str(tmp_path)]
    ran = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "explanation.json").is_file()
    assert "cEB-R" in ran.stdout


def test_a_video_of_odd_size_and_few_frames(run, checkpoint, tmp_path):
    path = tmp_path / "odd.mp4"
    write_video(path, torch.randint(256, (2, 3, 41, 57), dtype=torch.uint8), fps=5)
    assert run("explain", path, "--checkpoint", checkpoint, "--frames", "4", "--out", tmp_path).code == 0
