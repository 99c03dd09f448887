"""The two roots of everything a backend is handed: pydantic domain models and plain transfer
objects."""

from __future__ import annotations

import abc
from typing import Any

from pydantic import BaseModel, ConfigDict


class InternalDTO:
    """Marks a plain dataclass that crosses from the proxy to a backend."""


class DomainModel(BaseModel):
    """A pydantic model that may also be read and written like a dict."""

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in type(self).model_fields or name in (self.model_extra or {})
        )

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)


class ValueObject(DomainModel):
    """An immutable model that equals another of the same content."""

    model_config = ConfigDict(frozen=True)

    def equals(self, other: Any) -> bool:
        return type(other) is type(self) and bool(self == other)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        return cls.model_validate(data)


class Entity(DomainModel, abc.ABC):
    """A model with an identity of its own."""

    @property
    @abc.abstractmethod
    def id(self) -> str: ...
