"""The settings of a run: their type, and what identifies them."""

import hashlib
import json
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


def config_values(config: Settings) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(config.to_json_best_effort())


def config_hash(config: Settings) -> str:
    """Checksum of what decides a run's result; not where it is logged."""
    values = config_values(config)
    for key in ("wandb", "demo"):
        values.pop(key, None)
    # Data, pretrained weights and teachers have checksums of their own.
    values["data"].pop("root")
    values["model"]["backbone"].pop("weights")
    values["train"].pop("teacher", None)
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
