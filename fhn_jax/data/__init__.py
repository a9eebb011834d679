"""Data in the Polyvore-U layout: catalogue, images, negatives and batches.

Importing this package loads nothing heavy; tensorflow is loaded by `pipeline` when a
pipeline starts.
"""
