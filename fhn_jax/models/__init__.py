"""The network in Flax, and how it scores outfits."""
