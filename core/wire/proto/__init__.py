"""etcd's protobuf messages, generated from the .proto files beside this module."""
