"""Verdicts of checks as plain values, their text, and the sink that checks report them to."""
