import pytest
import torch

from captum_ext.grounding import frame_scores

N, C, T, H, W = 2, 3, 7, 4, 5


@pytest.fixture
def maps():
    return torch.randn(N, C, T, H, W, generator=torch.Generator().manual_seed(0))


def test_score_is_the_signed_sum_over_channels_and_space(maps):
    scores = frame_scores(maps)
    assert scores.shape == (N, T)
    for n in range(N):
        for t in range(T):
            expected = sum(maps[n, c, t, y, x].item() for c in range(C) for y in range(H) for x in range(W))
            assert scores[n, t].item() == pytest.approx(expected, abs=1e-5)
    assert (scores < 0).any()


def test_convention_the_layout_says_where_time_is(maps):
    torch.testing.assert_close(frame_scores(maps.transpose(1, 2), layout="NTCHW"), frame_scores(maps))
    assert frame_scores(maps, layout="NTCHW").shape == (N, C)  # the wrong layout is the wrong answer


def test_the_scores_keep_the_mass_of_the_map(maps):
    torch.testing.assert_close(frame_scores(maps).sum(dim=1), maps.sum(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_float32(dtype):
    maps = torch.full((1, 1, 2, 64, 65), 1.0, dtype=dtype)
    scores = frame_scores(maps)
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[4160.0, 4160.0]]


def test_float64_maps_give_float64_scores(maps):
    assert frame_scores(maps.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("bad", "layout", "error", "message"),
    [
        (torch.zeros(2, 3, 4, 5), "NCTHW", ValueError, "5 axes NCTHW"),
        (torch.zeros(0, 3, 4, 5, 6), "NCTHW", ValueError, "axis N"),
        (torch.zeros(2, 3, 0, 5, 6), "NCTHW", ValueError, "axis T"),
        (torch.zeros(2, 3, 0, 5, 6), "NTCHW", ValueError, "axis C"),
        (torch.full((1, 1, 2, 3, 4), float("nan")), "NCTHW", ValueError, "finite"),
        (torch.full((1, 1, 2, 3, 4), float("inf")), "NCTHW", ValueError, "finite"),
        (torch.zeros(1, 1, 2, 3, 4), "TCHW", ValueError, "'TCHW'"),
        (torch.zeros(1, 1, 2, 3, 4, dtype=torch.int64), "NCTHW", TypeError, "int64"),
        ([[1.0]], "NCTHW", TypeError, "list"),
    ],
)
def test_bad_maps_are_refused_by_name(bad, layout, error, message):
    with pytest.raises(error, match=message):
        frame_scores(bad, layout=layout)
