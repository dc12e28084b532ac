"""CLIP towers behind a pure encoder, presets, and weight importers."""
