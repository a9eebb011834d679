"""Personalised outfit recommendation from compact binary codes."""

__version__ = "0.2.0"
