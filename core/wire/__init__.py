"""Sans-IO protocols: HTTP/2, gRPC and peer frames."""
