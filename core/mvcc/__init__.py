"""The multi-version key-value store: pure evaluation at a revision, and deltas that move it on."""
