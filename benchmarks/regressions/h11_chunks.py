"""h11: a chunked response, event by event. Linear."""

import h11

from benchmarks.regressions.wire import HEAD, chunked


def events(stream):
    """Feed the connection what comes from the network, and take the events it makes of it."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(HEAD)
    body = []
    for chunk in chunked(stream):
        connection.receive_data(chunk)
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return b"".join(body)
            if isinstance(event, h11.Data):
                body.append(bytes(event.data))
    return None
