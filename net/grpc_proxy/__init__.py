"""``tercet grpc-proxy``: a gRPC server that hands every call on to a cluster, perhaps under a namespace."""
