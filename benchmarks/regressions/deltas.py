"""What the consumers are fed, where it is not the text that every check has by default."""

from pytest_streamperf import object_arguments, string_arguments

__all__ = ["line_in_bytes", "line_in_text", "object_arguments", "string_arguments"]


def line_in_text(index: int) -> str:
    """Go on with the line; it never ends."""
    return f"word{index % 10} "


def line_in_bytes(index: int) -> bytes:
    """Do as `line_in_text` does, for what takes bytes as they come from the network."""
    return line_in_text(index).encode()
