"""The report of a run: one JSON document with all checks, and its three renderings.

`collect` turns verdicts into plain values; `document` reads, writes and merges reports, which
`schema` validates. `terminal`, `markdown` and `html` render the checks for people, with the parts
in `presentation` and `charts`. `compare` lists what changed from one report to another.
"""
