"""Pickles of numpy arrays and plain containers, read without running anything that the file names.

Loading a pickle calls whatever the file asks for. Here the few names that numpy's arrays and scalars need
lead to stand-ins of our own, which only collect numbers; every other name is refused. Not even numpy's own
``__setstate__`` sees the file's content. Array types are those of annotations: booleans, numbers, strings.
"""

import pickle
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from captum_ext.data.annotations._faults import AnnotationError

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_DTYPE = re.compile(r"[biufcSU]\d+")


def load_arrays(file: Path) -> Any:
    """The content of a pickle file: dicts, lists, tuples, sets, plain values and numpy arrays.

    Numpy scalars become Python's; a Python 2 ``str`` becomes a ``str``.
    """
    with file.open("rb") as stream:
        try:
            return _plain(_ArrayUnpickler(stream, encoding="latin1").load())
        except Exception as error:
            # A damaged pickle raises almost anything: EOFError, IndexError, AttributeError, MemoryError.
            raise AnnotationError(f"{file}: not a pickle of arrays: {error}") from error


class _Dtype:
    """``numpy.dtype(code)`` and the byte order that follows it."""

    __slots__ = ("value",)

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        name = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"arrays of type {code!r:.40} are not allowed")
        self.value = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order, subtype, names, fields = state[1:5]
        if not (subtype is None and names is None and fields is None):
            raise pickle.UnpicklingError("structured arrays are not allowed")
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


class _Array:
    """What ``_reconstruct`` makes: an array whose content follows as its state."""

    __slots__ = ("value",)

    def __init__(self, value: npt.NDArray[Any] | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _from_bytes(content, dtype, shape, "F" if fortran else "C")


class _Reconstruct:
    """``numpy._core.multiarray._reconstruct``, always of an empty ``ndarray``."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> _Array:
        return _Array()


class _ArrayType:
    """``numpy.ndarray``, which pickles name and never call."""

    __slots__ = ()


class _Scalar:
    """``numpy._core.multiarray.scalar``."""

    __slots__ = ()

    def __call__(self, dtype: Any, content: Any) -> Any:
        return _from_bytes(content, dtype, (), "C").item()


class _FromBuffer:
    """``numpy._core.numeric._frombuffer``, of pickle protocol 5."""

    __slots__ = ()

    def __call__(self, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
        if axes is not None or order not in ("C", "F"):
            raise pickle.UnpicklingError(f"arrays in memory order {order!r} are not allowed")
        return _Array(_from_bytes(content, dtype, shape, order))


class _Latin1:
    """``_codecs.encode``, by which protocols below 3 store bytes; only as they use it."""

    __slots__ = ()

    def __call__(self, content: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(content, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"encoding {encoding!r:.40} is not allowed")
        return content.encode("latin1")


class _NoBytes:
    """``bytes()``, by which protocols below 3 store empty bytes."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


class _ArrayUnpickler(pickle.Unpickler):
    # Instances without attributes, so that a pickle cannot change them for the next one.
    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _ArrayType(),
        ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
        ("numpy._core.multiarray", "scalar"): _Scalar(),
        ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
        ("_codecs", "encode"): _Latin1(),
        ("__builtin__", "bytes"): _NoBytes(),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Our stand-in for one of numpy's names; NumPy 1 calls its core ``numpy.core``."""
        place = module.replace("numpy.core", "numpy._core", 1) if module.startswith("numpy.core") else module
        if (place, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are allowed")
        return self._ALLOWED[place, name]

    def persistent_load(self, pid: Any) -> Any:
        """Nothing outside the file."""
        raise pickle.UnpicklingError("it refers to something outside the file")


def _from_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array has no type")
    raw = content.encode("latin1") if isinstance(content, str) else content
    flat = np.frombuffer(raw, dtype=dtype.value)
    return flat.reshape(shape, order=order).copy()


def _plain(value: Any) -> Any:
    """The loaded content with arrays in place of their stand-ins."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(map(_plain, value))
    raise pickle.UnpicklingError(f"a {type(value).__name__} is neither an array nor a plain value")
