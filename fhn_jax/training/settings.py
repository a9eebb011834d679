"""The type of a run's settings."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Settings(Protocol):
    """Settings by name and section, such as an `ml_collections.ConfigDict`."""

    def __getattr__(self, name: str) -> Any:
        """A section, or a value of it."""

    def __getitem__(self, name: str) -> Any:
        """The same, by a name that is computed."""

    def __contains__(self, name: str) -> bool:
        """Whether there is such a section or value."""
        ...
