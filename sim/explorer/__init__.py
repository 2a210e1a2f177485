"""The pure core under a heap of events."""
