"""Side-by-side measurements against etcd: same machine, same disk, same load generator, one run."""
