"""STEP's loss against a loop over all positions of the ellipsoid."""

import math

import pytest
import torch

from captum_ext.perturbation.shape_loss import ShapeLoss, ellipsoid, n_positions

SIZE = (6, 10, 13)  # T, H, W
KERNEL = (3, 5, 4)


def slow_ellipsoid(shape):
    """Equation 8; a side of 1 spans nothing."""
    kernel = torch.zeros(shape, dtype=torch.float64)
    for t in range(shape[0]):
        for i in range(shape[1]):
            for j in range(shape[2]):
                distance = 0.0
                for place, side in zip((t, i, j), shape, strict=True):
                    distance += (2 * place / (side - 1) - 1) ** 2 if side > 1 else 0
                kernel[t, i, j] = distance <= 1 + 1e-9
    return kernel


def begins(n, k, s, to_the_edges):
    """Where the kernel begins along one axis."""
    if not to_the_edges:
        return range(0, n - k + 1, s)
    count = math.ceil(n / s)
    first = -(((count - 1) * s + k - n) // 2)
    return range(first, first + count * s, s)


def slow_means(mask, kernel, stride, to_the_edges):
    """The mean of the mask under the ellipsoid at each position, over the voxels inside of the clip."""
    means = []
    filled = kernel.nonzero().tolist()
    axes = zip(mask.shape, kernel.shape, stride, strict=True)
    times, rows, columns = (begins(n, k, s, to_the_edges) for n, k, s in axes)
    for t in times:
        for y in rows:
            for x in columns:
                places = [(t + u, y + i, x + j) for u, i, j in filled]
                inside = [p for p in places if all(0 <= a < n for a, n in zip(p, mask.shape, strict=True))]
                means.append(sum(mask[place] for place in inside) / len(inside))
    return torch.stack(means)


def slow_loss(mask, count, to_the_edges, balanced, kernel=None, stride=(1, 4, 4)):
    kernel = slow_ellipsoid(KERNEL) if kernel is None else kernel
    means = slow_means(mask, kernel, stride, to_the_edges).sort(descending=True).values
    filled, empty = (means[:count] - 1) ** 2, means[count:] ** 2
    if balanced:
        return filled.mean() + empty.mean()
    return torch.cat([filled, empty]).mean()


def masks_of(groups=2):
    return torch.rand(groups, *SIZE, dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "ones"),
    [
        ((7, 11, 11), 311),
        ((5, 11, 11), 205),
        ((8, 11, 11), 352),
        ((11, 11, 11), 515),
        ((14, 11, 11), 662),
        ((1, 1, 1), 1),
        ((3, 1, 5), 7),
    ],
)
def test_the_ellipsoid_is_equation_8(shape, ones):
    kernel = ellipsoid(shape)
    assert kernel.dtype == torch.float64
    assert torch.equal(kernel, slow_ellipsoid(shape))
    assert kernel.sum() == ones


@pytest.mark.parametrize("shape", [(7, 11, 11), (8, 11, 9), (3, 5, 4), (5, 6, 7)])
def test_the_ellipsoid_is_symmetric(shape):
    kernel = ellipsoid(shape)
    for axis in range(3):
        assert torch.equal(kernel, kernel.flip(axis))


@pytest.mark.parametrize("stride", [(1, 5, 4), (1, 4, 4), (2, 3, 1), (4, 2, 7)])
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("to_the_edges", [True, False])
def test_the_loss_is_that_of_all_positions_one_by_one(to_the_edges, balanced, stride):
    masks = masks_of().requires_grad_()
    counts = [3, 5]
    fast = ShapeLoss(SIZE, KERNEL, stride, counts, to_the_edges, balanced, masks)(masks)
    slow = torch.stack(
        [
            slow_loss(mask, count, to_the_edges, balanced, stride=stride)
            for mask, count in zip(masks, counts, strict=True)
        ]
    )
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-7)
    upstream = torch.tensor([1.0, -0.7], dtype=torch.float64)
    gradients = [torch.autograd.grad(loss, masks, upstream)[0] for loss in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-7)
    single = ShapeLoss(SIZE, KERNEL, stride, counts, to_the_edges, balanced, masks.float())(masks.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), slow, rtol=0, atol=1e-6)


@pytest.mark.parametrize("stride", [(1, 5, 4), (2, 3, 1), (4, 2, 7)])
@pytest.mark.parametrize("to_the_edges", [True, False])
def test_positions_are_counted_without_visiting_them(to_the_edges, stride):
    axes = zip(SIZE, KERNEL, stride, strict=True)
    expected = math.prod(len(begins(n, k, s, to_the_edges)) for n, k, s in axes)
    assert n_positions(SIZE, KERNEL, stride, to_the_edges) == expected


def test_the_published_kernel_has_1440_positions():
    assert n_positions((16, 134, 134), (7, 11, 11), (1, 11, 11), False) == 1440
    assert n_positions((16, 134, 134), (14, 11, 11), (1, 11, 11), False) == 432


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("to_the_edges", [True, False])
def test_gradients_pass_gradcheck(to_the_edges, balanced):
    size = (5, 4, 6)
    masks = torch.rand(2, *size, dtype=torch.float64, requires_grad=True)
    loss = ShapeLoss(size, (3, 3, 4), (1, 1, 2), [1, 3], to_the_edges, balanced, masks)
    assert torch.autograd.gradcheck(loss, masks)


