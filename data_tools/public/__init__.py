"""Readers of public data sets, as their authors publish them."""
