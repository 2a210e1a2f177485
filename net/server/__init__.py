"""What a client of etcd sees: gRPC services and HTTP."""
