"""The suite has teeth: every check rejects a class that is broken in the way it is there for."""

import random
from dataclasses import replace

import conformance_broken as broken
import numpy as np
import pytest
import torch
from conformance_checks import CHECKS, hold
from conformance_expect import BrokenContractError
from conformance_subject import CLIPS, IMAGES, Subject

# The class, the check that must reject it, and what the check must say.
CONTROLS = [
    (broken.TakesAnyKeyword, "the_signature_is_captums", "options swallows"),
    (broken.TakesOptionsByPosition, "the_signature_is_captums", "by position"),
    (broken.EBPlain, "names_read_well", "splits an acronym: 'E B Plain'"),
    (broken.SaysItDoesNotMultiply, "the_base_classes_are_captums", "multiplies_by_inputs is False"),
    (broken.OffersTheFuture, "attribute_future_is_refused", "no error"),
    (broken.HidesItsDelta, "the_convergence_delta_is_offered_as_announced", "is False"),
    (broken.GivesTheDeltaOfTheBatch, "the_convergence_delta_is_offered_as_announced", "in a batch and alone"),
    (broken.IsNotLogged, "noise_tunnel_without_noise_gives_the_plain_map", "log_usage"),
    (broken.FoldsTimeIntoTheRows, "noise_tunnel_without_noise_gives_the_plain_map", "NoiseTunnel without"),
    (broken.FoldsTimeIntoTheRows, "maps_are_finite_and_of_the_promised_shape", "instead of"),
    (broken.GivesHugeMaps, "infidelity_runs", "infidelity is not finite"),
    (broken.TransposesInMemory, "sensitivity_runs", "RuntimeError: view size"),
    (broken.TransposesInMemory, "results_are_detached_and_contiguous", "not contiguous"),
    (broken.GivesATensorForATuple, "sensitivity_runs", "sensitivity_runs"),
    (broken.RefusesTensorsAsTargets, "every_format_of_a_class_selects_the_same_unit", "must be an int"),
    (broken.GivesAllTheFirstTarget, "every_example_gets_its_own_target", "targets as list"),
    (broken.IgnoresTheStep, "scores_with_steps_take_tuples", "two steps"),
    (
        broken.TakesTheFirstStep,
        "a_class_without_a_step_is_refused",
        "a class for scores with steps: no error",
    ),
    (broken.DemandsATarget, "one_score_needs_no_target", "Target not provided"),
    (broken.IgnoresTheTarget, "the_target_matters", "maps are the same"),
    (broken.ClampsTheTarget, "bad_targets_raise_the_errors_of_captum", "out of range: no error"),
    (broken.NormalisesOverTheBatch, "batch_equals_single", "in a batch and alone"),
    (broken.WeighsByPosition, "the_order_of_examples_does_not_matter", "another order"),
    (broken.MixesUpFurtherArguments, "further_arguments_follow_their_examples", "with further arguments"),
    (broken.DropsFurtherArguments, "further_arguments_of_any_type_reach_the_model", "with and without"),
    (broken.GivesATensorForATuple, "tensor_in_tensor_out_and_tuple_in_tuple_out", "Tensor out"),
    (broken.GivesATupleForATensor, "tensor_in_tensor_out_and_tuple_in_tuple_out", "tuple out"),
    (broken.ForgetsTheSecondInput, "two_inputs_are_explained_together", "map 1: all zero"),
    (broken.SumsChannels, "maps_are_finite_and_of_the_promised_shape", "instead of"),
    (broken.KeepsTheGraph, "results_are_detached_and_contiguous", "not detached"),
    (broken.GivesFloat32, "results_have_the_inputs_dtype_and_device", "float32 for inputs of torch.float64"),
    (broken.WritesIntoItsLastMap, "results_belong_to_the_caller", "wrote into the map"),
    (broken.AddsNoise, "two_calls_agree_to_the_bit", "second call"),
    (broken.ReadsMemoryAsItLies, "channels_last_inputs_give_the_same_map", "channels-last"),
    (broken.RunsTheModelOnTheCallersInput, "in_place_models_get_the_map_of_their_plain_twins", "in-place"),
    (broken.LeavesAHook, "nothing_changes_on_success", "_forward_hooks"),
    (broken.LeavesAHookOnAWeight, "nothing_changes_on_success", "weight/hooks"),
    (broken.LeavesAnAttribute, "nothing_changes_on_success", "activations|features/keys"),
    (broken.LeavesTrainingMode, "nothing_changes_on_success", "training"),
    (broken.FreezesTheModel, "nothing_changes_on_success", "requires_grad"),
    (broken.TouchesAWeight, "nothing_changes_on_success", "classifier.weight/version"),
    (broken.UpdatesABuffer, "nothing_changes_on_success", "running_mean/value"),
    (broken.ClearsGradients, "nothing_changes_on_success", "grad"),
    (broken.WritesGradients, "nothing_changes_on_success", "gradient of the model's parameters"),
    (broken.WritesToTheInput, "nothing_changes_on_success", "inputs/0/value"),
    (broken.RequiresGradOfTheInput, "nothing_changes_on_success", "inputs/0/requires_grad"),
    (broken.DrawsATorchNumber, "nothing_changes_on_success", "torch rng"),
    (broken.DrawsANumpyNumber, "nothing_changes_on_success", "numpy rng"),
    (broken.DrawsAPythonNumber, "nothing_changes_on_success", "python rng"),
    (broken.LeavesGradientsOff, "nothing_changes_on_success", "grad mode"),
    (broken.LeavesCudnnOff, "nothing_changes_on_success", "cudnn"),
    (broken.LeavesADefaultDtype, "nothing_changes_on_success", "default dtype"),
    (broken.LeavesAMode, "nothing_changes_on_success", "function mode"),
    (broken.LeavesAutocastOn, "nothing_changes_on_success", "autocast"),
    (broken.TakesAnotherThread, "nothing_changes_on_success", "threads"),
    (broken.CleansUpOnSuccessOnly, "nothing_changes_after_a_bad_target", "the target .* changed"),
    (broken.CleansUpOnSuccessOnly, "nothing_changes_after_a_bad_input", "infinity changed"),
    (broken.CleansUpOnSuccessOnly, "nothing_changes_when_the_forward_pass_fails", "RuntimeError .* changed"),
    (broken.CleansUpOnSuccessOnly, "nothing_changes_when_the_backward_pass_fails", "RuntimeError .* changed"),
    (broken.CleansUpOnSuccessOnly, "nothing_changes_when_a_custom_function_fails", "function changed"),
    (broken.CleansUpAfterExceptionsOnly, "an_interrupt_gets_through_and_changes_nothing", "changed"),
    (broken.SwallowsInterrupts, "an_interrupt_gets_through_and_changes_nothing", "no error"),
    (broken.ComputesInTheCallersMode, "every_grad_mode_gives_the_same_map", "an inference tensor"),
    (broken.SetsTheInputsFlagForAWhile, "tensors_made_in_inference_mode_can_be_explained", "requires_grad"),
    (broken.ClearsTheInputsGradient, "inputs_of_every_kind_stay_as_they_are", "leaf with a gradient changed"),
    (broken.ResetsCudnnToItsDefault, "an_unusual_process_stays_and_does_not_matter", "cudnn"),
    (broken.LeavesALambda, "the_model_can_be_copied_and_pickled_afterwards", "cannot be copied"),
    (broken.KeepsActivations, "no_activation_is_kept_alive", "live on"),
    (broken.ReplacesNaN, "inputs_that_are_not_finite_are_refused_by_name", "nan in the input: no error"),
    (broken.GivesNothingForNothing, "an_empty_batch_is_refused_by_name", "no error"),
    (broken.ConvertsIntegers, "inputs_of_a_wrong_type_are_refused_by_name", "torch.int64: no error"),
    (broken.TakesLists, "inputs_of_a_wrong_type_are_refused_by_name", "a list of inputs: no error"),
]

