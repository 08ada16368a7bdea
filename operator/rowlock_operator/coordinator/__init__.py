"""The generation service that launchers hold a connection to."""

from rowlock_operator.coordinator.server import Coordinator

__all__ = ["Coordinator"]
