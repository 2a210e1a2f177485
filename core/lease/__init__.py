"""Leases: which exist and what hangs on them is replicated; when they end is the leader's business."""