# What cleans up on one way out only is clean on the other.
CLEAN = [
    (broken.CleansUpOnSuccessOnly, "nothing_changes_on_success"),
    (broken.CleansUpAfterExceptionsOnly, "nothing_changes_when_the_forward_pass_fails"),
    (broken.SwallowsInterrupts, "nothing_changes_when_the_forward_pass_fails"),
    (broken.ResetsCudnnToItsDefault, "nothing_changes_on_success"),
    (broken.SetsTheInputsFlagForAWhile, "nothing_changes_on_success"),
    (broken.ClearsTheInputsGradient, "nothing_changes_on_success"),
]


def subject_of(cls):
    return Subject(cls, cls, CLIPS if cls is broken.FoldsTimeIntoTheRows else IMAGES)


@pytest.fixture(autouse=True)
def _process_as_it_was():
    """The controls do to the process what no explainer may."""
    n_modes = len(torch.overrides._get_current_function_mode_stack())
    cudnn, default = torch.backends.cudnn.enabled, torch.get_default_dtype()
    threads, autocast = torch.get_num_threads(), torch.is_autocast_enabled("cpu")
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    while len(torch.overrides._get_current_function_mode_stack()) > n_modes:
        torch.overrides._pop_mode()
    torch.set_grad_enabled(True)
    torch.backends.cudnn.enabled = cudnn
    torch.set_default_dtype(default)
    torch.set_num_threads(threads)
    torch.set_autocast_enabled("cpu", autocast)
    torch.set_rng_state(states[0]), random.setstate(states[1]), np.random.set_state(states[2])  # noqa: NPY002


@pytest.mark.parametrize(
    ("cls", "check", "message"), CONTROLS, ids=[f"{cls.__name__}-{check}" for cls, check, _ in CONTROLS]
)
def test_a_broken_class_is_rejected(cls, check, message):
    with pytest.raises(BrokenContractError, match=message):
        hold(subject_of(cls), check)


@pytest.mark.parametrize("check", CHECKS)
def test_the_unbroken_control_is_accepted(check):
    hold(subject_of(broken.Control), check)


@pytest.mark.parametrize(("cls", "check"), CLEAN)
def test_a_control_is_broken_in_one_way(cls, check):
    hold(subject_of(cls), check)


def test_every_check_rejects_some_class():
    assert {check for _, check, _ in CONTROLS} == set(CHECKS)


def test_every_broken_class_is_rejected_by_some_check():
    classes = {
        thing
        for thing in vars(broken).values()
        if isinstance(thing, type) and issubclass(thing, broken.Control)
    }
    assert {cls for cls, _, _ in CONTROLS} == classes - {broken.Control, broken.DoesMischief}


def test_a_class_that_says_of_itself_something_else_is_rejected():
    subject = replace(subject_of(broken.Control), multiplies_by_inputs=False)
    with pytest.raises(BrokenContractError, match="multiplies_by_inputs"):
        hold(subject, "the_base_classes_are_captums")
