"""All checks, and how one is held against a subject."""

from __future__ import annotations

from collections.abc import Callable

import conformance_batches
import conformance_errors
import conformance_interface
import conformance_results
import conformance_state
import conformance_targets
from conformance_expect import BrokenContractError
from conformance_subject import Subject

CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for theme in (
        conformance_interface,
        conformance_targets,
        conformance_batches,
        conformance_results,
        conformance_state,
        conformance_errors,
    )
    for check in theme.CHECKS
}


def hold(subject: Subject, name: str) -> None:
    """Raise :class:`BrokenContractError` if the subject breaks that part of the contract."""
    try:
        CHECKS[name](subject)
    except BrokenContractError as violation:
        raise BrokenContractError(f"{subject}: {name}: {violation}") from violation
    except Exception as error:
        raise BrokenContractError(f"{subject}: {name}: {type(error).__name__}: {error}") from error
