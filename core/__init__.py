"""The pure core: state transitions without clock, chance or I/O."""
