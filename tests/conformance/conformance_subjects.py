"""The registry: every public class of captum_ext.attr, in every use that the contract should hold for.

To add a class, add a :class:`Subject`: the class, how to build it for a toy, the kind of toy, the keywords of
its calls, the shape of its maps, and the checks that make no sense for it, each with the reason.
"""

from captum.log import log_usage
from conformance_models import CHANNELS, HEIGHT, STEPS, WIDTH
from conformance_subject import CAPTIONS, CLIPS, CLIPS_3D, CLIPS_TIME_FIRST, IMAGES, Subject

from captum_ext.attr import (
    CaptionGuidedSaliency,
    ExcitationBackprop,
    ExtremalPerturbation,
    LayerExcitationBackprop,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    Rise,
    SaliencyTubes,
    SpatioTemporalExtremalPerturbation,
    VideoGradCam,
)
from captum_ext.perturbation import StepSettings

# The last convolution of the toys, behind a pooling by 2.
_LAYER = "features.5"
_HALF = (HEIGHT // 2, WIDTH // 2)


class OneOfSeveralTargets(RecurrentExcitationBackprop):
    """Holds ``attribute_targets`` to the contract: the map of a target that is asked for beside another."""

    @log_usage()
    def attribute(self, inputs, target=None, additional_forward_args=None, *, return_convergence_delta=False):
        """The second of three maps."""
        found = self.attribute_targets(
            inputs,
            [(0, 0), target, (1, 1)],
            additional_forward_args,
            return_convergence_delta=return_convergence_delta,
        )
        return (found[0][1], found[1][1]) if return_convergence_delta else found[1]


_ONE_INPUT = {"two_inputs_are_explained_together": "explains one tensor"}
_NO_GRADIENT = dict.fromkeys(
    ("nothing_changes_when_the_backward_pass_fails", "nothing_changes_when_a_custom_function_fails"),
    "runs no backward pass",
)
_CAPTIONS = {
    **_ONE_INPUT,
    **dict.fromkeys(
        (
            "every_format_of_a_class_selects_the_same_unit",
            "every_example_gets_its_own_target",
            "one_score_needs_no_target",
        ),
        "captioners return scores with steps",
    ),
    **dict.fromkeys(
        ("further_arguments_follow_their_examples", "further_arguments_of_any_type_reach_the_model"),
        "the further arguments of captioners are the captions, which all checks pass",
    ),
}
# A few large steps, since every check explains many times.
_FEW = {"areas": (0.5,), "settings": StepSettings(n_iter=3, learning_rate=0.25)}

# Known violations, each to be mended in the class and then deleted here.
_SIGNED_TOTAL = dict.fromkeys(
    (
        "scores_with_steps_take_tuples",
        "maps_are_finite_and_of_the_promised_shape",
        "results_have_the_inputs_dtype_and_device",
    ),
    "the published recurrence gives signed mass; where its total is not positive the map is all zero",
)

SUBJECTS = [
    Subject(ExcitationBackprop, ExcitationBackprop),
    Subject(ExcitationBackprop, ExcitationBackprop, CLIPS, label="on clips"),
    Subject(
        ExcitationBackprop,
        ExcitationBackprop,
        options={"contrastive": True},
        label="contrastive",
    ),
    Subject(
        LayerExcitationBackprop,
        lambda model: LayerExcitationBackprop(model, _LAYER),
        IMAGES,
        map_shape=(6, *_HALF),
        tuple_rule="layer",
    ),
    Subject(
        LayerExcitationBackprop,
        lambda model: LayerExcitationBackprop(model, _LAYER),
        CLIPS,
        {"contrastive": True},
        map_shape=(6, STEPS, *_HALF),
        tuple_rule="layer",
        label="contrastive, on clips",
    ),
    Subject(
        RecurrentExcitationBackprop,
        lambda model: RecurrentExcitationBackprop(model, _LAYER),
        CLIPS,
        map_shape=(6, STEPS, *_HALF),
        inapplicable=_ONE_INPUT,
    ),
    Subject(
        RecurrentExcitationBackprop,
        lambda model: RecurrentExcitationBackprop(model, _LAYER),
        CLIPS,
        {"contrastive": True, "sum_channels": True},
        map_shape=(1, STEPS, *_HALF),
        inapplicable=_ONE_INPUT,
        label="contrastive",
    ),
    Subject(
        RecurrentExcitationBackprop,
        lambda model: RecurrentExcitationBackprop(model, _LAYER, recurrence="published"),
        CLIPS,
        map_shape=(6, STEPS, *_HALF),
        inapplicable={**_ONE_INPUT, **_SIGNED_TOTAL},
        label="with the published recurrence",
    ),
    Subject(
        RecurrentExcitationBackprop,
        lambda model: RecurrentExcitationBackprop(model, "features.6", boundary="embedding"),
        CAPTIONS,
        map_shape=(6, STEPS, *_HALF),
        inapplicable=_CAPTIONS,
        label="on captions",
    ),
    Subject(
        OneOfSeveralTargets,
        lambda model: OneOfSeveralTargets(model, "features.6", boundary="embedding"),
        CAPTIONS,
        map_shape=(6, STEPS, *_HALF),
        inapplicable=_CAPTIONS,
    ),
    Subject(
        RecurrentGradient,
        RecurrentGradient,
        CLIPS,
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
    ),
    Subject(
        VideoGradCam,
        lambda model: VideoGradCam(model, _LAYER),
        CLIPS,
        map_shape=(1, STEPS, *_HALF),
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
    ),
    Subject(
        VideoGradCam,
        lambda model: VideoGradCam(model, _LAYER),
        CLIPS_3D,
        {"relu_attributions": True},
        map_shape=(1, STEPS // 2, *_HALF),
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
        label="of 3-D convolutions",
    ),
    Subject(
        SaliencyTubes,
        lambda model: SaliencyTubes(model, _LAYER),
        CLIPS_3D,
        multiplies_by_inputs=False,
        inapplicable={**_ONE_INPUT, **_NO_GRADIENT},
    ),
    Subject(
        SaliencyTubes,
        lambda model: SaliencyTubes(model, _LAYER),
        CLIPS_3D,
        {"return_input_shape": False},
        map_shape=(1, STEPS, HEIGHT, WIDTH),
        multiplies_by_inputs=False,
        inapplicable={**_ONE_INPUT, **_NO_GRADIENT},
        label="of one channel",
    ),
    Subject(
        Rise,
        Rise,
        IMAGES,
        {"n_masks": 12, "grid": 2, "perturbations_per_eval": 5},
        multiplies_by_inputs=False,
        inapplicable={**_ONE_INPUT, **_NO_GRADIENT},
    ),
    Subject(
        Rise,
        Rise,
        CLIPS,
        {"n_masks": 12, "grid": (2, 3, 2)},
        map_shape=(CHANNELS, STEPS, HEIGHT, WIDTH),
        multiplies_by_inputs=False,
        inapplicable={**_ONE_INPUT, **_NO_GRADIENT},
        label="on clips",
    ),
    Subject(
        ExtremalPerturbation,
        ExtremalPerturbation,
        IMAGES,
        _FEW,
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
    ),
    Subject(
        ExtremalPerturbation,
        ExtremalPerturbation,
        CLIPS,
        {**_FEW, "areas": (0.5, 0.6), "perturbations_per_eval": 2, "return_input_shape": False},
        map_shape=(1, STEPS, HEIGHT, WIDTH),
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
        label="on clips, of one channel",
    ),
    Subject(
        SpatioTemporalExtremalPerturbation,
        SpatioTemporalExtremalPerturbation,
        CLIPS_3D,
        _FEW,
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
    ),
    Subject(
        SpatioTemporalExtremalPerturbation,
        SpatioTemporalExtremalPerturbation,
        CLIPS,
        {**_FEW, "smoothness": None, "return_input_shape": False},
        map_shape=(1, STEPS, HEIGHT, WIDTH),
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
        label="without smoothness, of one channel",
    ),
    Subject(
        SpatioTemporalExtremalPerturbation,
        lambda model: SpatioTemporalExtremalPerturbation(model, layout="NTCHW"),
        CLIPS_TIME_FIRST,
        {**_FEW, "variant": "dual", "smoothness": "gaussian"},
        multiplies_by_inputs=False,
        inapplicable=_ONE_INPUT,
        label="of both variants, time first",
    ),
    Subject(
        CaptionGuidedSaliency,
        CaptionGuidedSaliency,
        CAPTIONS,
        map_shape=(1, STEPS, *_HALF),
        multiplies_by_inputs=False,
        inapplicable={**_CAPTIONS, **_NO_GRADIENT},
    ),
]
