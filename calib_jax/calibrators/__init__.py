"""Post-hoc calibration, one idea a file: fit on a declared split, never on a reported one."""
