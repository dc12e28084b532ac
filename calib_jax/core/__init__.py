"""Types, trees, sharding, random keys and errors: what every other layer may import."""
