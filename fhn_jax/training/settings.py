"""The type of a run's settings."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Settings(Protocol):
    """Settings by name and section, such as an `ml_collections.ConfigDict`."""

    def __getattr__(self, name: str) -> Any:
        """A section, or a value of it."""
