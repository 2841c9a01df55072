"""What the scaling benchmark times."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import scaling
from benchmarks.suite.batches import Batch
from benchmarks.suite.errors import RunError


@pytest.mark.parametrize(("workers", "rate"), [(0, 4.0), (1, 4.0), (2, 4.0)])
def test_the_start_of_the_workers_is_no_part_of_the_rate_of_decoding(monkeypatch, workers, rate):
    clock = [0.0]
    monkeypatch.setattr(scaling, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def loader():
        for number in range(6):
            clock[0] += 20.0 if number < max(workers, 1) else 0.5
            yield Batch(number, ["a", "b"], torch.empty(0), torch.empty(0), torch.empty(0), [], {}, [])

    assert scaling._delivered_per_second(loader(), workers) == pytest.approx(rate)


def test_too_few_clips_for_the_workers_are_refused(monkeypatch, tmp_path):
    clips = [SimpleNamespace(video_id=str(number)) for number in range(8)]
    monkeypatch.setattr(scaling, "load_manifest", lambda path: clips)
    monkeypatch.setattr(scaling, "generate_actions", lambda *arguments, **options: None)
    with pytest.raises(RunError, match="--clips 8 are too few for 2 workers: give 12"):
        scaling._decoded_per_second(tmp_path, 8, 2)
