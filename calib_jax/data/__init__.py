"""Images and captions: prepared data sets in, uint8 batches out."""
