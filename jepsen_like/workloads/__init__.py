"""What the clients of a campaign do."""
