"""The models that people choose from: curated ones, those an organisation publishes, their own.

The organisation's listing is fetched in the background when a manager is made: not under test,
where it would race with whatever the test does, and hang on somebody else's server.
"""

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

LISTING = "https://huggingface.co/api/models"
ORGANISATION = "mlx-community"


@dataclass(frozen=True, slots=True)
class Model:
    """A model by its id, "organisation/name", and how it came to be in the list."""

    id: str
    source: Literal["curated", "fetched", "added"] = "curated"


CURATED = (Model("mlx-community/Qwen3-4B-4bit"), Model("mlx-community/gemma-3-4b-it-4bit"))


def under_test() -> bool:
    """Whether this is a test process: pytest says so from its start on, also while it collects."""
    return "PYTEST_VERSION" in os.environ


@dataclass(slots=True)
class Catalogue:
    """What is to choose from, by where it comes from, so that nobody's turn matters."""

    fetched: tuple[str, ...] = ()
    added: list[str] = field(default_factory=list)

    def apply(self, ids: Iterable[str]) -> None:
        """Take a listing: it stands for the one before it, of which nothing is kept."""
        self.fetched = tuple(ids)

    def add(self, model: str) -> None:
        """Add one of somebody's own."""
        self.added.append(model)

    def models(self) -> tuple[Model, ...]:
        """Curated ones first, then new ones of the listing, then people's own; each once."""
        found = {model.id: model for model in CURATED}
        for each in self.fetched:
            found.setdefault(each, Model(each, "fetched"))
        for each in self.added:
            found.setdefault(each, Model(each, "added"))
        return tuple(found.values())


class ModelManager:
    """Knows the models. `client` makes an HTTP client: `httpx.Client`, or one like it.

    >>> ModelManager().models()[0].id
    'mlx-community/Qwen3-4B-4bit'
    """

    def __init__(self, client: Callable[[], Any] | None = None) -> None:
        self._client = client
        self._catalogue = Catalogue()
        self._lock = threading.Lock()
        if not under_test():
            threading.Thread(target=self._refresh_quietly, name="models", daemon=True).start()

    def models(self) -> tuple[Model, ...]:
        """All there are, now."""
        with self._lock:
            return self._catalogue.models()

    def add(self, model: str) -> None:
        """Add one of somebody's own, by its id."""
        with self._lock:
            self._catalogue.add(model)

    def apply(self, ids: Iterable[str]) -> None:
        """Take the organisation's listing."""
        with self._lock:
            self._catalogue.apply(ids)

    def refresh(self) -> None:
        """Fetch the listing, and take it. Raises what the client raises."""
        with self._open() as client:
            response = client.get(LISTING, params={"author": ORGANISATION, "limit": 50})
            response.raise_for_status()
            listing = response.json()
        self.apply(each["id"] for each in listing)

    def _refresh_quietly(self) -> None:
        with suppress(Exception):  # nobody asked for it: without it, there are the others
            self.refresh()

    def _open(self) -> Any:
        if self._client is not None:
            return self._client()
        import httpx  # noqa: PLC0415 - tens of milliseconds, and not needed before the first fetch

        return httpx.Client(timeout=10)
