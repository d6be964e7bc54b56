"""A first test and a budget for code that streams, from what the code says.

Source text goes in, proposals come out; code is read with `ast`, and never imported or run. Only
`project` and `command` touch files.
"""
