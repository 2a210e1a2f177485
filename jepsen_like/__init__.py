"""Histories, workloads, faults, checkers and campaigns."""
