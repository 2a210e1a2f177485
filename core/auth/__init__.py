"""Users, roles and what they may do: the replicated half of authentication, and the checks in front of it."""
