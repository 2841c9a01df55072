"""Whether what was taken for the scores are features: does the loss multiply them by further weights?"""

from __future__ import annotations

from torch import Tensor
from torch.autograd.graph import Node

__all__ = ["weight_above"]

_SAME_NUMBERS = tuple(f"{name}Backward0" for name in ("T", "Transpose", "Permute", "View", "ToCopy"))


def weight_above(loss: Tensor, scores: int) -> Tensor | None:
    """A matrix that scores meet on every way to the loss, if there is one: then they are no scores.

    Nodes are numbered in the order in which they ran, so that only those from the scores on are looked at.

    Args:
        loss (Tensor): what is minimised.
        scores (int): number of the node of autograd's graph that computed the scores.

    Returns:
        Tensor or None: a weight with at least two axes that is an argument, as it is, transposed or cast, of
        an operation between the scores and the loss; None if there is a way without any.
    """
    met: Tensor | None = None
    free: set[Node] = set()  # nodes that the scores reach without meeting a weight
    for node in sorted(_younger(loss.grad_fn, scores), key=lambda node: node._sequence_nr()):
        children = [child for child, _ in node.next_functions if child is not None]
        if node._sequence_nr() == scores:
            free.add(node)
        elif any(child in free for child in children):
            weights = [weight for weight in map(_weight, children) if weight is not None]
            if weights:
                met = weights[0]
            else:
                free.add(node)
    return None if loss.grad_fn in free else met


def _younger(node: Node | None, number: int) -> set[Node]:
    """The nodes of a graph from a number on, by which their parents come after them."""
    pending, seen = [node], set[Node]()
    while pending:
        node = pending.pop()
        # Leaves have a number that is larger than any.
        if node is None or node in seen or node._sequence_nr() < number or hasattr(node, "variable"):
            continue
        seen.add(node)
        pending += [child for child, _ in node.next_functions]
    return seen


def _weight(node: Node) -> Tensor | None:
    """The parameter, if this is one, as it is or in another order or precision, and a matrix."""
    while node.name() in _SAME_NUMBERS and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    weight: Tensor | None = getattr(node, "variable", None)
    # A bias or a factor may have axes of size 1.
    return weight if weight is not None and sum(size > 1 for size in weight.shape) > 1 else None
