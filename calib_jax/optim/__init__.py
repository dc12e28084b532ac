"""Optimizers, schedules, and the EMA teacher as a gradient transformation."""
