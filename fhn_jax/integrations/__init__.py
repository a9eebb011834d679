"""Other programs that can hold outfits: a Ray cluster, a vector database."""
