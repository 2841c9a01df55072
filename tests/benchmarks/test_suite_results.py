"""Results on disk: torn, doubled, damaged and foreign lines, and disks that take no more."""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.suite.results import Record, ResultsError, ResultsFolder

SETTINGS = {"benchmark": "toy", "seed": 3, "data_root": None}
NAN = math.nan


def record(n: int, cell: str = "EB") -> Record:
    return Record(f"clip_{n}", cell, {"hits": n / 3, "none": NAN, "row": [float(n), NAN, 0.1]}, seconds=0.25)


def same(a: Record, b: Record) -> bool:
    """Equal, also where both are NaN."""
    return repr(a) == repr(b)


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    found = ResultsFolder(tmp_path / "run")
    found.begin(SETTINGS, resume=False)
    return found


def test_records_come_back_in_a_fixed_order_whoever_wrote_them(folder):
    folder.append(1, [record(2), record(0)])
    folder.append(0, [record(1, "cEB"), record(1)])
    expected = [record(0), record(1), record(1, "cEB"), record(2)]
    found = folder.read()
    assert len(found) == 4
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_nan_is_null_on_disk_and_nan_again_when_read(folder):
    folder.append(0, [record(1)])
    (line,) = (folder.folder / "results-0000.jsonl").read_text().splitlines()
    assert json.loads(line)["values"] == {"hits": 1 / 3, "none": None, "row": [1.0, None, 0.1]}
    (found,) = folder.read()
    assert math.isnan(found.values["none"])
    assert math.isnan(found.values["row"][1])


numbers = st.floats(allow_infinity=False)


values = st.dictionaries(st.text(max_size=5), numbers | st.lists(numbers, max_size=4), max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first draw of text is slow
@given(st.text(), st.text(), values, st.floats(0, 1e9))
def test_every_record_comes_back_as_it_was(clip, cell, values, seconds):
    written = Record(clip, cell, values, seconds)
    line = written.line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert same(Record.of(json.loads(line)), written)


@pytest.mark.parametrize("value", [math.inf, -math.inf, [0.0, math.inf]])
def test_an_infinite_value_is_refused_by_name(folder, value):
    with pytest.raises(ResultsError, match=r"EB of clip 'a' has an infinite value: .*hits"):
        folder.append(0, [record(0), Record("a", "EB", {"hits": value})])
    assert folder.read() == []


def test_a_file_cut_at_every_byte_of_its_last_two_lines_loses_these_lines_only_and_goes_on(folder):
    records = [record(n) for n in range(4)]
    folder.append(0, records)
    file = folder.folder / "results-0000.jsonl"
    whole = file.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[1], len(whole) + 1):
        file.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert [r.clip for r in folder.read()] == [f"clip_{n}" for n in range(kept)]
        folder.mend(0)
        folder.append(0, records[kept:])
        assert file.read_bytes() == whole


def test_without_mending_a_torn_line_spoils_the_next_one_and_is_found(folder):
    """Negative control: this is what mend prevents."""
    folder.append(0, [record(0), record(1)])
    file = folder.folder / "results-0000.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    folder.append(0, [record(1)])
    with pytest.raises(ResultsError, match=r"results-0000.jsonl, line 2 is no result"):
        folder.read()


def test_a_torn_line_of_another_process_is_left_alone_and_not_read(folder):
    folder.append(0, [record(0)])
    folder.append(1, [record(1)])
    other = folder.folder / "results-0001.jsonl"
    torn = other.read_bytes() + record(2).line()[:-1]
    other.write_bytes(torn)
    folder.mend(0)
    assert other.read_bytes() == torn
    assert [r.clip for r in folder.read()] == ["clip_0", "clip_1"]


def test_a_key_that_was_written_twice_counts_once(folder):
    first, again = record(1), Record("clip_1", "EB", {"hits": 99.0})
    folder.append(0, [first, first])
    folder.append(1, [again, record(2)])
    found = folder.read()
    assert [r.key for r in found] == [("clip_1", "EB"), ("clip_2", "EB")]
    assert same(found[0], first)


