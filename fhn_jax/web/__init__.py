"""The page and the API: outfits that learn from clicks."""

# The database of visitors in the workdir, where no other is given.
VISITORS = "visitors.sqlite"
