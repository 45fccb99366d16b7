"""How a call crosses between the judge and the process that runs a learner's code.

Both ends speak alike: each may ask, and while it waits it answers what the other asks. So a check can hand a
function to an answer: the answer's calls of it travel back to the judge. How a value crosses: `values.py`.
"""

import builtins
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from values import decode, encode, is_house_object, multiplies

#: The largest message in bytes, and the deepest nesting of calls.
LARGEST, CALLS = 64 * 2**20, 40
HEADER = struct.Struct(">II")


class Lost(Exception):
    """The other side is gone, too late, or speaks nonsense; it cannot be asked again."""


@dataclass
class Peer:
    """One end of the boundary. It asks, and while it waits it answers what the other end asks.

    `receive(n)` returns n bytes and `send(bytes)` sends them; `answer(operation, *operands)` is called for
    each question of the other end. Only the learner's process is `trusting`: it unpickles what it gets.
    """

    receive: Callable[[int], bytes]
    send: Callable[[bytes], None]
    answer: Callable[..., Any]
    trusting: bool
    given: dict[int, Any] = field(default_factory=dict)
    depth: int = 0
    lost: Lost | None = None

    def ask(self, operation: str, *operands: Any) -> Any:
        """The answer of the other end; raises what it raised, or `Lost`, and from then on always `Lost`."""
        if self.lost:
            raise self.lost
        message = self._encoded("ask", [operation, *operands])
        try:
            self.send(message)
            return self._answered()
        except Lost as lost:
            self.lost = lost
            raise

    def _answered(self) -> Any:
        while (message := self._get())[0] == "ask":
            self._reply(message[1])
        return message[1] if message[0] == "value" else _raise(*message[1])

    def serve(self) -> None:
        """Answer until the other end goes away."""
        while True:
            kind, operands = self._get()
            if kind == "ask":
                self._reply(operands)

    def _reply(self, operands: Any) -> None:
        self.depth += 1
        try:
            if self.depth > CALLS:
                raise RecursionError(f"calls nested more than {CALLS} deep")
            message = self._encoded("value", self.answer(*operands))
        except Lost:
            raise
        except BaseException as error:
            if not (self.trusting or isinstance(error, Exception)):
                raise  # Ctrl-C in the judge; in the learner's process an exit is only an error
            names = [kind.__name__[:80] for kind in type(error).__mro__][:12]
            message = self._encoded("error", [names, _text_of(error)])
        finally:
            self.depth -= 1
        return self.send(message)

    def _encoded(self, kind: str, value: Any) -> bytes:
        blobs: list[bytes] = []
        head = json.dumps([kind, encode(value, blobs, self)]).encode()
        if (size := len(head) + sum(map(len, blobs))) > LARGEST:
            raise ValueError(
                f"{size / 2**20:.0f} MB at once; at most {LARGEST // 2**20} MB cross to the grader"
            )
        return HEADER.pack(len(head), sum(map(len, blobs))) + head + b"".join(blobs)

    def _get(self) -> list[Any]:
        head, blob = HEADER.unpack(self.receive(HEADER.size))
        if head + blob > LARGEST:
            raise Lost("it sent a message that is too large")
        text, data = self.receive(head), memoryview(self.receive(blob))
        try:
            kind, value = json.loads(text)
            return [str(kind), decode(value, data, self)]
        except Exception as error:
            raise Lost("it sent a message that is not one") from error

    def give(self, value: Any) -> int:
        """The number under which the other end may call `value` from now on."""
        self.given[id(value)] = value
        return id(value)


def operate(peer: Peer, operation: str, thing: Any, *operands: Any) -> Any:
    """Answer a question about something given away: call it, multiply by it, or read a public attribute.

    Only of an object that can be multiplied, or of a class of the library, are attributes read: those of a
    function (`partial.args`, for one) would tell what was not meant to be told.
    """
    if peer.given.get(id(thing)) is not thing:
        raise PermissionError("this was not given")
    if operation == "call":
        return thing(*operands[0], **operands[1])
    if operation == "matmul":
        return thing @ operands[0]
    if operation == "attribute" and not operands[0].startswith("_") and _is_open(thing):
        return getattr(thing, operands[0])
    raise AttributeError(operands[0] if operation == "attribute" else operation)


def _is_open(thing: Any) -> bool:
    return is_house_object(thing) or multiplies(thing) or not callable(thing)


# --- errors -----------------------------------------------------------------------------------------------


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:1000]
    except BaseException:
        return "an error that cannot be printed"


def printable(text: str, length: int = 500) -> str:
    """`text` without control characters, so that it cannot move a teacher's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text[:length])


def _raise(names: Any, text: Any) -> Any:
    """Raise an error of the same name, a kind of the nearest built-in one: an `Exception`, never an exit."""
    name = printable(str(names[0]), 80)
    base = next(_bases(names), RuntimeError)
    raise type(name, (base,), {"__module__": "builtins"})(printable(str(text)))


def _bases(names: Any) -> Iterator[type[Exception]]:
    for name in names:
        if name == "LinAlgError":
            yield np.linalg.LinAlgError
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
            yield kind
