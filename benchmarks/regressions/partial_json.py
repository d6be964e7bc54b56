"""partial-json-parser: it is told all the arguments so far. How often is up to its caller."""

from partial_json_parser import loads


def every_delta(stream):
    """Parse at every delta, as many front ends do."""
    buffer, arguments = "", None
    for delta in stream:
        buffer += delta
        arguments = loads(buffer)
    return arguments


def when_doubled(stream):
    """Parse when there is twice as much: the parses together cost a few times the last one."""
    buffer, parsed, arguments = "", 0, None
    for delta in stream:
        buffer += delta
        if len(buffer) >= 2 * parsed:
            parsed, arguments = len(buffer), loads(buffer)
    return arguments
