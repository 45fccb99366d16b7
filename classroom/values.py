"""A value as a message, and back: JSON and raw arrays, with bounds.

Values go over as copies. Functions, and objects that can only be multiplied, stay where they are: the other
side gets a `Remote` whose calls travel back. Nothing that comes from the learner is ever unpickled; what the
judge sends may be, since the judge is trusted.
"""

import base64
import dataclasses
import functools
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

#: The deepest nesting of lists in a value, and the arrays that cross.
DEEPEST = 30
DTYPES = (
    *("bool", "complex64", "complex128", "float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


# --- values to messages -----------------------------------------------------------------------------------


def encode(value: Any, blobs: list[bytes], peer: Any, depth: int = 0) -> Any:
    """`value` as JSON; array data is appended to `blobs`. TypeError names what cannot cross."""
    if depth > DEEPEST:
        raise TypeError(f"lists nested more than {DEEPEST} deep do not cross to the grader")
    if value is None or type(value) in (bool, int, float, str):
        return value
    inner = functools.partial(encode, blobs=blobs, peer=peer, depth=depth + 1)
    if isinstance(value, np.ndarray | np.generic):
        return _encode_array(value, blobs, scalar=isinstance(value, np.generic))
    if _is_tensor(value):
        return _encode_tensor(value, blobs)
    if isinstance(value, Remote):
        return {"t": "yours", "id": _number_of(value)}
    if isinstance(value, list | range):
        return {"t": "list", "v": [inner(v) for v in value]}
    if isinstance(value, tuple):
        return {"t": "tuple", "v": [inner(v) for v in value]}
    if isinstance(value, dict):
        return {"t": "dict", "v": [[inner(k), inner(v)] for k, v in value.items()]}
    if isinstance(value, complex):
        return {"t": "complex", "v": [value.real, value.imag]}
    return _encode_object(value, inner, peer)


def _encode_array(value: Any, blobs: list[bytes], **marks: bool) -> Any:
    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"an array of dtype {array.dtype} does not cross to the grader; convert it to float64"
        )
    data = np.ascontiguousarray(array).tobytes()
    start = sum(map(len, blobs))
    blobs.append(data)
    return {"t": "array", "dtype": array.dtype.name, "shape": array.shape, "at": [start, len(data)], **marks}


def _encode_tensor(value: Any, blobs: list[bytes]) -> Any:
    plain = value.detach().cpu()
    plain = plain.float() if str(plain.dtype) == "torch.bfloat16" else plain
    return _encode_array(plain.resolve_conj().numpy(), blobs, tensor=True, grad=bool(value.requires_grad))


def _encode_object(value: Any, inner: Callable[[Any], Any], peer: Any) -> Any:
    if not peer.trusting:  # the judge's side: what the learner's process may unpickle
        if isinstance(value, types.ModuleType):
            return {"t": "module", "name": value.__name__}
        if (pickled := _pickled(value)) is not None:
            return {"t": "pickle", "v": base64.b64encode(pickled).decode()}
    if callable(value) or multiplies(value) or is_house_object(value):
        shape = [int(n) for n in getattr(value, "shape", ())][:8]
        dtype = str(getattr(value, "dtype", "float64"))
        return {"t": "mine", "id": peer.give(value), "shape": shape, "dtype": dtype, "call": callable(value)}
    if dataclasses.is_dataclass(value):
        return {
            "t": "record",
            "v": {f.name: inner(getattr(value, f.name)) for f in dataclasses.fields(value)},
        }
    try:
        return float(value)
    except Exception:
        raise TypeError(
            f"a value of type {type(value).__name__} does not cross to the grader; "
            "return a number, a string, an array, or a list, tuple or dict of them"
        ) from None


def _pickled(value: Any) -> bytes | None:
    """What may be copied to the learner: functions by name, networks, generators, results; no closure."""
    by_name = isinstance(value, types.FunctionType | types.BuiltinFunctionType | np.ufunc | type)
    network = "torch" in sys.modules and isinstance(value, sys.modules["torch"].nn.Module)
    plain = isinstance(value, np.random.Generator | np.dtype | slice | bytes) or _is_result(value)
    try:
        return pickle.dumps(value) if by_name or network or plain or _is_sparse(value) else None
    except Exception:
        return None


def _is_result(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and not multiplies(value)


def _is_sparse(value: Any) -> bool:
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and sparse.issparse(value)


def _is_tensor(value: Any) -> bool:
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor)


# --- messages to values -----------------------------------------------------------------------------------


def decode(data: Any, blob: memoryview, peer: Any) -> Any:
    """The value of a message. What is malformed raises one of Python's plain errors."""
    if not isinstance(data, dict):
        return data if data is None or type(data) in (bool, int, float, str) else _malformed(data)
    kind, inner = data["t"], functools.partial(decode, blob=blob, peer=peer)
    if kind == "array":
        return _decode_array(data, blob)
    if kind == "list":
        return [inner(v) for v in data["v"]]
    if kind == "tuple":
        return tuple(inner(v) for v in data["v"])
    if kind == "dict":
        return {inner(k): inner(v) for k, v in data["v"]}
    if kind == "complex":
        return complex(*data["v"])
    if kind == "record":
        return types.SimpleNamespace(**{str(k): inner(v) for k, v in data["v"].items()})
    if kind == "yours":
        return peer.given[data["id"]]
    if kind == "mine":
        return _stand_in(data, peer)
    if peer.trusting and kind == "pickle":
        return pickle.loads(base64.b64decode(data["v"]))
    if peer.trusting and kind == "module":
        return __import__(data["name"], fromlist=["_"])
    return _malformed(data)


def _malformed(data: Any) -> Any:
    raise TypeError(f"a message holds {type(data).__name__}")


def _decode_array(data: Any, blob: memoryview) -> Any:
    start, size = (int(n) for n in data["at"])
    shape = tuple(int(n) for n in data["shape"])
    if data["dtype"] not in DTYPES or start < 0 or size < 0 or min(shape, default=0) < 0:
        _malformed(data)
    array = np.frombuffer(blob[start : start + size], dtype=data["dtype"]).reshape(shape).copy()
    if data.get("tensor") and "torch" in sys.modules:
        tensor = sys.modules["torch"].from_numpy(array)
        return tensor.requires_grad_() if data.get("grad") else tensor
    return array[()] if data.get("scalar") else array


class Remote:
    """Something on the other side of the boundary: attributes, `@` and calls travel there."""

    def __init__(self, peer: Any, number: int, shape: tuple[int, ...], dtype: str) -> None:
        self.__dict__.update(_peer=peer, _number=number)
        if shape:
            self.__dict__.update(shape=shape, dtype=np.dtype(dtype if dtype in DTYPES else "float64"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function on the other side returns."""
        return self._peer.ask("call", self, args, kwargs)

    def __matmul__(self, x: Any) -> Any:
        """The product, computed on the other side."""
        return self._peer.ask("matmul", self, x)

    def __getattr__(self, name: str) -> Any:
        """A public attribute of the thing on the other side."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self._peer.ask("attribute", self, name)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Refuse to be an array: what only multiplies has no entries."""
        raise TypeError("this is known only by its products; use A @ x")


def _number_of(stand_in: Remote) -> int:
    return int(stand_in.__dict__["_number"])


def _stand_in(data: Any, peer: Any) -> Any:
    shape = tuple(int(n) for n in data["shape"])
    thing = Remote(peer, int(data["id"]), shape, str(data["dtype"]))
    if not data["call"] or shape:
        return thing

    def function(*args: Any, **kwargs: Any) -> Any:
        return thing(*args, **kwargs)

    return function


def is_house_object(value: Any) -> bool:
    """Whether this is a dataclass of the library, such as an objective or an operator."""
    return dataclasses.is_dataclass(value) and type(value).__module__.split(".")[0] == "hesslab"


def multiplies(value: Any) -> bool:
    """Whether this is known by its products: it has a shape, and `matvec` or `@`."""
    return hasattr(value, "shape") and (hasattr(value, "matvec") or hasattr(type(value), "__matmul__"))
