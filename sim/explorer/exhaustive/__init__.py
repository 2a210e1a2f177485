"""Every interleaving of a small scope: a breadth-first search with state hashing and symmetry."""
