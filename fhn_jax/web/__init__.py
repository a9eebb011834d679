"""The page and the API: outfits that learn from clicks."""
