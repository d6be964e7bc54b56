"""A stream of the chunks that a client receives for one scripted turn.

A `WireStream` takes a `Turn`, encodes it in a dialect, and cuts the bytes into chunks. It yields
them at a pace. Faults change the events or break the stream before the bytes are cut.
"""

from collections.abc import Iterable

from pytest_streamperf.streams.chunking import Cut, per_event
from pytest_streamperf.streams.messages import Turn
from pytest_streamperf.streams.pacing import Pace
from pytest_streamperf.streams.token_stream import Fault, Stream
from pytest_streamperf.wire.dialects import Dialect, as_dialect


class WireStream(Stream):
    r"""A stream of the chunks that a client receives for one turn.

    `dialect` is a dialect or its name. `cut` is a function of `streams.chunking`; it sets where the
    bytes are cut. `every` is the pace of the chunks: seconds, a text such as "50ms", or one time
    before each chunk of the stream without faults. Faults count events, for every `cut`. A fault
    with the attribute `of_deltas`, such as `ErrorEvent`, changes and counts the deltas of the turn.

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
        self.turn, self.dialect, self.cut = turn, as_dialect(dialect), cut
        self.media_type = self.dialect.MEDIA_TYPE
        self.faults: tuple[Fault, ...] = ()
        super().__init__(tuple(cut(self.dialect.encode(turn))), every)
        if faults:
            self._break(faults)

    def _break(self, faults: Iterable[Fault]) -> None:
        self.faults = (*self.faults, *faults)
        delta_faults = [fault for fault in self.faults if hasattr(fault, "of_deltas")]
        event_faults = [fault for fault in self.faults if fault not in delta_faults]
        turn = self.turn
        if delta_faults:
            turn = Turn.of(self._arriving(turn, delta_faults)[0], usage=turn.usage)
        events, self.error = self._arriving(list(self.dialect.encode(turn)), event_faults)
        self.deltas = tuple(self.cut(events))
