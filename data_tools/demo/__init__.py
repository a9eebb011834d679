"""The demo set: drawn garments, and simulated users who choose among them."""
