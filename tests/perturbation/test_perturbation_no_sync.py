"""On a GPU nothing in the loop waits for the device."""

import pytest
import torch
from torch import nn

from captum_ext.perturbation import MaskSpace, Perturbation, StepSettings, blur_pyramid, optimize_masks

T, H, W = 7, 18, 23


def minimise(device, smoothness, around):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).to(device)
    clips = torch.rand(2, 3, T, H, W, device=device)
    with torch.no_grad():
        model(clips)

    def log_probability(perturbed, kept):
        log_p = model(perturbed.flatten(0, 1)).log_softmax(1)[:, 1].view(perturbed.shape[:2])
        return log_p if kept else torch.log1p(-log_p.exp())

    space = MaskSpace((T, H, W), [[0.1, 0.2], [0.3, 0.3]], StepSettings(n_iter=6), smoothness, 2, clips)
    seeds = torch.ones(2, 2, *space.seeds_shape, device=device)
    perturbation = Perturbation(blur_pyramid(clips, 8, 4.0), 1)
    return optimize_masks(log_probability, perturbation, space, seeds, "dual", around())


@pytest.mark.parametrize("smoothness", ["step", "evenly", "gaussian", None])
def test_the_loop_does_not_wait_for_the_device(smoothness):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def around():
        done = 0

        def on_iteration(_probabilities):
            # The first iteration may set up the model, and after the last one results are looked at.
            nonlocal done
            done += 1
            torch.cuda.set_sync_debug_mode("error" if done < 5 else "default")

        return on_iteration

    try:
        found = minimise("cuda", smoothness, around)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(found.probabilities).all()


def test_every_iteration_is_reported_once():
    seen = []
    found = minimise("cpu", "step", lambda: seen.append)
    assert len(seen) == 6
    assert all(probabilities.shape == (2, 2) for probabilities in seen)
    assert found.losses.shape == (2, 2, 6)