WRONG = {
    "another stride": {"stride": (1, 4, 3)},
    "a box": {"kernel": torch.ones(KERNEL, dtype=torch.float64)},
    "another ellipsoid": {"kernel": slow_ellipsoid((3, 5, 5))},
    "another count": {"count": 4},
    "the other mean": {"balanced": False},
    "the other edges": {"to_the_edges": False},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_the_comparison_rejects(wrong):
    masks = masks_of(1)
    right = {"count": 3, "to_the_edges": True, "balanced": True}
    fast = ShapeLoss(SIZE, KERNEL, (1, 4, 4), [3], True, True, masks)(masks)
    assert abs(fast - slow_loss(masks[0], **right)) < 1e-7
    assert abs(fast - slow_loss(masks[0], **(right | wrong))) > 1e-4


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("to_the_edges", [True, False])
def test_equal_positions_cost_what_a_sort_of_them_costs(to_the_edges, balanced):
    masks = torch.full((1, *SIZE), 0.3, dtype=torch.float64)
    loss = ShapeLoss(SIZE, KERNEL, (1, 4, 4), [3], to_the_edges, balanced, masks)(masks)
    assert loss.item() == pytest.approx(slow_loss(masks[0], 3, to_the_edges, balanced).item(), abs=1e-6)


def test_positions_reach_every_frame_only_where_they_go_to_the_edges():
    reached = {}
    for to_the_edges in (True, False):
        masks = torch.rand(1, 9, 34, 45, dtype=torch.float64, requires_grad=True)
        loss = ShapeLoss((9, 34, 45), (7, 11, 11), (1, 5, 5), [2], to_the_edges, True, masks)
        (gradient,) = torch.autograd.grad(loss(masks).sum(), masks)
        reached[to_the_edges] = [(frame != 0).double().mean().item() for frame in gradient[0]]
    # An ellipsoid's first plane is a single voxel.
    assert min(reached[True]) > 0.8
    assert reached[False][0] < 0.03
    assert reached[False][-1] < 0.03


def test_a_clip_shorter_than_the_kernel_is_covered_to_the_edges():
    masks = torch.rand(1, 4, 10, 13, dtype=torch.float64)
    loss = ShapeLoss((4, 10, 13), (7, 5, 3), (1, 4, 4), [3], True, True, masks)(masks)
    slow = slow_loss(masks[0], 3, True, True, kernel=slow_ellipsoid((7, 5, 3)))
    assert loss.item() == pytest.approx(slow.item(), abs=1e-7)


@pytest.mark.parametrize("kernel", [(7, 5, 4), (3, 11, 4), (3, 5, 14)])
def test_a_kernel_larger_than_the_clip_is_refused_where_only_whole_ellipsoids_count(kernel):
    sides = " x ".join(map(str, kernel))
    with pytest.raises(ValueError, match=f"kernel of {sides} does not fit into masks of 6 x 10 x 13"):
        ShapeLoss(SIZE, kernel, (1, 4, 4), [1], False, True, masks_of())


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("to_the_edges", [True, False])
def test_ellipsoids_alike_within_the_tolerance_share_what_is_left(to_the_edges, balanced):
    masks = masks_of(1).requires_grad_()
    means = slow_means(masks[0], slow_ellipsoid(KERNEL), (1, 4, 4), to_the_edges)
    last = means.sort(descending=True).values[4]
    larger, alike = means > last + 0.02, (means - last).abs() <= 0.02
    assert 1 <= larger.sum() < 5 < larger.sum() + alike.sum()
    share = torch.where(alike, (5 - larger.sum()) / alike.sum(), larger.double())
    filled, empty = share * (means - 1) ** 2, (1 - share) * means**2
    slow = filled.sum() / 5 + empty.sum() / (len(means) - 5) if balanced else (filled + empty).mean()
    found = ShapeLoss(SIZE, KERNEL, (1, 4, 4), [5], to_the_edges, balanced, masks, 0.02)(masks)[0]
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-7)
    gradients = [torch.autograd.grad(loss, masks, retain_graph=True)[0] for loss in (found, slow)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-7)
    exact = ShapeLoss(SIZE, KERNEL, (1, 4, 4), [5], to_the_edges, balanced, masks)(masks)[0]
    assert abs(found - exact) > 1e-5  # the comparison tells them apart


def test_ellipsoids_alike_but_for_rounding_have_the_same_gradients_in_every_precision():
    masks = 0.3 + 1e-8 * masks_of(1)  # all 0.3 to float32

    def gradient(dtype, tolerance):
        own = masks.to(dtype).requires_grad_()
        loss = ShapeLoss(SIZE, KERNEL, (1, 4, 4), [5], True, True, own, tolerance)(own)
        return torch.autograd.grad(loss.sum(), own)[0].double()

    scale = gradient(torch.float64, 1e-3).abs().max()
    difference = gradient(torch.float32, 1e-3) - gradient(torch.float64, 1e-3)
    assert difference.abs().max() < 1e-4 * scale
    difference = gradient(torch.float32, 0.0) - gradient(torch.float64, 0.0)
    assert difference.abs().max() > 0.5 * scale


@pytest.mark.parametrize("balanced", [True, False])
def test_the_loss_stays_on_the_device_of_the_masks(balanced):
    masks = torch.empty(2, *SIZE, device="meta")  # a device that every machine has, and that is not the CPU
    assert ShapeLoss(SIZE, KERNEL, (1, 4, 4), [3, 5], True, balanced, masks)(masks).device.type == "meta"


@pytest.mark.parametrize("kernel", [(2, 2, 2), (1, 2, 2), (2, 4, 4)])
def test_a_kernel_so_small_that_no_voxel_lies_in_it_is_refused(kernel):
    assert slow_ellipsoid(kernel).sum() == 0
    with pytest.raises(ValueError, match="kernel"):
        ShapeLoss(SIZE, kernel, (1, 1, 1), [3], True, True, masks_of())
