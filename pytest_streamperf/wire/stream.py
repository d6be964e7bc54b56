"""A turn as its bytes arrive: in a dialect, cut into chunks, at a pace, with what goes wrong."""

from collections.abc import Iterable
from typing import Self

from pytest_streamperf.cutting import Cut, per_event
from pytest_streamperf.streams import Fault, Stream, arriving
from pytest_streamperf.turns import Turn
from pytest_streamperf.wire import Dialect, named


class WireStream(Stream):
    r"""The chunks that a client of this turn would get.

    `dialect` is the name of one or the dialect itself, `cut` where the bytes are cut, one of
    `pytest_streamperf.cutting`, and `every` the pace of the chunks. Faults count events, whatever
    the cut; those of deltas, which an error event is, count the deltas of the turn.

    >>> from pytest_streamperf import Text
    >>> from pytest_streamperf.cutting import fixed
    >>> WireStream(Turn(Text("Hi")), "ollama-chat", cut=fixed(5)).deltas[0]
    b'{"mod'
    """

    def __init__(
        self,
        turn: Turn,
        dialect: str | Dialect = "openai-chat",
        *,
        cut: Cut = per_event,
        every: float | Iterable[float] = 0.0,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.turn, self.dialect, self.cut = turn, named(dialect), cut
        self.faults = tuple(faults)
        of_deltas = [fault for fault in self.faults if hasattr(fault, "of_deltas")]
        if of_deltas:
            turn = Turn.of(arriving(turn, of_deltas)[0], usage=turn.usage)
        of_events = [fault for fault in self.faults if fault not in of_deltas]
        events, error = arriving(list(self.dialect.encode(turn)), of_events)
        super().__init__(tuple(cut(events)), every)
        self.error = error

    def with_fault(self, *faults: Fault) -> Self:
        """Make a stream to which these happen, too."""
        return type(self)(
            self.turn,
            self.dialect,
            cut=self.cut,
            every=self.every,
            faults=(*self.faults, *faults),
        )
