"""Dropout guided by Excitation Backprop, and the methods it is compared with, for plain training loops.

:func:`attach` puts Excitation Dropout into a model that knows nothing of it; ``lightning_callbacks`` does the
same for a Trainer.
"""

from captum_ext.dropout.adaptive import AdaptiveAttachment, AdaptiveDropoutLayer, attach_adaptive
from captum_ext.dropout.attach import Attachment, attach
from captum_ext.dropout.keep import excitation_keep_mask, excitation_keep_probability
from captum_ext.dropout.layer import Dropped, ExcitationDropoutLayer
from captum_ext.dropout.schedule import curriculum_drop_rate
from captum_ext.dropout.standard import SharedDropout
from captum_ext.dropout.swap import dropout_names
from captum_ext.dropout.targets import find_scores

__all__ = [
    "AdaptiveAttachment",
    "AdaptiveDropoutLayer",
    "Attachment",
    "Dropped",
    "ExcitationDropoutLayer",
    "SharedDropout",
    "attach",
    "attach_adaptive",
    "curriculum_drop_rate",
    "dropout_names",
    "excitation_keep_mask",
    "excitation_keep_probability",
    "find_scores",
]
