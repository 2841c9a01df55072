"""Checks on the interface: Captum's signature, names and flags, its NoiseTunnel and its metrics."""

import inspect

import torch
from captum.attr import Attribution, LayerAttribution, NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from conformance_expect import map_of, must_raise, require, require_equal, require_same
from conformance_subject import Case, N, Subject
from torch import Tensor, nn

# The arguments that Captum's own methods take by position too, in its order.
_BY_POSITION = (
    "self",
    "inputs",
    "baselines",
    "target",
    "additional_forward_args",
    "attribute_to_layer_input",
    "relu_attributions",
)


def the_signature_is_captums(subject: Subject) -> None:
    parameters = inspect.signature(subject.cls.attribute).parameters
    by_position = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    wanted = [name for name in _BY_POSITION if name in parameters]
    require(by_position == wanted, f"by position {by_position} instead of {wanted}")
    for name in ("target", "additional_forward_args"):
        require(parameters[name].default is None, f"{name} has no default None")
    for name, p in parameters.items():
        require(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD), f"{name} swallows misspelt arguments")
    case = subject.case()
    with must_raise(TypeError, saying=("n_stepps",), when="a misspelt keyword"):
        case.explain(n_stepps=3)


def names_read_well(subject: Subject) -> None:
    explainer = subject.case().explainer
    words = explainer.get_name().split()
    require("".join(words) == subject.cls.__name__, f"get_name() gives {' '.join(words)!r}")
    require(all(len(word) > 1 for word in words), f"get_name() splits an acronym: {' '.join(words)!r}")


def the_base_classes_are_captums(subject: Subject) -> None:
    case = subject.case()
    require(isinstance(case.explainer, Attribution), "no captum.attr.Attribution")
    require(callable(case.explainer.forward_func), "forward_func is missing")
    if isinstance(case.explainer, LayerAttribution):
        require(isinstance(case.explainer.layer, nn.Module), "layer is no module")
    says = case.explainer.multiplies_by_inputs
    require(says is subject.multiplies_by_inputs, f"multiplies_by_inputs is {says!r}")


def attribute_future_is_refused(subject: Subject) -> None:
    explainer = subject.case().explainer
    with must_raise(NotImplementedError, saying=(explainer.get_name(),), when="attribute_future"):
        explainer.attribute_future()


def the_convergence_delta_is_offered_as_announced(subject: Subject) -> None:
    case = subject.case()
    announced = case.explainer.has_convergence_delta()
    require(isinstance(announced, bool), f"has_convergence_delta() gives {announced!r}")
    offered = "return_convergence_delta" in inspect.signature(subject.cls.attribute).parameters
    require(announced is offered, f"has_convergence_delta() is {announced}, the keyword is there: {offered}")
    if not announced:
        return
    plain = map_of(case.explain())
    for inputs in (case.x, (case.x,)):
        result = case.explain(inputs, return_convergence_delta=True)
        require(isinstance(result, tuple) and len(result) == 2, "no pair of maps and delta")
        found, delta = result
        require_equal(map_of(found), plain, "the map that comes with a delta")
        require(type(found) is type(case.explain(inputs)), "the delta changes the form of the map")
        require(delta.shape == (N,), f"a delta of shape {tuple(delta.shape)}")
        require(
            torch.isfinite(delta).all() and not delta.requires_grad, "the delta is not finite and detached"
        )
    for i in range(N):
        _, alone = case.explain_alone(i, return_convergence_delta=True)
        require((delta[i] - alone).abs() < 1e-9, f"the delta of example {i} in a batch and alone")


def noise_tunnel_without_noise_gives_the_plain_map(subject: Subject) -> None:
    require(hasattr(subject.cls.attribute, "__wrapped__"), "attribute is not decorated with log_usage")
    case = subject.case()
    further = "further_arguments_follow_their_examples" not in subject.inapplicable
    extra = case.gains() if further else case.extra
    for target in (case.target, case.targets):
        expected = map_of(case.explain(target=target, extra=extra))
        for batch_size in (None, 1):
            found = NoiseTunnel(case.explainer).attribute(
                case.x,
                nt_type="smoothgrad",
                nt_samples=2,
                nt_samples_batch_size=batch_size,
                stdevs=0.0,
                target=target,
                additional_forward_args=extra,
                **subject.options,
            )
            require_same(found, expected, f"NoiseTunnel without noise, target {target!r}")


def enlarged(found: Tensor, x: Tensor) -> Tensor:
    """A map in the shape of the input, made of a layer's map the way Captum's users do."""
    if found.shape == x.shape:
        return found
    summed = found.sum(1, keepdim=True)
    return LayerAttribution.interpolate(summed, tuple(x.shape[2:])).expand_as(x).contiguous()


def infidelity_runs(subject: Subject) -> None:
    case = subject.case()
    found = enlarged(map_of(case.explain()), case.x)
    score = infidelity(
        case.model,
        lambda x: (torch.full_like(x, 0.01), x - 0.01),
        case.x,
        found,
        target=case.targets,
        additional_forward_args=case.extra,
        n_perturb_samples=2,
    )
    require_scores(score, "infidelity")


def sensitivity_runs(subject: Subject) -> None:
    case = subject.case()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        score = sensitivity_max(
            explains_tuples(case),
            case.x,
            target=case.targets,
            additional_forward_args=case.extra,
            n_perturb_samples=2,
            **subject.options,
        )
    require_scores(score, "sensitivity_max")


def explains_tuples(case: Case):
    """``attribute`` as ``sensitivity_max`` calls it: tuple in, tuple out, also for maps of a layer."""
    if case.subject.tuple_rule == "inputs":
        return case.explainer.attribute
    return lambda inputs, **keywords: (case.explainer.attribute(inputs, **keywords),)


def require_scores(score: Tensor, what: str) -> None:
    require(score.shape == (N,), f"{what} has shape {tuple(score.shape)}")
    require(torch.isfinite(score).all(), f"{what} is not finite")


CHECKS = [
    the_signature_is_captums,
    names_read_well,
    the_base_classes_are_captums,
    attribute_future_is_refused,
    the_convergence_delta_is_offered_as_announced,
    noise_tunnel_without_noise_gives_the_plain_map,
    infidelity_runs,
    sensitivity_runs,
]
