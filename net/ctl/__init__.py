"""``tercetctl`` and ``tercetutl``: the command lines of etcd's users, word for word."""
