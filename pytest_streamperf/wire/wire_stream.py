"""A turn as its bytes arrive: in a dialect, cut into chunks, at a pace, with what goes wrong."""

from collections.abc import Iterable

from pytest_streamperf.streams.chunking import Cut, per_event
from pytest_streamperf.streams.messages import Turn
from pytest_streamperf.streams.pacing import Pace
from pytest_streamperf.streams.token_stream import Fault, Stream
from pytest_streamperf.wire.dialects import Dialect, named


class WireStream(Stream):
    r"""The chunks that a client of this turn would get.

    `dialect` is the name of one or the dialect itself, `cut` where the bytes are cut, one of
    `streams.chunking`, and `every` the pace of the chunks, as many as there are where nothing goes
    wrong: seconds, or a text such as "50ms", or the times before each chunk. Faults count events,
    whatever the cut; those of deltas, which an error event is, count the deltas of the turn.

    >>> from pytest_streamperf import Text
    >>> from pytest_streamperf.streams.chunking import fixed
    >>> WireStream(Turn(Text("Hi")), "ollama-chat", cut=fixed(5)).deltas[0]
    b'{"mod'
    """

    def __init__(
        self,
        turn: Turn,
        dialect: str | Dialect = "openai-chat",
        *,
        cut: Cut = per_event,
        every: Pace = 0.0,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.turn, self.dialect, self.cut = turn, named(dialect), cut
        self.media_type = self.dialect.MEDIA_TYPE
        self.faults: tuple[Fault, ...] = ()
        super().__init__(tuple(cut(self.dialect.encode(turn))), every)
        if faults:
            self._break(faults)

    def _break(self, faults: Iterable[Fault]) -> None:
        self.faults = (*self.faults, *faults)
        of_deltas = [fault for fault in self.faults if hasattr(fault, "of_deltas")]
        of_events = [fault for fault in self.faults if fault not in of_deltas]
        turn = self.turn
        if of_deltas:
            turn = Turn.of(self._arriving(turn, of_deltas)[0], usage=turn.usage)
        events, self.error = self._arriving(list(self.dialect.encode(turn)), of_events)
        self.deltas = tuple(self.cut(events))
