"""What every table of detections is held to."""

from captum_ext.data.annotations._faults import number
from captum_ext.data.annotations.records import Detection


def checked(detection: Detection) -> Detection:
    """The detection, if its numbers are finite and its end is after its start."""
    for name in ("start_s", "end_s", "score"):
        number(float(getattr(detection, name)), f"{detection}: {name}")
    if not 0 <= detection.start_s < detection.end_s:
        raise ValueError(f"{detection} starts before 0, or does not end after its start")
    return detection
