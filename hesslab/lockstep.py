"""One algorithm on many diagonal blocks at once, their products answered together.

An algorithm asks its operator for products one after the other. Run on every layer of a network, each would
pass over the data alone; here all wait at a desk until each has asked, and one product of the block-diagonal
matrix answers them.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hesslab.operators import Array, Operator


@dataclass(frozen=True, eq=False)
class Blocks:
    """A block-diagonal matrix: `operator`, shape (n, n), and `slices`, name -> positions of a block."""

    operator: Operator
    slices: dict[str, slice]

    def map(self, algorithm: Callable[[Operator], Any]) -> dict[str, Any]:
        """`algorithm(A)` for the operator A of every block, by name.

        Costs as many products of the whole as the slowest block asks for. Each algorithm runs in a thread of
        its own. An error in one is raised once all have ended; an interrupt reaches them as if their product
        had raised it.

        >>> import numpy as np
        >>> from hesslab.operators import as_operator
        >>> parts = Blocks(as_operator(np.diag([1.0, 2.0, 3.0])), {"a": slice(0, 1), "b": slice(1, 3)})
        >>> parts.map(lambda A: float((A @ np.ones(A.shape[0])).sum()))
        {'a': 1.0, 'b': 5.0}
        """
        desk = _Desk(self, set(self.slices))
        outcomes: dict[str, tuple[Any, BaseException | None]] = {}

        def work(name: str) -> None:
            try:
                outcomes[name] = algorithm(self._block(name, desk)), None
            except BaseException as error:
                outcomes[name] = None, error
            finally:
                desk.leave(name)

        threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in self.slices]
        for thread in threads:
            thread.start()
        desk.serve()
        for thread in threads:
            thread.join()
        for _, error in outcomes.values():
            if error is not None:
                raise error
        return {name: outcomes[name][0] for name in self.slices}

    def _block(self, name: str, desk: "_Desk") -> Operator:
        n = self.slices[name].stop - self.slices[name].start
        return Operator((n, n), self.operator.dtype, lambda X: desk.ask(name, X), self.operator.like)


@dataclass(eq=False)
class _Desk:
    """Where the algorithms that are `active` leave questions and find answers, by the name of their block."""

    blocks: Blocks
    active: set[str]
    questions: dict[str, Array] = field(default_factory=dict)
    answers: dict[str, Array | BaseException] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def ask(self, name: str, X: Array) -> Array:
        """Leave the columns X of a block, and wait for their product."""
        with self.changed:
            self.questions[name] = X
            self.changed.notify_all()
            self.changed.wait_for(lambda: name in self.answers)
            answer = self.answers.pop(name)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def leave(self, name: str) -> None:
        """Say that a block asks no more."""
        with self.changed:
            self.active.discard(name)
            self.changed.notify_all()

    def serve(self) -> None:
        """Answer, in the calling thread, until no block is active."""
        error: BaseException | None = None
        while self.active:
            try:
                with self.changed:
                    self.changed.wait_for(lambda: len(self.questions) == len(self.active))
                answers = self._products(self.questions) if error is None else {}
            except BaseException as raised:  # also an interrupt while waiting: it reaches whoever asks next
                error = raised
                continue
            with self.changed:
                self.answers.update(answers if error is None else dict.fromkeys(self.questions, error))
                self.questions.clear()
                self.changed.notify_all()

    def _products(self, questions: Mapping[str, Array]) -> dict[str, Array]:
        """One product of the whole for all questions, narrower ones filled up with zeros."""
        if not questions:
            return {}
        whole, slices = self.blocks.operator, self.blocks.slices
        width = max(X.shape[1] for X in questions.values())
        stacked = whole.xp.zeros((whole.shape[0], width), dtype=whole.like.dtype, device=whole.like.device)
        for name, X in questions.items():
            stacked[slices[name], : X.shape[1]] = X
        answered = whole.product(stacked)
        return {name: answered[slices[name], : X.shape[1]] for name, X in questions.items()}
