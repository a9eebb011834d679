"""Exact search of stored outfits, and composition of all possible ones."""
