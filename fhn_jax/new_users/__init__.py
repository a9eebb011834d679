"""Codes of users nobody trained, from their likes and dislikes."""
