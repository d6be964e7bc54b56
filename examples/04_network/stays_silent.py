"""The same, with a gate that is shut from pytest's start on, and a merge that needs no order."""

import os
import threading
import urllib.request
from contextlib import suppress

LISTING = "https://models.example/list"


def under_test():
    return "PYTEST_VERSION" in os.environ


def fetch():
    with suppress(OSError):
        urllib.request.urlopen(LISTING, timeout=5)


class Models:
    def __init__(self, curated):
        self.curated, self.listing, self.added = curated, [], []

    def apply(self, listing):
        self.listing = list(listing)

    def append(self, model):
        self.added.append(model)

    def __iter__(self):
        return iter(dict.fromkeys([*self.curated, *self.listing, *self.added]))


class Manager:
    def __init__(self):
        self.models = Models(["small", "large"])
        if not under_test():
            threading.Thread(target=fetch).start()


if not under_test():
    threading.Thread(target=fetch).start()
