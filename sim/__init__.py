"""A world from a seed: clock, network and disks that obey a schedule."""