@pytest.mark.parametrize(
    "line",
    [
        b'{"clip": "a", "cell": "EB", "val\n',
        b'{"clip": "a"}\n',
        b"[1, 2]\n",
        b"\0\0\0\0\n",
        b"\xff\n",
        b"\n",
        b'{"clip": "a", "cell": "EB", "values": {"hits": "many"}, "seconds": 0}\n',
        b'{"clip": "a", "cell": "EB", "values": [1], "seconds": 0}\n',
    ],
)
def test_a_finished_line_that_is_no_result_is_named_with_file_and_number(folder, line):
    folder.append(0, [record(0)])
    folder.append(2, [record(1), record(2)])
    with (folder.folder / "results-0002.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(ResultsError, match=r"results-0002\.jsonl, line 3 is no result"):
        folder.read()


def test_a_damaged_line_of_skipped_clips_is_named_too(folder):
    folder.skip(0, "a", "it is broken")
    folder.skip(1, "b", "so is this")
    assert folder.skipped() == {"a": "it is broken", "b": "so is this"}
    with (folder.folder / "skipped-0000.jsonl").open("ab") as file:
        file.write(b'{"clip": "c"}\n')
    with pytest.raises(ResultsError, match=r"skipped-0000\.jsonl, line 2 is no result"):
        folder.skipped()


def test_earlier_results_are_refused_without_resume(folder):
    folder.append(0, [record(0)])
    with pytest.raises(ResultsError, match="give --resume to go on with it, or another --output"):
        ResultsFolder(folder.folder).begin(SETTINGS, resume=False)
    ResultsFolder(folder.folder).begin(SETTINGS, resume=True)
    assert [r.clip for r in folder.read()] == ["clip_0"]


def test_a_run_that_ended_before_its_first_result_can_begin_again(folder):
    ResultsFolder(folder.folder).begin(SETTINGS, resume=False)
    with pytest.raises(ResultsError, match=r"seed: 3, now 4.*another --output, or remove .*run\.json"):
        ResultsFolder(folder.folder).begin(SETTINGS | {"seed": 4}, resume=False)


def test_other_settings_are_refused_by_name(folder):
    changed = SETTINGS | {"seed": 4, "epochs": 2}
    del changed["data_root"]
    with pytest.raises(ResultsError) as caught:
        folder.begin(changed, resume=True)
    assert "(epochs: None, now 2, seed: 3, now 4)" in str(caught.value)
    assert json.loads((folder.folder / "run.json").read_text()) == SETTINGS


def test_settings_are_compared_as_they_are_on_disk(tmp_path):
    folder = ResultsFolder(tmp_path)
    folder.begin({"lengths": (11, 41)}, resume=False)
    folder.begin({"lengths": (11, 41)}, resume=True)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '{"seed"'])
def test_a_damaged_description_of_the_run_is_refused(folder, content):
    (folder.folder / "run.json").write_text(content)
    with pytest.raises(ResultsError, match="cannot hold results"):
        folder.begin(SETTINGS, resume=True)


def test_results_without_a_description_are_refused(folder):
    folder.append(0, [record(0)])
    (folder.folder / "run.json").unlink()
    for resume in (False, True):
        with pytest.raises(ResultsError, match=r"no run\.json that says of which run"):
            folder.begin(SETTINGS, resume=resume)


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ResultsError, match="cannot hold results"):
            ResultsFolder(output).begin(SETTINGS, resume=False)


def test_a_results_file_that_cannot_be_opened_is_an_error_that_says_what_to_do(folder):
    (folder.folder / "results-0000.jsonl").mkdir()  # root may write to read-only files, but not to folders
    with pytest.raises(ResultsError, match=r"results-0000.jsonl.*with --resume"):
        folder.append(0, [record(0)])
    with pytest.raises(ResultsError, match="cannot be continued"):
        folder.mend(0)


def test_a_device_that_is_full_is_an_error_that_says_what_to_do(folder):
    (folder.folder / "results-0000.jsonl").symlink_to("/dev/full")
    with pytest.raises(ResultsError, match=r"No space left on device.*Earlier results are intact"):
        folder.append(0, [record(0)])


def _append_on_a_full_disk(folder: ResultsFolder, room: int, answer: multiprocessing.SimpleQueue) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        folder.append(0, [record(2), record(3)])
    except ResultsError as error:
        answer.put(str(error))
    else:
        answer.put(None)


@pytest.mark.parametrize("short", [0, 1, 60, 10**6])
def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_the_earlier_lines_whole(folder, short):
    folder.append(0, [record(0), record(1)])
    file = folder.folder / "results-0000.jsonl"
    before = file.read_bytes()
    needed = len(before + record(2).line() + record(3).line())
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    room = max(needed - short, len(before))
    process = context.Process(target=_append_on_a_full_disk, args=(folder, room, answer))
    process.start()
    message = answer.get()
    process.join()
    if short == 0:
        assert message is None
        assert len(folder.read()) == 4
        return
    assert "Earlier results are intact" in message
    assert "--resume" in message
    assert file.read_bytes() == before
    folder.append(0, [record(2), record(3)])
    assert [r.clip for r in folder.read()] == [f"clip_{n}" for n in range(4)]


def _append_many(folder: ResultsFolder, first: int) -> None:
    for n in range(first, first + 200):
        folder.append(0, [record(n), record(n, "cEB")])


def test_two_processes_that_write_to_one_file_tear_no_lines(folder):
    """A process that a kill left behind may still write while the resumed run does."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(folder, first)) for first in (0, 150)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(folder.read()) == 700
    assert (folder.folder / "results-0000.jsonl").stat().st_size == sum(
        2 * len(record(n).line()) + 1 for first in (0, 150) for n in range(first, first + 200)
    )
