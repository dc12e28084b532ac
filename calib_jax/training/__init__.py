"""The one train step, its state, checkpoints and the loop around it."""
