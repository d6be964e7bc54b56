"""Verdicts and what becomes of them: plain values, their text, and where checks report them."""
