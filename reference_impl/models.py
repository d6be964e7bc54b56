"""The list of models to choose from: curated, fetched from an organisation, or added by a user.

`ModelManager` fetches the organisation's listing in the background when it is created. Under test
it does not: the fetch would race with the test and depend on another server. `under_test` is that
gate.
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
    """A model: its id, "organisation/name", and the source that put it into the list."""

    id: str
    source: Literal["curated", "fetched", "added"] = "curated"


CURATED = (Model("mlx-community/Qwen3-4B-4bit"), Model("mlx-community/gemma-3-4b-it-4bit"))


def under_test() -> bool:
    """Return whether pytest runs this process; pytest sets the variable before it collects."""
    return "PYTEST_VERSION" in os.environ


@dataclass(slots=True)
class Catalogue:
    """The model ids by their source, so that the order in which they arrive does not matter."""

    fetched: tuple[str, ...] = ()
    added: list[str] = field(default_factory=list)

    def apply(self, ids: Iterable[str]) -> None:
        """Replace the fetched ids by those of a new listing."""
        self.fetched = tuple(ids)

    def add(self, model: str) -> None:
        """Add the id of a user's own model."""
        self.added.append(model)

    def models(self) -> tuple[Model, ...]:
        """Return each model once: curated models first, then fetched ones, then added ones."""
        models = {model.id: model for model in CURATED}
        for model_id in self.fetched:
            models.setdefault(model_id, Model(model_id, "fetched"))
        for model_id in self.added:
            models.setdefault(model_id, Model(model_id, "added"))
        return tuple(models.values())


class ModelManager:
    """The models to choose from. `client` creates the HTTP client, by default `httpx.Client`.

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
        """Return all models in the list."""
        with self._lock:
            return self._catalogue.models()

    def add(self, model: str) -> None:
        """Add a user's own model by its id."""
        with self._lock:
            self._catalogue.add(model)

    def apply(self, ids: Iterable[str]) -> None:
        """Replace the fetched models by those of a new listing."""
        with self._lock:
            self._catalogue.apply(ids)

    def refresh(self) -> None:
        """Fetch the organisation's listing and apply it. Errors of the client pass through."""
        with self._open_client() as client:
            response = client.get(LISTING, params={"author": ORGANISATION, "limit": 50})
            response.raise_for_status()
            listing = response.json()
        self.apply(entry["id"] for entry in listing)

    def _refresh_quietly(self) -> None:
        with suppress(Exception):  # without the listing, the other models remain
            self.refresh()

    def _open_client(self) -> Any:
        if self._client is not None:
            return self._client()
        import httpx  # noqa: PLC0415 - the import takes tens of ms; only a fetch needs it

        return httpx.Client(timeout=10)
